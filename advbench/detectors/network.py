"""The detector subnetwork of Metzen et al. (2017), figure 1: a small network on the activations at one tap."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_WIDTHS = (96, 192, 192)
_FINAL_SIZE = 8


class DetectorSubnetwork(nn.Module):
    """Three 3x3 convolutions with batch norm and ReLU, a 1x1 convolution to two maps, global average pooling.

    A 2x2 max-pooling follows the first and the second convolution as long as the maps are larger than 8 x 8: both
    at AD(0)..AD(2) of a 32 x 32 network, one at AD(3), none at AD(4).

    :param in_channels: channels of the activations.
    :param size: their height.

    Activations (N, C, H, W) -> logits (N, 2) for clean (0) and adversarial (1).
    """

    def __init__(self, in_channels: int, size: int) -> None:
        super().__init__()
        pools = min(max(round(math.log2(size / _FINAL_SIZE)), 0), len(_WIDTHS) - 1)
        layers: list[nn.Module] = []
        for i, (channels_in, channels) in enumerate(zip((in_channels, *_WIDTHS), _WIDTHS, strict=False)):
            layers += [nn.Conv2d(channels_in, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
            if i < pools:
                layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers, nn.Conv2d(_WIDTHS[-1], 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features.contiguous(memory_format=torch.channels_last))
