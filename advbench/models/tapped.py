"""The base of every report model: normalisation inside, and numbered taps for detectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

Channels = tuple[float, ...]
"""One number a channel."""

Chain = Callable[[Iterable[nn.Module], Tensor], Tensor]
"""Computes layers one after another."""


def in_turn(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """The output of the last layer, each called on the output of the one before."""
    for layer in layers:
        x = layer(x)
    return x


class Composite(nn.Module):
    """A module that says how its parts are put together, so that another way to compute them can be put in."""

    def compose(self, x: Tensor, chain: Chain) -> Tensor:
        """The output for x, with every part computed by ``chain``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.compose(x, in_turn)


class Normalize(nn.Module):
    """(x - mean) / std per channel, so that attacks on the model see images in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class TappedModule(Composite):
    """A network cut at its taps: AD(0) is the input, AD(i) the output of ``stages[i - 1]``.

    Images are (N, C, H, W) float in [0, 1], logits (N, num_classes). The notation AD(i) is that of Metzen et al. (2017),
    figure 1. Subclasses set ``stages`` (an ``nn.ModuleList``) and ``head`` (features of the last tap -> logits). They take
    ``num_classes``, the length of the logits; ``in_channels``, the channels of the images; and per channel the ``mean`` and
    ``std`` of the training images in [0, 1], which are subtracted and divided by (0 and 1 for a report that does neither).
    """

    stages: nn.ModuleList
    head: nn.Module

    @property
    def taps(self) -> int:
        """The number of taps; valid positions are 0 .. taps - 1."""
        return len(self.stages) + 1

    def features(self, x: Tensor, position: int, chain: Chain = in_turn) -> Tensor:
        """The activations at AD(position) for images x of shape (N, C, H, W) in [0, 1].

        :raises ValueError: if there is no such tap.
        """
        if not 0 <= position < self.taps:
            raise ValueError(f"position must be 0..{self.taps - 1} for {type(self).__name__}, not {position}")
        return chain(self.stages[:position], x)

    def forward_from(self, features: Tensor, position: int, chain: Chain = in_turn) -> Tensor:
        """Logits from the activations at AD(position); ``forward`` is the case position 0."""
        return chain([*self.stages[position:], self.head], features)

    def compose(self, x: Tensor, chain: Chain) -> Tensor:
        return self.forward_from(x, 0, chain)
