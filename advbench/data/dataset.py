"""A data set as arrays, the same for every source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from advbench.data.pixels import Pixels, fingerprint


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
    :param ids: the WordNet ids of the classes, of a set of ImageNet images.
    :param unreadable: the files that were left out because they are no images.
    :param note: how the images differ from those of the report; empty where the name of the set fixes them.
    """

    name: str
    split: str
    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    ids: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    note: str = ""

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 over images and labels."""
        return fingerprint(self.x, self.y)

    @property
    def left_out(self) -> str:
        """One line that counts and names the files that could not be read, empty where there are none."""
        if not self.unreadable:
            return ""
        total, names = len(self) + len(self.unreadable), ", ".join(self.unreadable)
        return f"{self.name} {self.split}: {len(self.unreadable)} of {total} files cannot be read and are left out: {names}"

    def images(self, part: slice | np.ndarray = slice(None)) -> Images:
        """The images that a slice or an index array picks, in float32."""
        return Images(Pixels(self.x)[part], self.y[part])

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
