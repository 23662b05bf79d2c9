"""The explorer of the page: a few hundred images, clean and attacked, packed small enough to be embedded."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.special import softmax

from advbench.attacks.registry import ATTACKS
from advbench.files import read_json

IMAGES = 300
BYTES = 2_400_000  # of the packed images, so that the whole page stays below 5 MB
LEVELS = 31  # steps of a perturbation from zero to its largest value


@dataclass(frozen=True)
class Attacked:
    """The images under one attack.

    :param attack: its name, and ``eps`` its bound in [0, 1], None where it has none.
    :param x: the adversarial images, floats (N, C, H, W) in the order of the clean ones.
    :param classifier: the attacked ART classifier, from images to logits; ``model`` is its name.
    :param detector: anything with ``scores(x)``, one number an image, high for adversarial; None for no detector.
    :param threshold: the score above which an image is flagged.
    """

    attack: str
    eps: float | None
    x: np.ndarray
    classifier: Any
    model: str = "classifier"
    detector: Any = None
    threshold: float = 0.5


def bundle(x: np.ndarray, y: np.ndarray, classes: Sequence[str], attacked: Sequence[Attacked]) -> dict[str, bytes]:
    """The files that the explorer reads, by name; hand them to ``Run.explorer``.

    As many of the first images are taken as the page can hold, at most 300.

    :param x: clean images, floats (N, C, H, W) in [0, 1] with one channel or three.
    :param y: their classes, integers (N,).
    :raises ValueError: for images of another shape, or without any attack.
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3) or any(version.x.shape[1:] != x.shape[1:] for version in attacked):
        raise ValueError(f"the explorer shows images (N, 1 or 3, H, W), all of one shape, not {x.shape}")
    if not attacked:
        raise ValueError("the explorer needs at least one attack")
    count = min(IMAGES, len(x), *(len(version.x) for version in attacked))
    images = _images(x[:count], attacked)
    while (size := sum(map(len, images.values()))) > BYTES and count > 1:
        count = max(1, min(count - 1, count * BYTES // size))
        images = _images(x[:count], attacked)
    x = x[:count]
    about = {
        "shape": x.shape[1:],
        "columns": _columns(count),
        "levels": LEVELS,
        "classes": [str(name) for name in classes],
        "labels": y[:count].tolist(),
        "models": {version.model: _predictions(version.classifier, x) for version in attacked},
        "versions": [_version(version, x) for version in attacked],
    }
    return {"explorer.json": json.dumps(about).encode(), **images}


def read(directory: Path) -> dict[str, Any] | None:
    """The explorer of a run for the page, the images as data URIs; None where a run has none."""
    folder = directory / "explorer"
    if not (folder / "explorer.json").is_file():
        return None
    about = read_json(folder / "explorer.json")
    names = ["clean", *(f"delta-{index}" for index in range(len(about["versions"])))]
    uris = ["data:image/webp;base64," + b64encode((folder / f"{name}.webp").read_bytes()).decode() for name in names]
    return {**about, "images": uris}


def _images(x: np.ndarray, attacked: Sequence[Attacked]) -> dict[str, bytes]:
    deltas = {f"delta-{index}.webp": _quantised(version.x, x) for index, version in enumerate(attacked)}
    return {name: _sprite(tiles) for name, tiles in {"clean.webp": np.rint(x * 255), **deltas}.items()}


def _quantised(adversarial: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Perturbations around 128: uint8 images would lose those of DeepFool, many of them below half a grey level."""
    delta = adversarial[: len(x)] - x
    return 128 + 4 * np.rint(delta / _largest(delta)[:, None, None, None] * LEVELS)


def _largest(delta: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(delta).max(axis=(1, 2, 3)), 1e-9)


def _sprite(tiles: np.ndarray) -> bytes:
    """All tiles (N, C, H, W) in one lossless picture, row by row."""
    n, c, h, w = tiles.shape
    columns = _columns(n)
    rows = ceil(n / columns)
    padded = np.zeros((rows * columns, c, h, w), np.uint8)
    padded[:n] = tiles
    grid = padded.reshape(rows, columns, c, h, w).transpose(0, 3, 1, 4, 2).reshape(rows * h, columns * w, c)
    stream = BytesIO()
    Image.fromarray(grid.squeeze(2) if c == 1 else grid).save(stream, "WEBP", lossless=True, quality=80)
    return stream.getvalue()


def _columns(count: int) -> int:
    return ceil(sqrt(count))


def _version(version: Attacked, x: np.ndarray) -> dict[str, Any]:
    adversarial = version.x[: len(x)]
    entry = {
        "attack": version.attack,
        "eps": version.eps,
        "norm": ATTACKS[version.attack].norm if version.attack in ATTACKS else "",
        "model": version.model,
        "largest": _digits(_largest(adversarial - x)),
        **_predictions(version.classifier, adversarial),
    }
    if version.detector is None:
        return entry
    threshold = version.threshold
    scores = {
        "clean": version.detector.scores(x),
        "adversarial": version.detector.scores(np.ascontiguousarray(adversarial)),
    }
    return entry | {
        "threshold": float(threshold),
        "scores": {kind: _digits(score) for kind, score in scores.items()},
        "flagged": {kind: (score > threshold).tolist() for kind, score in scores.items()},
    }


def _predictions(classifier: Any, x: np.ndarray) -> dict[str, list]:
    """Probabilities, and the class before they are rounded: DeepFool stops where two of them are all but equal."""
    logits = classifier.predict(np.ascontiguousarray(x)).astype(np.float64)
    return {"predicted": logits.argmax(axis=1).tolist(), "probabilities": softmax(logits, axis=1).round(4).tolist()}


def _digits(values: np.ndarray) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
