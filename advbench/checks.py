"""Checks of the images, labels and numbers that public functions take; each error names the argument."""

from __future__ import annotations

import numpy as np


def images(x: np.ndarray, name: str = "x", shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The images as float32, if they are (N, C, H, W) numbers in [0, 1].

    :param shape: the (C, H, W) they must have.
    :raises ValueError: for another shape, an empty array, NaN or values outside [0, 1].
    """
    x = np.asarray(x)
    if x.ndim != 4 or len(x) == 0 or (shape is not None and x.shape[1:] != tuple(shape)):
        required = "(N, C, H, W)" if shape is None else f"(N, {', '.join(map(str, shape))})"
        raise ValueError(f"{name} must have shape {required} with N > 0, not {x.shape}")
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"{name} must be floating point in [0, 1], not {x.dtype}; divide uint8 images by 255")
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 1):  # NaN fails both comparisons
        raise ValueError(f"{name} must lie in [0, 1], found {low:g}..{high:g}")
    return np.require(x, np.float32, ("C", "W"))  # torch warns about read-only arrays


def labels(y: np.ndarray, n: int, classes: int, name: str = "y") -> np.ndarray:
    """The labels as int64 (N,), from indices or one-hot rows.

    :raises ValueError: for another length, or a label outside 0..classes-1.
    """
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == classes and classes > 1:
        y = y.argmax(1)
    if y.shape != (n,):
        raise ValueError(f"{name} must hold {n} labels, as indices or one-hot rows of {classes}, not shape {y.shape}")
    if not np.issubdtype(y.dtype, np.integer) and not np.array_equal(y, np.floor(y)):
        raise ValueError(f"{name} must be whole numbers")
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(f"{name} must lie in 0..{classes - 1}, found {y.min()}..{y.max()}")
    return y.astype(np.int64)


def positive(value: float, name: str, zero: bool = False) -> float:
    """The number itself, if it is finite and positive (or zero, where allowed).

    :raises ValueError: otherwise.
    """
    if not np.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name} must be {'non-negative' if zero else 'positive'}, not {value}")
    return value
