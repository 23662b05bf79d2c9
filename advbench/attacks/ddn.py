"""Decoupled direction and norm (Rony et al., 2019, https://arxiv.org/abs/1811.09600): the smallest l2 perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import checks
from advbench.attacks.minimum_norm import TINY, MinimumNorm, norm, wide
from advbench.estimators import ascent


@dataclass(eq=False, repr=False)
class DDN(MinimumNorm):
    """Gradient steps of the cross-entropy; after each the perturbation is put onto a sphere that shrinks or grows.

    The sphere shrinks by gamma while the iterate is adversarial and grows by gamma while it is not (algorithm 1). The nearest
    adversarial iterate is returned; it is not rounded to grey levels.

    :param classifier: an ART PyTorch classifier that returns logits for images in [0, 1].
    :param max_iter: K of the paper: steps.
    :param alpha: the length of the first step, which falls along a cosine to a hundredth of it.
    :param gamma: the share by which the radius changes.
    :param radius: epsilon_0 of the paper: the first radius.
    :param batch_size: images at a time.
    :raises ValueError: for a non-positive number.

    A step costs one forward and one backward pass an image. Images that are misclassified already are left out.
    """

    classifier: PyTorchClassifier
    norm: float | str = 2
    max_iter: int = 100
    alpha: float = 1.0
    gamma: float = 0.05
    radius: float = 1.0
    batch_size: int = 128

    def _check_params(self) -> None:
        self.norm = float(self.norm)
        if self.norm != 2:
            raise ValueError(f"norm must be 2, not {self.norm}")
        for name in ("max_iter", "alpha", "gamma", "radius", "batch_size"):
            checks.positive(getattr(self, name), name)

    def _descend(self, module: nn.Module, x: Tensor, k0: Tensor) -> Tensor:
        delta, best = torch.zeros_like(x), x.clone()
        farthest = norm(torch.maximum(x, 1 - x), 2)
        smallest = torch.full_like(farthest, torch.inf)
        eps = torch.full_like(farthest, self.radius)
        for k in range(self.max_iter):
            iterate = (x + delta).requires_grad_(True)
            with torch.enable_grad():
                f = module(iterate).float()
                (gradient,) = torch.autograd.grad(f, iterate, ascent(f.detach(), k0))
            adversarial, length = f.detach().argmax(1) != k0, norm(delta, 2)
            smaller = adversarial & (length < smallest)
            smallest = torch.where(smaller, length, smallest)
            best = torch.where(wide(smaller), iterate.detach(), best)
            gradient = torch.nan_to_num(gradient)
            alpha = self.alpha * (0.01 + 0.99 * (1 + cos(pi * k / self.max_iter)) / 2)
            delta = delta + alpha * gradient / wide(norm(gradient, 2).clamp_min(TINY))
            eps = torch.minimum(eps * torch.where(adversarial, 1 - self.gamma, 1 + self.gamma), farthest)
            delta = delta * wide(eps / norm(delta, 2).clamp_min(TINY))
            delta = (x + delta).clamp(0, 1) - x
        return best
