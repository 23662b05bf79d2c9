"""Gradients of a random classifier as means over draws: expectation over transformation (Athalye et al., 2018)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advbench import checks
from advbench.device import resolve_device
from advbench.estimators import TorchClassifier


class ExpectationClassifier(TorchClassifier):
    """A ``TorchClassifier`` whose loss gradient is the mean over draws (https://arxiv.org/abs/1802.00420, section 4.2).

    Predictions are single draws, as whoever uses the classifier sees them. Torch's global generator draws.

    :param draws: forward and backward passes a gradient.
    """

    estimator_params = [*TorchClassifier.estimator_params, "draws"]

    def __init__(self, *args: Any, draws: int = 10, **kwargs: Any) -> None:
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
    draws: int = 10,
    device: str | torch.device = "auto",
) -> ExpectationClassifier:
    """Wrap a random module (images float (N, C, H, W) in [0, 1] -> logits (N, classes)) for every ART attack."""
    wrapped = ExpectationClassifier(
        module, nn.CrossEntropyLoss(), tuple(input_shape), classes, draws=draws, device_type="cpu"
    )
    wrapped.to(resolve_device(device) if isinstance(device, str) else device)
    return wrapped
