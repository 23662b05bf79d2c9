"""Random classifiers: expectation over transformation (Athalye et al., 2018, https://arxiv.org/abs/1802.00420, section 4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advbench import checks
from advbench.estimators.fast import calling_model
from advbench.estimators.torch_classifier import TorchClassifier

DRAWS = 10
"""Draws that are averaged by default."""


class AveragedModel(nn.Module):
    """The mean logits over several draws of a random module; its gradient is the mean gradient.

    :param draws: forward passes an image.
    """

    def __init__(self, module: nn.Module, draws: int = DRAWS) -> None:
        super().__init__()
        self.module, self.draws = module, draws

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self._draw(x) for _ in range(self.draws)]).mean(0)

    def _draw(self, x: Tensor) -> Tensor:
        with calling_model():
            return self.module(x)


class SmoothedModel(nn.Module):
    """A module whose images get Gaussian noise, a draw each call (Cohen et al., 2019, https://arxiv.org/abs/1902.02918).

    :param sigma: the standard deviation of the noise, for images in [0, 1].
    """

    def __init__(self, module: nn.Module, sigma: float) -> None:
        super().__init__()
        self.module, self.sigma = module, sigma

    def forward(self, x: Tensor) -> Tensor:
        with calling_model():
            return self.module(x + self.sigma * torch.randn_like(x))


def averaged_part(module: nn.Module) -> AveragedModel | None:
    """The mean over draws inside of a module; None where the module is not taken for random."""
    return next((part for part in module.modules() if isinstance(part, AveragedModel)), None)


@contextmanager
def single_draws(module: nn.Module) -> Iterator[None]:
    """Inside, a random module answers as each of its users sees it, with one draw."""
    part = averaged_part(module)
    if part is None:
        yield
        return
    draws, part.draws = part.draws, 1
    try:
        yield
    finally:
        part.draws = draws


class ExpectationClassifier(TorchClassifier):
    """A ``TorchClassifier`` whose loss gradient is the mean over draws.

    Its predictions are single draws, as every user of the classifier sees them. Torch's global generator draws.

    :param draws: forward and backward passes a gradient.
    """

    estimator_params = [*TorchClassifier.estimator_params, "draws"]

    def __init__(self, *args: Any, draws: int = DRAWS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.draws = int(checks.positive(draws, "draws"))

    def loss_gradient(
        self, x: np.ndarray | Tensor, y: np.ndarray | Tensor, training_mode: bool = False, **kwargs: Any
    ) -> np.ndarray | Tensor:
        """The mean gradient at images x (N, C, H, W) for labels y; same type as x."""
        total = super().loss_gradient(x, y, training_mode, **kwargs)
        for _ in range(self.draws - 1):
            total = total + super().loss_gradient(x, y, training_mode, **kwargs)
        return total / self.draws


def expectation(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    classes: int,
    draws: int = DRAWS,
    device: str | torch.device = "auto",
) -> ExpectationClassifier:
    """Wrap a random module (images float (N, C, H, W) in [0, 1] -> logits (N, classes)) for every ART attack."""
    return ExpectationClassifier(
        module,
        nn.CrossEntropyLoss(),
        tuple(input_shape),
        classes,
        draws=draws,
        clip_values=(0.0, 1.0),
        preprocessing=None,
        device_type="cpu",
    ).to(device)
