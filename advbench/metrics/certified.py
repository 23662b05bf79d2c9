"""Robustness that a bound on the Lipschitz constant proves (Tsuzuku et al., 2018, https://arxiv.org/abs/1802.04034, proposition 1)."""

from __future__ import annotations

import numpy as np

from advbench.metrics.figures import Figure, proportion


def certified_radius(logits: np.ndarray, y: np.ndarray, lipschitz: float) -> np.ndarray:
    """The l2 radius (N,) around each image in which no image has another label: margin / (sqrt(2) L), at least 0.

    :param logits: (N, classes).
    :param y: true labels (N,); the margin of a wrong image is not positive, so its radius is 0.
    :param lipschitz: a bound on |f(x) - f(x')| / |x - x'| in l2.
    :raises ValueError: for a bound that is not positive.
    """
    if not lipschitz > 0:
        raise ValueError(f"lipschitz must be positive, not {lipschitz}")
    logits = np.asarray(logits, np.float64)
    truth = logits[np.arange(len(y)), y]
    others = logits.copy()
    others[np.arange(len(y)), y] = -np.inf
    return np.maximum(truth - others.max(1), 0) / (np.sqrt(2) * lipschitz)


def certified_accuracy(logits: np.ndarray, y: np.ndarray, lipschitz: float, eps: float) -> Figure:
    """The share of images that are right and stay so under every l2 perturbation of length eps or less."""
    right = logits.argmax(1) == y
    return proportion(int((right & (certified_radius(logits, y, lipschitz) > eps)).sum()), len(y))
