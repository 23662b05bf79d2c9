"""Unusual models as attacks expect them: with a gradient and a training switch, in float32, for any number of images."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from advbench.estimators.fast import calling_model, logits


class ZeroGradientModel(nn.Module):
    """A model without a gradient, with the gradient zero in its place, so that attacks run."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad(), calling_model():
            outputs = self.module(x.detach().clone())
        return outputs + 0 * x.flatten(1).sum(1, keepdim=True)


class InteriorModel(nn.Module):
    """A model that loses the gradient of values of exactly 0 and 1, with the gradient that it has just inside [0, 1].

    PyTorch gives ``clamp`` the derivative 0 at its ends, where most black and white pixels are.
    """

    edge = 2**-20
    """How far inside; a rounding for the outputs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            x = x + (x.clamp(self.edge, 1 - self.edge) - x).detach()
        with calling_model():
            return self.module(x)


class ExportedModel(nn.Module):
    """A program of ``torch.export``, which forbids ``eval()`` and ``train()``: it stays what it was exported as."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        for part in module.modules():
            part.training = False

    def train(self, mode: bool = True) -> Self:
        self.training = False
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


class PiecewiseModel(nn.Module):
    """A model of so many images at a time, as an exported one may be, for any number: the last piece repeats its last image."""

    def __init__(self, module: nn.Module, size: int) -> None:
        super().__init__()
        self.module, self.size = module, size

    def forward(self, x: Tensor) -> Tensor:
        whole = torch.cat([x, x[-1:].expand(-len(x) % self.size, *x.shape[1:])])
        rows = []
        for piece in whole.split(self.size):
            with calling_model():
                rows.append(logits(self.module(piece), self.size))
            if len(rows[-1]) != self.size:
                raise ValueError(f"{len(rows[-1])} rows for {self.size} images")
        return torch.cat(rows)[: len(x)]


class RegularModel(nn.Module):
    """A model with logits alone, in float32, and (1, classes) for a single image."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        with calling_model():
            return logits(self.module(x), len(x))
