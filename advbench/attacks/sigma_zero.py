"""sigma-zero (Cinà et al., 2025, https://arxiv.org/abs/2402.01879): the fewest changed values, by gradients."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import checks
from advbench.attacks.minimum_norm import TINY, MinimumNorm, norm, wide


@dataclass(eq=False, repr=False)
class SigmaZero(MinimumNorm):
    """Adam on the margin plus a smooth count of the changed values; values below a threshold are set back in each step.

    The count is the mean of delta^2 / (delta^2 + sigma). The threshold grows while the iterate is adversarial and falls while
    it is not (algorithm 1). The iterate with the fewest changed values is returned.

    :param classifier: an ART PyTorch classifier that returns logits for images in [0, 1].
    :param max_iter: N of the paper: steps.
    :param eta: eta_0 of the paper: the first step, which falls along a cosine to a tenth of it.
    :param sigma: how sharp the count is.
    :param tau: tau_0 of the paper: the first threshold.
    :param tau_step: t of the paper: by which share of the step the threshold changes.
    :param batch_size: images at a time.
    :raises ValueError: for a non-positive number.

    A step costs one forward and one backward pass an image. Images that are misclassified already are left out. The number
    of changed values is that of single values: a pixel of a colour image has three.
    """

    classifier: PyTorchClassifier
    norm: float | str = 0
    max_iter: int = 1000
    eta: float = 1.0
    sigma: float = 1e-3
    tau: float = 0.3
    tau_step: float = 0.01
    batch_size: int = 128

    def _check_params(self) -> None:
        self.norm = float(self.norm)
        if self.norm != 0:
            raise ValueError(f"norm must be 0, not {self.norm}")
        for name in ("max_iter", "eta", "sigma", "tau", "tau_step", "batch_size"):
            checks.positive(getattr(self, name), name)

    def _descend(self, module: nn.Module, x: Tensor, k0: Tensor) -> Tensor:
        delta, best = torch.zeros_like(x), x.clone()
        fewest = torch.full((len(x),), x[0].numel() + 1.0, device=x.device)
        tau = torch.full_like(fewest, self.tau)
        parameter = delta.clone()
        adam = torch.optim.Adam([parameter], lr=self.eta)
        for k in range(self.max_iter):
            delta = parameter.detach().clone().requires_grad_(True)
            with torch.enable_grad():
                f = module(x + delta).float()
                margin = f.gather(1, k0[:, None])[:, 0] - f.scatter(1, k0[:, None], -torch.inf).amax(1)
                square = delta.square()
                count = (square / (square + self.sigma)).flatten(1).mean(1)
                (gradient,) = torch.autograd.grad((margin.clamp_min(0) + count).sum(), delta)
            adversarial = f.detach().argmax(1) != k0
            changed = norm(delta.detach(), 0)
            better = adversarial & (changed < fewest)
            fewest = torch.where(better, changed, fewest)
            best = torch.where(wide(better), (x + delta).detach(), best)
            gradient = torch.nan_to_num(gradient)
            parameter.grad = gradient / wide(norm(gradient, torch.inf).clamp_min(TINY))
            adam.step()
            parameter.copy_((x + parameter).clamp(0, 1) - x)
            eta = self.eta * (0.1 + 0.9 * (1 + cos(pi * k / self.max_iter)) / 2)
            adam.param_groups[0]["lr"] = eta
            tau = (tau + torch.where(adversarial, 1.0, -1.0) * self.tau_step * eta).clamp(0, 1)
            parameter[parameter.abs() < wide(tau)] = 0
        return best
