"""ART's HopSkipJump, which sees the predicted labels alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from art.attacks.evasion import HopSkipJump as ArtHopSkipJump

from advbench import checks


class HopSkipJump(ArtHopSkipJump):
    """Chen et al. (2020, https://arxiv.org/abs/1904.02144); parameters and results are ART's."""

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        """Move images across the boundary, and then as near to it as the queries allow.

        :param x: float (N, C, H, W) in the classifier's range.
        :param y: true labels, or the targets of a targeted attack, indices or one-hot; without them the predicted ones.
        :return: float32 (N, C, H, W).
        :raises ValueError: for images out of range.
        """
        return super().generate(checks.in_range(x, "x", self.estimator.clip_values), y, **kwargs)
