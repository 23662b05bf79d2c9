"""The VGG-like network of report 000, with maximum or average pooling."""

from __future__ import annotations

from torch import nn

from advbench.models.tapped import Channels, Normalize, TappedModule


class VGG(TappedModule):
    """Three blocks of two 3x3 convolutions, each with ReLU and then batch norm, 2x2 max-pooling and dropout (report 000).

    Images are 32 x 32. Taps: AD(0) the image, AD(1) 32 x 16 x 16, AD(2) 64 x 8 x 8, AD(3) 128 x 4 x 4. It has 308,394
    parameters for colour images and ten classes. As in Keras, ReLU comes before batch norm, whose momentum is 0.01 in
    PyTorch's sense and whose eps is 1e-3; weights are Glorot-uniform, biases zero.
    """

    pooling: type[nn.MaxPool2d] | type[nn.AvgPool2d] = nn.MaxPool2d

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, mean: Channels = (0.0,), std: Channels = (1.0,)
    ) -> None:
        super().__init__()
        first, second, third = (self._block(*channels) for channels in ((in_channels, 32), (32, 64), (64, 128)))
        first = [Normalize(mean, std), *first]
        self.stages = nn.ModuleList([nn.Sequential(*block) for block in (first, second, third)])
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(128 * 4 * 4, num_classes))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def _block(self, channels_in: int, channels: int) -> list[nn.Module]:
        convolutions = [*_convolution(channels_in, channels), *_convolution(channels, channels)]
        return [*convolutions, self.pooling(2), nn.Dropout(0.3)]

    def decayed(self, l2: float) -> list[dict]:
        """The parameters for an optimizer, in two groups: Keras' penalty ``l2 * sum(w^2)`` is on the kernels of convolutions.

        :param l2: the factor of the penalty; its gradient is 2 l2 w, so PyTorch's weight decay is 2 l2.
        """
        kernels = [module.weight for module in self.modules() if isinstance(module, nn.Conv2d)]
        others = [one for one in self.parameters() if not any(one is kernel for kernel in kernels)]
        return [{"params": kernels, "weight_decay": 2 * l2}, {"params": others, "weight_decay": 0.0}]


class AverageVGG(VGG):
    """The same with average pooling, which the report compares with."""

    pooling = nn.AvgPool2d


def _convolution(channels_in: int, channels: int) -> list[nn.Module]:
    batch_norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
    return [nn.Conv2d(channels_in, channels, 3, padding=1), nn.ReLU(), batch_norm]
