"""The detector subnetworks of Metzen et al. (2017): a small network on the activations at one tap."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_WIDTHS = (96, 192, 192)
_FINAL_SIZE = 8
_IMAGENET_WIDTHS = (196,) * 5


class DetectorSubnetwork(nn.Module):
    """3x3 convolutions with batch norm and ReLU, a 1x1 convolution to two maps, global average pooling.

    :param in_channels: channels of the activations.
    :param widths: maps of each 3x3 convolution.
    :param pools: the number of these, from the first, that a 2x2 max-pooling follows.

    Activations (N, C, H, W) -> logits (N, 2) for clean (0) and adversarial (1).
    """

    def __init__(self, in_channels: int, widths: tuple[int, ...], pools: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (before, channels) in enumerate(zip((in_channels, *widths), widths, strict=False)):
            layers += [nn.Conv2d(before, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
            if i < pools:
                layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features.contiguous(memory_format=torch.channels_last))


def cifar(in_channels: int, size: int) -> DetectorSubnetwork:
    """The subnetwork for CIFAR-10, figure 1: three 3x3 convolutions.

    Max-pooling follows the first and the second as long as the maps are larger than 8 x 8: both at AD(0)..AD(2) of a
    32 x 32 network, one at AD(3), none at AD(4).

    :param size: height of the activations.
    """
    pools = min(max(round(math.log2(size / _FINAL_SIZE)), 0), len(_WIDTHS) - 1)
    return DetectorSubnetwork(in_channels, _WIDTHS, pools)


def imagenet(in_channels: int, size: int) -> DetectorSubnetwork:
    """The subnetwork for ten ImageNet classes, section 4.2: five 3x3 convolutions of 196 maps, max-pooling after the first.

    In the paper its 1x1 convolution maps onto the ten classes; a detector has two classes, so here it maps onto two.

    :param size: height of the activations, at least 2; it is not used.
    """
    return DetectorSubnetwork(in_channels, _IMAGENET_WIDTHS, 1)


SUBNETWORKS = {"cifar": cifar, "imagenet": imagenet}
