"""VGG16 (Simonyan & Zisserman, 2015, https://arxiv.org/abs/1409.1556, configuration D) with torchvision's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advbench.models.tapped import Channels, Normalize, TappedModule

_CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_POOLED, _HIDDEN = 7, 4096


class VGG16(TappedModule):
    """Thirteen 3x3 convolutions with ReLU in five stages, each ended by 2x2 max-pooling, and three linear layers.

    The sides of images are at least 32. Taps: AD(0) the image, AD(i) after the i-th max-pooling; AD(4) is 512 x 14 x 14 for images of 224 x 224.
    """

    head: nn.Sequential
    narrower = 1

    def __init__(self, num_classes: int, in_channels: int, mean: Channels, std: Channels) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for i, widths in enumerate(_CHANNELS):
            layers: list[nn.Module] = [Normalize(mean, std)] if i == 0 else []
            for width in widths:
                channels = width // self.narrower
                layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
                in_channels = channels
            self.stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.head = self._head(in_channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def _head(self, channels: int, num_classes: int) -> nn.Sequential:
        hidden = [
            layer
            for features in (channels * _POOLED**2, _HIDDEN)
            for layer in (nn.Linear(features, _HIDDEN), nn.ReLU(inplace=True), nn.Dropout())
        ]
        return nn.Sequential(nn.AdaptiveAvgPool2d(_POOLED), nn.Flatten(), *hidden, nn.Linear(_HIDDEN, num_classes))

    def published(self, head: bool) -> PublishedVGG16:
        """The layers of this network under torchvision's names: weights that are loaded into them are loaded here.

        :param head: whether the three linear layers are among them.
        """
        features = [layer for stage in self.stages for layer in stage.children() if not isinstance(layer, Normalize)]
        return PublishedVGG16(features, list(self.head)[2:] if head else [])


class PublishedVGG16(nn.Module):
    """Layers named as in torchvision's files of weights: features.N and classifier.N."""

    def __init__(self, features: list[nn.Module], classifier: list[nn.Module]) -> None:
        super().__init__()
        self.features, self.classifier = nn.Sequential(*features), nn.Sequential(*classifier)


class LinearVGG16(VGG16):
    """The same convolutions with one linear layer on globally average-pooled features, which few images can train."""

    def _head(self, channels: int, num_classes: int) -> nn.Sequential:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))

    @torch.no_grad()
    def pooled(self, x: Tensor) -> Tensor:
        """The input of the linear layer, (N, channels), for images x (N, C, H, W) in [0, 1]."""
        return self.head[:2](self.features(x, len(self.stages)))

    @torch.no_grad()
    def set_linear(self, weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor) -> None:
        """Make the logits weight @ (pooled - mean) / std + bias.

        :param weight: (classes, channels); bias (classes,); mean and std (channels,).
        """
        linear = self.head[2]
        assert isinstance(linear, nn.Linear)
        linear.weight.copy_(weight / std)
        linear.bias.copy_(bias - weight @ (mean / std))


class NarrowVGG16(LinearVGG16):
    """The same with an eighth of the channels, for data without published weights."""

    narrower = 8
