"""ART's fast gradient sign method, with the check of images that all our attacks make."""

from __future__ import annotations

from typing import Any

import numpy as np
from art.attacks.evasion import FastGradientMethod

from advbench import checks


class FGSM(FastGradientMethod):
    """Goodfellow et al. (2015, https://arxiv.org/abs/1412.6572); parameters and results are ART's, to the bit."""

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        """Perturb images by one step.

        :param x: float (N, C, H, W) in the classifier's range.
        :param y: true labels, or the targets of a targeted attack, indices or one-hot; without them the predicted ones.
        :return: float32 (N, C, H, W).
        :raises ValueError: for images out of range.
        """
        return super().generate(checks.in_range(x, "x", self.estimator.clip_values), y, **kwargs)
