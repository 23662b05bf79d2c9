"""The small network of report 003: two convolutions and three fully connected layers."""

from __future__ import annotations

from torch import nn

from advbench.models.tapped import Channels, Normalize, TappedModule


class SmallCNN(TappedModule):
    """5x5 convolutions of 6 and 16 filters, each with ReLU and 2x2 max-pooling, then layers of 120, 84 and 10 (report 003).

    Images are 32 x 32. Taps: AD(0) the image, AD(1) 6 x 14 x 14, AD(2) 16 x 5 x 5. It has 62,006 parameters for colour
    images and ten classes. The report's list of layers has no second pooling, but the 400 inputs of its first fully
    connected layer need one. Weights are PyTorch's default.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, mean: Channels = (0.0,), std: Channels = (1.0,)
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [
                nn.Sequential(Normalize(mean, std), nn.Conv2d(in_channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
                nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            ]
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, num_classes)
        )
