"""The LeNet of report 002 (Meucci, MatConvNet's MNIST demo)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advbench.models.convolution import Conv2d
from advbench.models.tapped import Channels, TappedModule


class Standardize(nn.Module):
    """(x - mean - low) / width with a mean image, the preprocessing of report 002 as a layer."""

    mean: Tensor
    low: Tensor
    width: Tensor

    def __init__(self, mean: Tensor, low: float, width: float) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("width", torch.tensor(width))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean - self.low) / self.width


class LeNet(TappedModule):
    """Two convolutions with max-pooling and one ReLU in all (report 002).

    Images are 28 x 28. ``mean`` and ``std``, one number each, hold until :meth:`standardize` sets a mean image.

    Taps: AD(0) the image, AD(1) 20 x 12 x 12, AD(2) 50 x 4 x 4, AD(3) 500 x 1 x 1. The 4 x 4 and the 1 x 1 convolution
    see one position each, so they are linear layers: the same function, five times as fast on a CPU.
    Weights are N(0, 0.1^2), biases zero.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 1, mean: Channels = (0.0,), std: Channels = (1.0,)
    ) -> None:
        super().__init__()
        image = torch.tensor(mean).view(-1, 1, 1).expand(in_channels, 28, 28).clone()
        self.stages = nn.ModuleList(
            [
                nn.Sequential(Standardize(image, 0.0, std[0]), Conv2d(in_channels, 20, 5), nn.MaxPool2d(2)),
                nn.Sequential(nn.Conv2d(20, 50, 5), nn.MaxPool2d(2)),
                nn.Sequential(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Unflatten(1, (500, 1, 1))),
            ]
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(500, num_classes))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(module.weight, std=0.1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def standardize(self, x: Tensor) -> None:
        """Take mean image and range from training images x, uint8 (N, C, 28, 28).

        The report maps the range of the *first* centred image to [0, 1]: its code means every image's own range
        but indexes the bounds linearly.
        """
        layer = self._standardization
        mean = x.double().mean(0) / 255
        first = x[0].double() / 255 - mean
        layer.mean.copy_(mean)
        layer.low.copy_(first.min())
        layer.width.copy_(first.max() - first.min())

    @property
    def width(self) -> float:
        """How many pixel units in [0, 1] make one unit after the preprocessing."""
        return float(self._standardization.width)

    @property
    def _standardization(self) -> Standardize:
        layer = next(self.stages[0].children())
        assert isinstance(layer, Standardize)
        return layer
