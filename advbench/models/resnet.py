"""The 32-layer residual network of Metzen et al. (2017), section 4.1 and figure 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advbench.models.registry import CIFAR10
from advbench.models.tapped import Chain, Channels, Composite, Normalize, TappedModule


class BasicBlock(Composite):
    """Two 3x3 convolutions with a shortcut, post-activation (He et al., 2016, figure 2).

    The shortcut is the identity, or a strided 1x1 convolution where the shape changes (option B).
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def compose(self, x: Tensor, chain: Chain) -> Tensor:
        out = torch.relu(chain([self.conv1, self.bn1], x))
        return torch.relu(chain([self.conv2, self.bn2], out) + chain([self.shortcut], x))


class ResNet32(TappedModule):
    """ResNet-32 (n = 5) with taps AD(0)..AD(4): input, stem, and the end of each of the three stages.

    For 32 x 32 images the taps are C x 32 x 32, 16 x 32 x 32, 16 x 32 x 32, 32 x 16 x 16 and 64 x 8 x 8. Weights are
    He-normal.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, mean: Channels = CIFAR10[0], std: Channels = CIFAR10[1]
    ) -> None:
        super().__init__()
        stem = nn.Sequential(
            Normalize(mean, std), nn.Conv2d(in_channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        stages = [
            nn.Sequential(
                BasicBlock(channels_in, channels, stride), *(BasicBlock(channels, channels, 1) for _ in range(4))
            )
            for channels_in, channels, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        ]
        self.stages = nn.ModuleList([stem, *stages])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
