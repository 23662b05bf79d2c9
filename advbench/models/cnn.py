"""The two-layer network of report 004: its classifiers C1 and C2."""

from __future__ import annotations

from torch import nn

from advbench.models.tapped import Channels, Normalize, TappedModule


class TwoLayerCNN(TappedModule):
    """Two blocks of 5x5 convolution, batch norm, ReLU and 2x2 max-pooling, then one fully connected layer.

    Images are 28 x 28. Taps: AD(0) the image, AD(1) 16 x 14 x 14, AD(2) 32 x 7 x 7. It has 29,034 parameters for grey
    images and ten classes.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 1, mean: Channels = (0.0,), std: Channels = (1.0,)
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [nn.Sequential(Normalize(mean, std), *_block(in_channels, 16)), nn.Sequential(*_block(16, 32))]
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 7 * 7, num_classes))


def _block(channels_in: int, channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels, 5, padding=2), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)]
