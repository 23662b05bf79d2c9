"""What every data set looks like, whatever its source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Images:
    """Images as attacks and trainers take them: x float32 (N, C, H, W) in [0, 1], y int64 (N,)."""

    x: np.ndarray
    y: np.ndarray

    def first(self, n: int) -> Images:
        return Images(self.x[:n], self.y[:n])


@dataclass(frozen=True)
class Dataset:
    """Images and labels of one split.

    :param name: the registry name, e.g. ``cifar10``.
    :param split: ``train`` or ``test``.
    :param x: uint8 (N, C, H, W), possibly memory-mapped.
    :param y: int64 (N,).
    :param classes: the class names, in label order.
    """

    name: str
    split: str
    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 over images and labels."""
        digest = hashlib.sha256(self.x.tobytes())
        digest.update(self.y.tobytes())
        return digest.hexdigest()[:16]

    def images(self, part: slice | np.ndarray = slice(None)) -> Images:
        """The images that a slice or an index array picks, in float32."""
        return Images(self.x[part].astype(np.float32) / 255, self.y[part])

    def __len__(self) -> int:
        return len(self.x)


def split_indices(n: int, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A fixed random split of range(n): sorted (training, validation) indices, ``held_out`` of them for validation.

    :raises ValueError: if held_out is not in 1..n-1.
    """
    if not 0 < held_out < n:
        raise ValueError(f"held_out must be in 1..{n - 1}, not {held_out}")
    order = np.random.default_rng([seed, n]).permutation(n)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
