"""The two-layer network of report 004: its classifiers C1 and C2."""

from __future__ import annotations

from torch import nn

from advbench.models.tapped import Normalize, TappedModule


class TwoLayerCNN(TappedModule):
    """Two blocks of 5x5 convolution, batch norm, ReLU and 2x2 max-pooling, then one fully connected layer.

    :param num_classes: length of the logits.
    :param in_channels: channels of the images.
    :param mean: per-channel mean of the training images in [0, 1]; the report does not normalise: 0.
    :param std: per-channel standard deviation in [0, 1]; 1 for none.

    Images are (N, C, 28, 28) float in [0, 1], logits (N, num_classes). The taps AD(0)..AD(2) are C x 28 x 28,
    16 x 14 x 14 and 32 x 7 x 7. It has 29,034 parameters for grey images and ten classes.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [nn.Sequential(Normalize(mean, std), *_block(in_channels, 16)), nn.Sequential(*_block(16, 32))]
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 7 * 7, num_classes))


def _block(channels_in: int, channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels, 5, padding=2), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)]
