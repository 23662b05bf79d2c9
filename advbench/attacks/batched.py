"""What every attack of ours does around its work on one batch: check images and labels, and go through them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from advbench import checks


def checked(
    estimator: PyTorchClassifier, x: np.ndarray, y: np.ndarray | None, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 (N, C, H, W) in [0, 1] and label indices (N,); without labels the predicted ones.

    :raises ValueError: for images or labels out of range.
    """
    x = checks.images(x, "x", estimator.input_shape)
    if y is None:
        y = estimator.predict(x, batch_size=batch_size).argmax(1)
    return x, checks.labels(y, len(x), estimator.nb_classes)


def in_batches(
    perturb: Callable[..., Tensor], device: torch.device, batch_size: int, x: np.ndarray, *others: np.ndarray
) -> np.ndarray:
    """``perturb(images, ...)`` of one batch after another on a device; returns the adversarial images (N, C, H, W)."""
    adversarial = np.empty_like(x)
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        batch = [torch.from_numpy(array[part]).to(device) for array in (x, *others)]
        adversarial[part] = perturb(*batch).cpu().numpy()
    return adversarial
