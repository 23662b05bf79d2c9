"""Images that need not fit into memory: stored in their own type, read as float32 a part at a time."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from math import prod
from tempfile import TemporaryFile

import numpy as np

PART = 1 << 26
"""Bytes of float32 images that are read at a time."""

_SCATTERED = 32  # images that are read one here, one there: the system maps up to a megabyte around each
_IN_MEMORY = 1 << 26  # bytes up to which an array is not put into a file


class Pixels:
    """Images (N, C, H, W) whose parts are float32 in [0, 1].

    :param stored: uint8 in 0..255 or floats in [0, 1] up to a rounding, possibly a mapped file.
    """

    def __init__(self, stored: np.ndarray) -> None:
        self.stored = stored

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        n, c, h, w = self.stored.shape
        return n, c, h, w

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        """The images that a slice or an index array picks, float32."""
        if isinstance(part, slice):
            chosen = np.ascontiguousarray(self.stored[part], np.float32)
            let_go(self.stored)
        else:
            chosen = self.chosen(part).stored.astype(np.float32, copy=False)
        if self.stored.dtype == np.uint8:
            chosen /= 255  # in place: it is a copy
        else:
            chosen = chosen.clip(0, 1)  # a rounding above 1
        return chosen

    def parts(self) -> Iterator[slice]:
        """Slices that make up all images, each of at most ``PART`` bytes of float32, but of one image at least."""
        for start in range(0, len(self), self.most):
            yield slice(start, min(start + self.most, len(self)))

    def chosen(self, part: np.ndarray) -> Pixels:
        """The images that an index array picks, as they are stored."""
        picked = np.empty((len(part), *self.shape[1:]), self.stored.dtype)
        for start in range(0, len(part), _SCATTERED):
            picked[start : start + _SCATTERED] = self.stored[part[start : start + _SCATTERED]]
            let_go(self.stored)
        return Pixels(picked)

    @property
    def most(self) -> int:
        """The number of images in a part."""
        return max(1, PART // (4 * prod(self.shape[1:])))


def fingerprint(stored: np.ndarray, y: np.ndarray) -> str:
    """The first 16 hex digits of the SHA-256 over images (N, C, H, W) as they are stored, and labels (N,)."""
    digest = hashlib.sha256()
    for part in Pixels(stored).parts():
        digest.update(stored[part].tobytes())
        let_go(stored)
    digest.update(y.tobytes())
    return digest.hexdigest()[:16]


def room(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """An array to write to: in memory, or where it is large in a file of the system's temporary folder that nobody sees.

    :raises OSError: if the disk has no room for it.
    :raises ValueError: for more bytes than can be numbered.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    if size <= _IN_MEMORY:
        return np.empty(shape, dtype)
    with TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and the end of the process later
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OverflowError as error:
                raise ValueError(f"{size} bytes") from error
        return np.memmap(file, dtype, "w+", shape=shape)


def let_go(stored: np.ndarray) -> None:
    """Give back the pages of a mapped file: all that were ever touched would count as this process's memory."""
    mapping = getattr(stored, "_mmap", None)
    if isinstance(mapping, mmap.mmap) and getattr(stored, "mode", "") in ("r", "w+") and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
