"""Fast minimum-norm attack (Pintor et al., 2021, https://arxiv.org/abs/2102.12827) in l0, l1, l2 and l-inf, batched."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import checks
from advbench.attacks.minimum_norm import TINY, MinimumNorm, margin, norm, wide

_CROSSED = 0.001  # the share of eps by which l-inf goes beyond the boundary; the clip takes nothing away there
_DUAL = {0.0: 1.0, 1.0: np.inf, 2.0: 2.0, np.inf: 1.0}  # that of l0 is not used


@dataclass(eq=False, repr=False)
class FMN(MinimumNorm):
    """The smallest perturbation that changes the prediction: gradient steps within a ball that grows and shrinks.

    The ball's radius eps_k first jumps to the linearised decision boundary, here by gamma_k beyond it (in l-inf by 0.001), for
    an iterate may come near it for ever; once an image was beaten, eps_k shrinks by gamma_k while the iterate is adversarial and grows by
    gamma_k while it is not (algorithm 1). Every iterate is projected onto the ball and clipped to [0, 1], and the smallest
    adversarial one is returned.

    :param classifier: an ART PyTorch classifier that returns logits for images in [0, 1].
    :param norm: 0 (the number of changed values), 1, 2 or ``inf``.
    :param max_iter: K of the paper: steps.
    :param alpha: alpha_0 of the paper: the length in l2 of the first step, which falls along a cosine to a hundredth of it.
    :param gamma: gamma_0 of the paper: the share by which the radius changes, which falls along a cosine to 0.001.
    :param batch_size: images at a time.
    :raises ValueError: for another norm or a non-positive number.

    A step costs one forward and one backward pass an image. Images that are misclassified already are left out.
    """

    classifier: PyTorchClassifier
    norm: float | str = np.inf
    max_iter: int = 100
    alpha: float = 1.0
    gamma: float = 0.05
    batch_size: int = 128

    def _check_params(self) -> None:
        self.norm = float(self.norm)
        if self.norm not in _DUAL:
            raise ValueError(f"norm must be 0, 1, 2 or inf, not {self.norm}")
        for name in ("max_iter", "alpha", "gamma", "batch_size"):
            checks.positive(getattr(self, name), name)

    def _descend(self, module: nn.Module, x: Tensor, k0: Tensor) -> Tensor:
        """The smallest adversarial iterates for images x (N, C, H, W) of classes k0; an image without one itself."""
        p = float(self.norm)
        farthest = norm(torch.maximum(x, 1 - x), p)
        delta, best, smallest = torch.zeros_like(x), x.clone(), farthest.clone()
        found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        eps = torch.full_like(farthest, float(p == 0))
        for k in range(self.max_iter):
            fall = (1 + cos(pi * k / self.max_iter)) / 2
            alpha = self.alpha * (0.01 + 0.99 * fall)
            gamma = 0.001 + (self.gamma - 0.001) * fall
            iterate = x + delta
            distance, gradient = margin(module, iterate, k0)
            length = norm(delta, p)
            adversarial = distance < 0
            smaller = adversarial & (length < smallest)
            smallest = torch.where(smaller, length, smallest)
            best = torch.where(wide(smaller), iterate, best)
            found |= adversarial
            if p == 0:
                shrunk = torch.minimum(torch.minimum(eps - 1, (eps * (1 - gamma)).floor()), smallest)
                grown = torch.maximum(eps + 1, (eps * (1 + gamma)).floor())
            else:
                shrunk = torch.minimum(eps * (1 - gamma), smallest)
                boundary = length + distance.abs() / norm(gradient, _DUAL[p]).clamp_min(TINY)
                # beyond the boundary, and never less: what the clip takes away would be missing for ever
                grown = torch.where(
                    found, eps * (1 + gamma), torch.maximum(eps, boundary) * (1 + (_CROSSED if p == np.inf else gamma))
                )
            eps = torch.minimum(torch.where(adversarial, shrunk, grown).clamp_min(0), farthest)
            delta = delta - alpha * gradient / wide(norm(gradient, 2).clamp_min(TINY))
            delta = (x + _projected(delta, eps, p)).clamp(0, 1) - x
        return best


def _projected(delta: Tensor, eps: Tensor, p: float) -> Tensor:
    """The nearest point (N, C, H, W) in l2 of the ball of radius eps (N,)."""
    if p == np.inf:
        return torch.minimum(torch.maximum(delta, -wide(eps)), wide(eps))
    if p == 2:
        return delta * wide((eps / norm(delta, 2).clamp_min(TINY)).clamp_max(1))
    flat = delta.flatten(1)
    size, order = flat.abs().sort(dim=1, descending=True)
    if p == 0:
        rank = torch.arange(flat.shape[1], device=flat.device).expand_as(flat)
        kept = torch.zeros_like(flat).scatter(1, order, (rank < eps[:, None]).to(flat.dtype))
        return (flat * kept).view_as(delta)
    # Duchi et al. (2008): what is subtracted from every value so that the sum of the rest is eps
    count = torch.arange(1, flat.shape[1] + 1, device=flat.device)
    threshold = (size.cumsum(1) - eps[:, None]) / count
    last = (size > threshold).sum(1, keepdim=True).clamp_min(1) - 1
    cut = threshold.gather(1, last).clamp_min(0)  # 0 inside of the ball
    return (flat.sign() * (flat.abs() - cut).clamp_min(0)).view_as(delta)
