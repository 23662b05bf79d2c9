"""A classifier whose Lipschitz constant is known: spectral normalisation of every layer, and the bound that it gives."""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.models.tapped import Channels, Normalize, TappedModule


class _Spectral(nn.Module):
    """A layer whose weight is divided by its operator norm, which power iteration tracks in training.

    Miyato et al. (2018, https://arxiv.org/abs/1802.05957), but with the norm of the convolution itself (Gouk et al.,
    2021, https://arxiv.org/abs/1804.04368, section 3.3), not of its reshaped kernel.
    """

    weight: Tensor
    probe: Tensor

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def normalised(self) -> Tensor:
        """The weight over its norm at the probe, the estimate of the leading singular vector."""
        if self.training:
            self.iterate(1)
        return self.weight / self.apply_weight(self.probe, self.weight).norm().clamp_min(1e-12)

    def iterate(self, steps: int) -> None:
        """Steps of power iteration of W^T W on the probe."""
        weight = self.weight.detach()
        with torch.enable_grad():
            for _ in range(steps):
                probe = self.probe.clone().requires_grad_()
                half_square = self.apply_weight(probe, weight).square().sum() / 2
                (image,) = torch.autograd.grad(half_square, probe)  # W^T W probe
                self.probe.copy_(image / image.norm().clamp_min(1e-12))


class SpectralConv2d(nn.Conv2d, _Spectral):
    """A 3x3 convolution with padding 1 of operator norm one on maps of a given size.

    :param size: (H, W) of the maps.
    """

    def __init__(self, channels_in: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__(channels_in, channels, 3, padding=1)
        self.size = size
        nn.init.orthogonal_(self.weight)
        probe = torch.randn(1, channels_in, *size)
        self.register_buffer("probe", probe / probe.norm())
        self.iterate(20)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.normalised(), self.bias, padding=1)

    def norm_bound(self) -> float:
        """An upper bound on the operator norm of the layer as it is applied.

        A convolution with zero padding is a part of the circular one on a torus larger by the kernel's reach, whose norm
        is the largest singular value over the frequencies of that torus (Sedghi et al., 2019, theorem 6).
        """
        weight = self.normalised().detach().double()
        height, width = (n + 2 for n in self.size)
        transfer = torch.fft.rfft2(weight, s=(height, width)).permute(2, 3, 0, 1)
        return _largest_singular_value(transfer)


class SpectralLinear(nn.Linear, _Spectral):
    """A fully connected layer of operator norm one."""

    def __init__(self, features_in: int, features: int) -> None:
        super().__init__(features_in, features)
        nn.init.orthogonal_(self.weight)
        self.register_buffer("probe", F.normalize(torch.randn(1, features_in), dim=1))
        self.iterate(20)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.normalised(), self.bias)

    def norm_bound(self) -> float:
        """The operator norm of the layer as it is applied."""
        return _largest_singular_value(self.normalised().detach().double())


def _largest_singular_value(matrices: Tensor) -> float:
    """The largest of all matrices (..., rows, columns), from the smaller Gram matrix: much cheaper than a decomposition."""
    wide = matrices if matrices.shape[-2] <= matrices.shape[-1] else matrices.mH
    return float(torch.linalg.eigvalsh(wide @ wide.mH)[..., -1].max().clamp_min(0).sqrt())


class Scale(nn.Module):
    """Multiplication by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Pad(nn.Module):
    """Zeros around smaller images, up to 32 x 32, which leave all distances between images as they are.

    :raises ValueError: for images that are larger, or whose size is odd.
    """

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if max(height, width) > 32 or height % 2 or width % 2:
            raise ValueError(f"images must be at most 32 x 32 and of even size, not {height} x {width}")
        rows, columns = (32 - height) // 2, (32 - width) // 2
        return F.pad(x, (columns, columns, rows, rows)) if rows or columns else x


class LipschitzCNN(TappedModule):
    """Three blocks of a 3x3 convolution, ReLU and 2x2 max-pooling, then two fully connected layers, all of norm one.

    Images are 32 x 32, or smaller and of even size, which are padded with zeros. Taps: AD(0) the image, AD(1)
    32 x 16 x 16, AD(2) 64 x 8 x 8, AD(3) 128 x 4 x 4. ReLU and pooling over windows that do not overlap have constant one
    in l2; a ``std`` below 1 raises the constant.

    :param constant: the factor of the logits, which layers of norm one alone hardly separate.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        mean: Channels = (0.0,),
        std: Channels = (1.0,),
        constant: float = 10.0,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [
                nn.Sequential(Normalize(mean, std), Pad(), *_block(in_channels, 32, 32)),
                nn.Sequential(*_block(32, 64, 16)),
                nn.Sequential(*_block(64, 128, 8)),
            ]
        )
        self.head = nn.Sequential(
            nn.Flatten(), SpectralLinear(128 * 4 * 4, 256), nn.ReLU(), SpectralLinear(256, num_classes), Scale(constant)
        )

    def settle(self) -> None:
        """Run power iteration to convergence after the training: the layers' norms are then one up to rounding."""
        for module in self.modules():
            if isinstance(module, (SpectralConv2d, SpectralLinear)):
                module.iterate(200)

    @torch.no_grad()
    def lipschitz_bound(self) -> float:
        """An upper bound on |f(x) - f(x')| / |x - x'| in l2 for the network in eval mode, in units of images in [0, 1]."""
        was_training = self.training
        self.eval()
        factors = [m.norm_bound() for m in self.modules() if isinstance(m, (SpectralConv2d, SpectralLinear))]
        factors += [m.factor for m in self.modules() if isinstance(m, Scale)]
        factors += [1 / float(m.std.min()) for m in self.modules() if isinstance(m, Normalize)]
        self.train(was_training)
        return prod(factors)


def _block(channels_in: int, channels: int, size: int) -> list[nn.Module]:
    return [SpectralConv2d(channels_in, channels, (size, size)), nn.ReLU(), nn.MaxPool2d(2)]
