"""Checks of the images, labels and numbers that public functions take; each error names the argument."""

from __future__ import annotations

import warnings

import numpy as np

ROUNDING = 1e-3
"""How far images may lie outside of [0, 1], a quarter of a grey level: they are clipped."""

Limits = tuple[float | np.ndarray, float | np.ndarray]
_FULL_SCALES = (255, 1023, 4095, 65535)


def outside_unit(name: str, low: float, high: float) -> str:
    """What is wrong with images whose values lie in low..high, and the way out; empty if nothing but a rounding is."""
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return ""
    found = f"{name} must lie in [0, 1], found {low:g}..{high:g}"
    if not np.isfinite((low, high)).all():
        return f"{found}: it holds NaN or infinity"
    if low < -ROUNDING and (high <= 10 or low < -high / 10):
        return (
            f"{found}, which looks normalised; give images in [0, 1] and let the model normalise them "
            "(advbench evaluate: --mean and --std)"
        )
    if high <= 2:
        return f"{found}; clip it to [0, 1]"
    full = next((scale for scale in _FULL_SCALES if scale / 2 < high <= 1.05 * scale), None)
    return f"{found}; divide by {full or 'the largest value that its type can have'}"


def images(x: np.ndarray, name: str = "x", shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The images as float32, if they are (N, C, H, W) numbers in [0, 1].

    :param shape: the (C, H, W) they must have.
    Values that lie outside by no more than ``ROUNDING`` are clipped, with a warning.

    :raises ValueError: for another shape, an empty array, NaN or values outside [0, 1].
    """
    x = np.asarray(x)
    if x.ndim != 4 or len(x) == 0 or (shape is not None and x.shape[1:] != tuple(shape)):
        required = "(N, C, H, W)" if shape is None else f"(N, {', '.join(map(str, shape))})"
        raise ValueError(f"{name} must have shape {required} with N > 0, not {x.shape}")
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"{name} must be floating point in [0, 1], not {x.dtype}; divide uint8 images by 255")
    return np.require(in_range(x, name), np.float32, ("C", "W"))  # torch warns about read-only arrays


def in_range(x: np.ndarray, name: str = "x", limits: Limits | None = (0.0, 1.0)) -> np.ndarray:
    """The array itself, of any shape, if its values are in range; clipped, with a warning, if they are up to a rounding.

    :param limits: the smallest and the largest value, or arrays of them, as the ``clip_values`` of a classifier; None for none.
    :raises ValueError: for NaN or values outside; the message says what to do.
    """
    if limits is None or not x.size:
        return x
    bottom, top = float(np.min(limits[0])), float(np.max(limits[1]))
    low, high = float(x.min()), float(x.max())
    if low >= bottom and high <= top:
        return x
    off = ROUNDING * (top - bottom)
    if not (low >= bottom - off and high <= top + off):  # NaN fails both comparisons
        problem = outside_unit(name, low, high) if (bottom, top) == (0, 1) else ""
        raise ValueError(problem or f"{name} must lie in the classifier's {bottom:g}..{top:g}, found {low:g}..{high:g}")
    warnings.warn(f"{name} lies in {low:.8g}..{high:.8g}: clipped to [{bottom:g}, {top:g}]", stacklevel=3)
    return x.clip(bottom, top)


def labels(y: np.ndarray, n: int, classes: int, name: str = "y") -> np.ndarray:
    """The labels as int64 (N,), from indices (N,) or (N, 1), or one-hot rows.

    :raises ValueError: for another length, or a label outside 0..classes-1.
    """
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == classes and classes > 1:
        y = y.argmax(1)
    y = y[:, 0] if y.shape == (n, 1) else y
    if y.shape != (n,):
        raise ValueError(f"{name} must hold {n} labels, as indices or one-hot rows of {classes}, not shape {y.shape}")
    if y.dtype.kind not in "biuf" or not np.array_equal(y, np.floor(y)):
        raise ValueError(f"{name} must be whole numbers, found {y.dtype} such as {y.flat[0]!s}")
    if n and (y.min() < 0 or y.max() >= classes):
        raise ValueError(f"{name} must lie in 0..{classes - 1}, found {y.min()}..{y.max()}")
    return y.astype(np.int64)


def arts_labels(y: np.ndarray, n: int, classes: int, name: str = "y") -> np.ndarray:
    """The labels in a form that ART takes: indices (N,) or (N, 1), or one-hot or soft rows (N, classes).

    ART itself takes an index of -1 for the last class.

    :raises ValueError: for another length, or an index outside 0..classes-1.
    """
    y = np.asarray(y)
    if y.shape != (n, classes):
        labels(y, n, classes, name)
    return y


def positive(value: float, name: str, zero: bool = False) -> float:
    """The number itself, if it is finite and positive (or zero, where allowed).

    :raises ValueError: otherwise.
    """
    if not np.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name} must be {'non-negative' if zero else 'positive'}, not {value}")
    return value
