"""Interval bounds: what a network can at most answer within a box (Gowal et al., 2018, https://arxiv.org/abs/1810.12715, section 3)."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.models.tapped import Composite, Normalize

_MONOTONE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Hardtanh, nn.Identity),
    *(nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Unflatten, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *(nn.AdaptiveMaxPool2d, nn.BatchNorm1d, nn.BatchNorm2d, Normalize),
)
"""Layers whose every output rises with every input, or falls with the one that it has, in eval mode."""


class Unbounded(Exception):
    """A network has a layer that is not bounded here."""


@dataclass(frozen=True)
class Box:
    """All values between two tensors of one shape."""

    low: Tensor
    high: Tensor

    def __add__(self, other: Box) -> Box:
        return Box(self.low + other.low, self.high + other.high)


@dataclass(frozen=True)
class _Last:
    """A linear layer that is not computed yet: the margins between its outputs have tighter bounds than the outputs."""

    layer: nn.Linear
    box: Box


def certified(module: nn.Module, x: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    """Which images (N, C, H, W) in [0, 1] have label y in every image of [0, 1] within eps in l-inf, bool (N,).

    False where that is not proven. Computed in float64, on copies of the layers.

    :param module: images -> logits (N, classes), in eval mode, of convolutions, linear layers, batch norm, pooling and
        activations that rise, in ``nn.Sequential`` or our own composites.
    :raises Unbounded: for any other network.
    """
    images, labels = torch.from_numpy(np.asarray(x, np.float64)), torch.from_numpy(np.asarray(y)).long()
    with torch.no_grad():
        found = _through(module, Box((images - eps).clamp(0, 1), (images + eps).clamp(0, 1)))
        margins = _margins(found, labels)
    rounding = 1e-5 * margins.abs().amax(1, keepdim=True)  # of the model itself, which computes in float32
    return ((margins > rounding).sum(1) == margins.shape[1] - 1).numpy()  # in all but the label's own column


def _margins(found: Box | _Last, y: Tensor) -> Tensor:
    """Lower bounds (N, classes) of how much the logit of the label lies above each; 0 above itself."""
    if isinstance(found, Box):
        margins = found.low.gather(1, y[:, None]) - found.high
    else:
        weight, bias = found.layer.weight, found.layer.bias
        difference = weight[y][:, None] - weight  # (N, classes, D)
        middle, half = (found.box.low + found.box.high) / 2, (found.box.high - found.box.low) / 2
        margins = torch.einsum("ncd,nd->nc", difference, middle) - torch.einsum("ncd,nd->nc", difference.abs(), half)
        if bias is not None:
            margins = margins + bias[y][:, None] - bias
    return margins.scatter(1, y[:, None], 0.0)


def _through(layer: Any, found: Box | _Last) -> Box | _Last:
    box = _linear(found.layer, found.box) if isinstance(found, _Last) else found
    kind: Any = type(layer)
    if layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
        raise Unbounded(kind.__name__)
    if kind is nn.Sequential:
        return _chain(layer, box)
    if isinstance(layer, Composite) and kind.forward is Composite.forward:
        try:
            composite: Any = layer  # of which the chain takes boxes here
            return composite.compose(box, _chain)
        except (TypeError, AttributeError) as error:  # it computes on tensors itself
            raise Unbounded(kind.__name__) from error
    if kind in _MONOTONE and getattr(layer, "track_running_stats", True):
        exact = _exact(layer)
        ends = exact(box.low), exact(box.high)
        return Box(torch.minimum(*ends), torch.maximum(*ends))
    if kind is nn.Linear:
        return _Last(_exact(layer), box)
    if isinstance(layer, nn.Conv2d) and kind._conv_forward is nn.Conv2d._conv_forward and layer.padding_mode == "zeros":
        if kind is not nn.Conv2d and not kind.__module__.startswith("advbench.models.convolution"):
            raise Unbounded(kind.__name__)
        exact = _exact(layer)
        options: Any = exact.stride, exact.padding, exact.dilation, exact.groups
        middle, half = (box.low + box.high) / 2, (box.high - box.low) / 2
        centre = F.conv2d(middle, exact.weight, exact.bias, *options)
        around = F.conv2d(half, exact.weight.abs(), None, *options)
        return Box(centre - around, centre + around)
    raise Unbounded(kind.__name__)


def _exact(layer: Any) -> Any:
    """A copy in float64; layers alone are copied, as a module of the user's own may hold what cannot be."""
    try:
        return copy.deepcopy(layer).cpu().double().eval()
    except Exception as error:
        raise Unbounded(type(layer).__name__) from error


def _chain(layers: Iterable[nn.Module], x: Any) -> Any:
    for layer in layers:
        x = _through(layer, x)
    return x


def _linear(layer: nn.Linear, box: Box) -> Box:
    middle, half = (box.low + box.high) / 2, (box.high - box.low) / 2
    centre, around = F.linear(middle, layer.weight, layer.bias), F.linear(half, layer.weight.abs())
    return Box(centre - around, centre + around)
