"""The detector subnetworks of Metzen et al. (2017): a small network on the activations at one tap."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_WIDTHS = (96, 192, 192)
_FINAL_SIZE = 8
_IMAGENET_WIDTHS = (196,) * 5


class DetectorSubnetwork(nn.Module):
    """The one of CIFAR-10, figure 1.

    Three 3x3 convolutions with batch norm and ReLU, a 1x1 convolution to two maps, global average pooling.

    A 2x2 max-pooling follows the first and the second convolution as long as the maps are larger than 8 x 8: both
    at AD(0)..AD(2) of a 32 x 32 network, one at AD(3), none at AD(4).

    :param in_channels: channels of the activations.
    :param size: their height.

    Activations (N, C, H, W) -> logits (N, 2) for clean (0) and adversarial (1).
    """

    def __init__(self, in_channels: int, size: int) -> None:
        super().__init__()
        pools = min(max(round(math.log2(size / _FINAL_SIZE)), 0), len(_WIDTHS) - 1)
        self.layers = _layers(in_channels, _WIDTHS, pools)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features.contiguous(memory_format=torch.channels_last))


class ImageNetSubnetwork(DetectorSubnetwork):
    """The one of ten ImageNet classes, section 4.2: five 3x3 convolutions of 196 maps, max-pooling after the first.

    The paper says that its 1x1 convolution maps onto the ten classes; a detector has two, and so has this one.

    :param size: of the activations, at least 2; it changes nothing.
    """

    def __init__(self, in_channels: int, size: int) -> None:
        nn.Module.__init__(self)
        self.layers = _layers(in_channels, _IMAGENET_WIDTHS, 1)


SUBNETWORKS = {"cifar": DetectorSubnetwork, "imagenet": ImageNetSubnetwork}


def _layers(in_channels: int, widths: tuple[int, ...], pools: int) -> nn.Sequential:
    """3x3 convolutions with batch norm and ReLU, the first ``pools`` of them pooled, then two maps and their means."""
    layers: list[nn.Module] = []
    for i, (channels_in, channels) in enumerate(zip((in_channels, *widths), widths, strict=False)):
        layers += [nn.Conv2d(channels_in, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        if i < pools:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
