"""Ten ImageNet classes (Russakovsky et al., 2015) from folders named by WordNet id, decoded once into a memory-mapped file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from advbench.data.dataset import Dataset
from advbench.data.pictures import decode, is_clutter
from advbench.errors import UsageError
from advbench.files import check_tree, read_json, sha256, write, write_text
from advbench.progress import track

CLASSES = 10
SIZE = 224
REPORT = (
    "n03877845",  # palace
    "n03602883",  # joystick
    "n02206856",  # bee
    "n02074367",  # dugong
    "n02963159",  # cardigan
    "n03777754",  # modem
    "n03089624",  # confectionery
    "n09468604",  # valley
    "n02123394",  # Persian cat
    "n04326547",  # stone wall
)
"""The classes of Metzen et al. (2017), section 4.2."""

FOLDERS = {"train": "train", "test": "val"}
_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_IMAGENETTE = "imagenette2-320"  # as torchvision unpacks it


@cache
def wordnet_ids() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1,000 classes, each at the index of its logit in torchvision's networks."""
    return tuple((files("advbench.data") / "imagenet_synsets.txt").read_text().split())


def load(root: Path, split: str, shape: tuple[int, int, int], classes: Sequence[str], cache_folder: Path) -> Dataset:
    """One split of a folder ``train/CLASS/*``, ``val/CLASS/*``, in which CLASS is a WordNet id of ImageNet.

    The images are brought to the shape (shorter side, then centre crop) one at a time, written to a file of uint8 and
    mapped from there; that file is used again as long as no image is added, removed or changed.

    :param shape: (C, H, W).
    :param classes: the ten WordNet ids in label order; by default all folders, in alphabetical order.
    :param cache_folder: the folder of the decoded files.
    :return: its ``unreadable`` names the files that are no images; they are left out.
    :raises UsageError: if the folders, the classes or the images are not that; the message names what was found.
    """
    folder = root / FOLDERS[split]
    ids = _chosen(folder, classes)
    listed = [(label, path) for label, name in enumerate(ids) for path in _images(folder / name)]
    x, y, unreadable = _decoded(folder, listed, shape, cache_folder)
    missing = [name for label, name in enumerate(ids) if label not in y]
    if missing:
        raise UsageError(f"{folder / missing[0]} holds no image that can be read")
    return Dataset("imagenet10", split, x, y, _names(ids), ids, unreadable, _difference(ids, shape))


def logits(ids: Sequence[str]) -> list[int]:
    """The indices of the classes' logits in torchvision's ImageNet networks."""
    return [wordnet_ids().index(each) for each in ids]


def download(folder: Path, split: str) -> Path:
    """Fetch Imagenette through torchvision into a folder; returns where its images are."""
    from torchvision.datasets import Imagenette

    Imagenette(str(folder), FOLDERS[split].replace("test", "val"), size="320px", download=True)
    return folder / _IMAGENETTE


def _difference(ids: Sequence[str], shape: tuple[int, int, int]) -> str:
    """How the images differ from the report's."""
    parts = [f"{shape[2]} pixels wide instead of {SIZE}"] if shape[2] != SIZE else []
    if set(ids) != set(REPORT):
        parts.insert(0, f"the ImageNet classes {', '.join(_names(ids))} instead of the report's ten")
    return "; ".join(parts)


def _names(ids: Sequence[str]) -> tuple[str, ...]:
    from torchvision.models import VGG16_Weights

    names = VGG16_Weights.IMAGENET1K_V1.meta["categories"]
    return tuple(names[index] for index in logits(ids))


def _chosen(folder: Path, classes: Sequence[str]) -> tuple[str, ...]:
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is missing; the data folder must hold train/CLASS and val/CLASS, CLASS a WordNet id"
        )
    check_tree(folder)
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_clutter(path.name))
    absent = [name for name in classes if name not in found]
    if absent:
        raise UsageError(f"{folder} has no class {absent[0]}; found: {', '.join(found[:12]) or 'no folder'}")
    ids = tuple(classes) or tuple(found)
    if len(set(ids)) != len(ids):
        raise UsageError(f"classes must differ, found {', '.join(ids)}")
    if len(ids) != CLASSES:
        where = "--classes names" if classes else f"{folder} holds"
        raise UsageError(f"{where} {len(ids)} classes instead of {CLASSES}; choose them with --classes ID,ID,...")
    unknown = [name for name in ids if name not in wordnet_ids()]
    if unknown:
        raise UsageError(
            f"{folder / unknown[0]} is not named by the WordNet id of an ImageNet class, such as {REPORT[0]}"
        )
    return ids


def _images(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS)
    if not found:
        raise UsageError(f"{folder} holds no image ({', '.join(_ENDINGS)})")
    return found


def _decoded(
    folder: Path, listed: Sequence[tuple[int, Path]], shape: tuple[int, int, int], cache_folder: Path
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The images, their labels and the names of those that cannot be read, from the cached file or decoded into it."""
    state = [
        (label, str(path.relative_to(folder)), (s := path.stat()).st_size, s.st_mtime_ns) for label, path in listed
    ]
    key = hashlib.sha256(json.dumps([shape, state]).encode()).hexdigest()[:16]
    pixels, about = cache_folder / f"{key}.uint8", cache_folder / f"{key}.json"
    if about.is_file() and (found := _read(pixels, about)):
        return found
    labels, unreadable, digest = [], [], hashlib.sha256()

    def decode_all(stream: BinaryIO) -> None:
        for label, path in track(listed, f"decoding {folder.name}", len(listed)):
            image = _image(path, shape)
            if image is None:
                unreadable.append(str(path.relative_to(folder.parent)))
                continue
            stream.write(image)
            digest.update(image)
            labels.append(label)

    write(pixels, decode_all)
    # written last: it marks the pixels as complete
    content = {"shape": shape, "labels": labels, "unreadable": unreadable, "sha256": digest.hexdigest()}
    write_text(about, json.dumps(content))
    return _read(pixels, about) or (np.empty((0, *shape), np.uint8), np.empty(0, np.int64), tuple(unreadable))


def _read(pixels: Path, about: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]] | None:
    """The cached images, labels and unreadable names, None where they are damaged or empty."""
    try:
        content: dict[str, Any] = read_json(about)
        y = np.asarray(content["labels"], np.int64)
        if sha256(pixels) != content["sha256"] or not len(y):
            return None
        x = np.memmap(pixels, np.uint8, "r", shape=(len(y), *content["shape"]))
        return x, y, tuple(content["unreadable"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _image(path: Path, shape: tuple[int, int, int]) -> bytes | None:
    """The pixels of an image file in CHW order, None where it cannot be read."""
    from PIL import Image, ImageOps

    channels, height, width = shape
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):  # more than 8 bits a value, which convert() would clip
                return np.rint(255 * decode(path, shape)[0]).astype(np.uint8).tobytes()
            image.draft("RGB", (2 * width, 2 * height))  # a JPEG may be decoded at a fraction of its size
            plain = image.convert("RGB" if channels == 3 else "L")
    except Exception:  # Pillow's plugins raise errors of any kind on a damaged file
        return None
    fitted = ImageOps.fit(plain, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(fitted).reshape(height, width, channels).transpose(2, 0, 1).tobytes()
