"""ART's projected gradient descent without its two predictions an image, which only serve a log line."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescentNumpy, ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier

from advbench import checks


def pgd(classifier: PyTorchClassifier, **parameters: Any) -> PGD | ProjectedGradientDescentNumpy:
    """The attack on a classifier; ART's NumPy version where preprocessing is not in PyTorch, as ART itself chooses."""
    kind = PGD if classifier.all_framework_preprocessing else ProjectedGradientDescentNumpy
    return kind(classifier, **parameters)


class PGD(ProjectedGradientDescentPyTorch):
    """Madry et al. (2018, https://arxiv.org/abs/1706.06083); parameters and results are ART's, to the bit.

    With a mask, several random starts or a bound for each image, ART's own code runs, predictions included.
    """

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        """Perturb images within the eps ball.

        :param x: float (N, C, H, W) in the classifier's range.
        :param y: true labels, or the targets of a targeted attack, indices or one-hot; without them the predicted ones.
        :return: float32 (N, C, H, W).
        :raises ValueError: for images out of range, a batch_size that is not positive, or a targeted attack without targets.
        """
        one_bound = isinstance(self.eps, (int, float)) and not self.random_eps
        if kwargs.get("mask") is not None or self.num_random_init > 1 or not one_bound or self.summary_writer:
            return super().generate(checks.in_range(x, "x", self.estimator.clip_values), y, **kwargs)
        images = torch.from_numpy(np.asarray(checks.in_range(x, "x", self.estimator.clip_values), np.float32))
        targets = torch.from_numpy(np.asarray(self._set_targets(x, y), np.float32))
        size = int(checks.positive(self.batch_size, "batch_size"))
        parts = zip(images.split(size), targets.split(size), strict=True)
        return np.concatenate([self._generate_batch(*part, None, self.eps, self.eps_step) for part in parts])
