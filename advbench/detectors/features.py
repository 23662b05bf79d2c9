"""Activations of a frozen classifier that were computed once and stored on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np


class Rows(Protocol):
    """An array (N, ...) whose rows an index array selects: NumPy's own, or :class:`FeatureFiles`."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


class FeatureFiles:
    """The arrays of several npy files, one after another, of which only the requested rows are read.

    :param paths: of arrays (n, C, H, W) of one shape and type beyond n.
    :raises ValueError: without any file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise ValueError("paths must name at least one file")
        self._paths = list(paths)
        shapes = [np.load(path, mmap_mode="r").shape for path in self._paths]
        self._ends = np.cumsum([shape[0] for shape in shapes])
        self._shape = shapes[0][1:]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The rows of an index array (n,), (n, C, H, W).

        :raises IndexError: for an index that is not in 0..N-1.
        """
        rows = np.asarray(rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows must lie in 0..{len(self) - 1}, found {rows.min()}..{rows.max()}")
        place = np.searchsorted(self._ends, rows, side="right")
        found = np.empty((len(rows), *self._shape), self._open(0).dtype)
        for file in np.unique(place):
            here = place == file
            array = self._open(file)
            found[here] = array[rows[here] - (self._ends[file] - len(array))]
        return found

    def _open(self, file: int) -> np.ndarray:
        # mapped for this read only: with a lasting mapping, all that was ever read counts as the process's memory
        return np.load(self._paths[file], mmap_mode="r")
