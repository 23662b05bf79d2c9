"""The attacker network of report 004: an encoder and a decoder of 5x5 convolutions with stride 2, from image to image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advbench.models.convolution import Conv2d, ConvTranspose2d

_SLOPE = 0.2  # of every leaky ReLU; the report's prototype has 0.01 in the first


class AttackerNetwork(nn.Module):
    """Conv1..Conv4 halve height and width, FSC1..FSC4 double them again; the output is a tanh, in [-1, 1].

    :param shape: (C, H, W) of the images; half of an odd size is rounded up, and doubling it gives the odd size again.
    :param width: maps of the first layer; the next have two, four and eight times as many. The report's is 64.
    :param output_batch_norm: batch norm before the tanh, as in the report's table but not in its prototype.
    :raises ValueError: for a shape that is not three positive numbers, or a width that is not positive.

    Images (N, C, H, W) -> (N, C, H, W). For 1 x 28 x 28 and width 64 it has 8,608,897 parameters and the layers'
    outputs are 64x14x14, 128x7x7, 256x4x4, 512x2x2, 256x4x4, 128x7x7, 64x14x14 and 1x28x28.
    """

    def __init__(self, shape: tuple[int, ...], width: int = 64, output_batch_norm: bool = False) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"shape must be (C, H, W), three positive numbers, not {tuple(shape)}")
        if width < 1:
            raise ValueError(f"width must be at least 1, not {width}")
        channels, *size = shape
        maps = [channels, width, 2 * width, 4 * width, 8 * width]
        sizes = [size]
        for _ in range(4):
            sizes.append([(n + 1) // 2 for n in sizes[-1]])
        layers = []
        for i in range(4):
            norm = [nn.BatchNorm2d(maps[i + 1])] if i else []
            layers.append(
                nn.Sequential(Conv2d(maps[i], maps[i + 1], 5, stride=2, padding=2), *norm, nn.LeakyReLU(_SLOPE))
            )
        for i in range(4, 0, -1):
            padding = (1 - sizes[i - 1][0] % 2, 1 - sizes[i - 1][1] % 2)
            last = i == 1
            norm = [nn.BatchNorm2d(maps[i - 1])] if not last or output_batch_norm else []
            up = ConvTranspose2d(maps[i], maps[i - 1], 5, stride=2, padding=2, output_padding=padding)
            layers.append(nn.Sequential(up, *norm, nn.Tanh() if last else nn.ReLU()))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def attacker(shape: tuple[int, ...], width: int, output_batch_norm: bool, seed: int) -> AttackerNetwork:
    """A new network in eval mode, its weights drawn from the seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttackerNetwork(shape, width, output_batch_norm).to(memory_format=torch.channels_last).eval()
