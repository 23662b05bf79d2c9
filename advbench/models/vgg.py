"""The VGG-like network of report 000, with maximum or average pooling."""

from __future__ import annotations

from torch import nn

from advbench.models.tapped import Normalize, TappedModule


class VGG(TappedModule):
    """Three blocks of two 3x3 convolutions, each with ReLU and then batch norm, 2x2 max-pooling and dropout (report 000).

    :param num_classes: length of the logits.
    :param in_channels: channels of the images, which are 32 x 32.
    :param mean: per-channel mean of the training images in [0, 1]; the report does not normalise: 0.
    :param std: per-channel standard deviation in [0, 1]; 1 for none.

    Taps: AD(0) the image, AD(1) 32 x 16 x 16, AD(2) 64 x 8 x 8, AD(3) 128 x 4 x 4. It has 308,394 parameters for colour
    images and ten classes. As Keras has it: ReLU before batch norm, whose momentum is 0.01 in PyTorch's sense and whose
    eps 1e-3; weights Glorot-uniform, biases zero.
    """

    pooling: type[nn.MaxPool2d] | type[nn.AvgPool2d] = nn.MaxPool2d

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
    ) -> None:
        super().__init__()
        first, *others = (self._block(*channels) for channels in ((in_channels, 32), (32, 64), (64, 128)))
        self.stages = nn.ModuleList([nn.Sequential(Normalize(mean, std), *first), *map(_in_a_row, others)])
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(128 * 4 * 4, num_classes))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def _block(self, channels_in: int, channels: int) -> list[nn.Module]:
        return [
            *_convolution(channels_in, channels),
            *_convolution(channels, channels),
            self.pooling(2),
            nn.Dropout(0.3),
        ]

    def decayed(self, l2: float) -> list[dict]:
        """The parameters for an optimizer, grouped: Keras' penalty ``l2 * sum(w^2)`` is on the convolutions' kernels only.

        :param l2: its factor; the gradient is twice that times w, which is what PyTorch calls weight decay.
        """
        kernels = [module.weight for module in self.modules() if isinstance(module, nn.Conv2d)]
        chosen = set(map(id, kernels))
        others = [parameter for parameter in self.parameters() if id(parameter) not in chosen]
        return [{"params": kernels, "weight_decay": 2 * l2}, {"params": others, "weight_decay": 0.0}]


class AverageVGG(VGG):
    """The same with average pooling, which the report compares."""

    pooling = nn.AvgPool2d


def _convolution(channels_in: int, channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01),
    ]


def _in_a_row(layers: list[nn.Module]) -> nn.Sequential:
    return nn.Sequential(*layers)
