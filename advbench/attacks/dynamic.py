"""The dynamic adversary of Metzen et al. (2017), section 3.3: fool a classifier and its detector at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from advbench import checks
from advbench.attacks.batched import BatchedAttack, checked, in_batches, without_options
from advbench.estimators import weights_read_once


class AttachedDetector(Protocol):
    """A detector on the activations of a classifier, such as :class:`~advbench.detectors.SubnetworkDetector`."""

    classifier: PyTorchClassifier

    def gradient_signs(
        self, x: Tensor, y: Tensor, classifier: bool, detector: bool
    ) -> tuple[Tensor | float, Tensor | float]:
        """sgn(grad J_cls(x, y)) and sgn(grad J_det(x, 1)); a number stands in place of the one that is not needed."""


@dataclass(eq=False, repr=False)
class DynamicDetectorAttack(BatchedAttack):
    """x <- Clip_eps(x + alpha [(1 - sigma) sgn(grad J_cls(x, y)) + sigma sgn(grad J_det(x, 1))]).

    J_det(x, 1) is the detector's cross-entropy for "adversarial": ascending it lowers p_adv. The clip is to the
    l-inf ball around the image and to [0, 1]. sigma = 0 is BIM on the classifier, sigma = 1 BIM on the detector.

    :param classifier: an ART PyTorch classifier for images in [0, 1].
    :param detector: the detector attached to that classifier.
    :param eps: l-inf bound in [0, 1].
    :param eps_step: alpha, in [0, 1].
    :param max_iter: number of steps.
    :param sigma: one number in [0, 1], or one an image.
    :raises ValueError: for a number out of range, or a detector attached to another classifier.

    A step costs one forward pass through classifier and detector together, and two backward passes, one for each
    sign; where every sigma is 0 or every sigma is 1, one.
    """

    classifier: PyTorchClassifier
    detector: AttachedDetector
    eps: float = 1 / 255
    eps_step: float = 1 / 255
    max_iter: int = 10
    sigma: float | np.ndarray = 0.5
    batch_size: int = 128

    def _check_params(self) -> None:
        checks.positive(self.eps, "eps", zero=True)
        for name in ("eps_step", "max_iter", "batch_size"):
            checks.positive(getattr(self, name), name)
        sigma = np.asarray(self.sigma)
        if sigma.ndim > 1 or not np.all((sigma >= 0) & (sigma <= 1)):
            raise ValueError(f"sigma must be one number in [0, 1] or one an image, not {self.sigma}")
        if self.detector.classifier is not self.estimator:
            raise ValueError("detector must be attached to the classifier that is attacked")

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: object) -> np.ndarray:
        """Perturb images within the eps ball.

        :param x: float (N, C, H, W) in [0, 1].
        :param y: true labels, indices or one-hot; without them the predicted ones.
        :return: float32 (N, C, H, W) in [0, 1].
        :raises ValueError: for images or labels out of range, or a sigma for another number of images.
        """
        without_options(self, kwargs)
        x, y = checked(self.estimator, x, y, self.batch_size)
        sigma = np.asarray(self.sigma, dtype=np.float32)
        if sigma.ndim == 1 and len(sigma) != len(x):
            raise ValueError(f"sigma must hold one number an image, {len(x)}, not {len(sigma)}")
        sigma = np.broadcast_to(sigma, len(x)).copy()
        return in_batches(self.perturb, self.estimator.device, self.batch_size, x, y, sigma)

    def perturb(self, x0: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        """The attack on one batch of tensors on the classifier's device: images, label indices, sigma an image."""
        weight = sigma.view(-1, 1, 1, 1)
        low, high = (x0 - self.eps).clamp_min(0), (x0 + self.eps).clamp_max(1)
        x = x0
        wanted = bool((sigma < 1).any()), bool((sigma > 0).any())
        with weights_read_once(self.estimator.model):
            for _ in range(self.max_iter):
                sign_cls, sign_det = self.detector.gradient_signs(x, y, *wanted)
                direction = (1 - weight) * sign_cls + weight * sign_det
                x = torch.minimum(torch.maximum(x + self.eps_step * direction, low), high)
        return x
