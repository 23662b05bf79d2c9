"""Convolutions as matrix products, for the two shapes at which oneDNN is slow on a CPU; elsewhere PyTorch's own.

A 5 x 5 convolution onto a map of 2 x 2 runs at an eighth of the processor's speed, and the gradient at an image of one
channel is slower still: a matrix product over the patches of the map computes both at nearly full speed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SMALL_MAP = 16
"""Positions of the smaller map up to which the matrix product is faster."""


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` with equal weights, results and gradients up to rounding; first derivatives only on a CPU."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not _applies(self, input):
            return super()._conv_forward(input, weight, bias)
        size = [(n + 2 * p - k) // s + 1 for n, p, k, s in _geometry(self, input)]
        patches = Patches(tuple(input.shape[2:]), tuple(size), self.kernel_size, self.stride, _padding(self))
        shift = bias if bias is not None else input.new_zeros(self.out_channels)
        if size[0] * size[1] <= SMALL_MAP:
            return _Down.apply(input, weight, shift, patches)
        if self.in_channels == 1:
            return _OneChannel.apply(input, weight, shift, patches)
        return super()._conv_forward(input, weight, bias)


class ConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` with equal weights, results and gradients up to rounding; first derivatives only on a CPU."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None or not _applies(self, input) or input.shape[2] * input.shape[3] > SMALL_MAP:
            return super().forward(input, output_size)
        size = [
            (n - 1) * s - 2 * p + k + more
            for (n, p, k, s), more in zip(_geometry(self, input), self.output_padding, strict=True)
        ]
        patches = Patches(tuple(size), tuple(input.shape[2:]), self.kernel_size, self.stride, _padding(self))
        bias = self.bias if self.bias is not None else input.new_zeros(self.out_channels)
        return _Up.apply(input, self.weight, bias, patches)


class Patches(NamedTuple):
    """The windows of a large map that the positions of a small one see."""

    large: tuple[int, ...]
    small: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @property
    def padded(self) -> tuple[int, ...]:
        """The size of the large map with its padding, and at least that of all windows."""
        sizes = zip(self.large, self.small, self.kernel, self.stride, self.padding, strict=True)
        return tuple(max(n + 2 * p, (m - 1) * s + k) for n, m, k, s, p in sizes)

    def gather(self, x: Tensor) -> Tensor:
        """Channels-last maps (N, H, W, C) -> one window a row, (N * h * w, kh * kw * C)."""
        (h, w), (kh, kw), (sh, sw), (ph, pw) = self.small, self.kernel, self.stride, self.padding
        windows = F.pad(x, (0, 0, pw, pw, ph, ph)).unfold(1, kh, sh)[:, :h].unfold(2, kw, sw)[:, :, :w]
        return windows.permute(0, 1, 2, 4, 5, 3).reshape(len(x) * h * w, -1)

    def scatter(self, rows: Tensor, channels: int) -> Tensor:
        """The adjoint of ``gather``: windows are added up where they overlap, -> (N, H, W, channels)."""
        (h, w), (kh, kw), (sh, sw), (ph, pw) = self.small, self.kernel, self.stride, self.padding
        windows = rows.view(-1, h, w, kh, kw, channels)
        out = rows.new_zeros(len(windows), *self.padded, channels)
        for i in range(kh):
            for j in range(kw):
                out[:, i : i + (h - 1) * sh + 1 : sh, j : j + (w - 1) * sw + 1 : sw] += windows[:, :, :, i, j]
        return out[:, ph : ph + self.large[0], pw : pw + self.large[1]]


def _applies(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and x.ndim == 4
        and layer.weight.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
        and layer.groups == 1
        and tuple(layer.dilation) == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _padding(layer: nn.Conv2d | nn.ConvTranspose2d) -> tuple[int, ...]:
    assert not isinstance(layer.padding, str)  # PyTorch's own code takes these
    return layer.padding


def _geometry(layer: Any, x: Tensor) -> list[tuple[int, int, int, int]]:
    """Length, padding, kernel and stride along each axis."""
    return list(zip(x.shape[2:], layer.padding, layer.kernel_size, layer.stride, strict=True))


def _matrix(weight: Tensor) -> Tensor:
    """Weights (A, B, kh, kw) -> (A, kh * kw * B), the order of ``Patches.gather``."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def _weights(matrix: Tensor, like: Tensor) -> Tensor:
    a, b, kh, kw = like.shape
    return matrix.view(a, kh, kw, b).permute(0, 3, 1, 2)


class _Down(torch.autograd.Function):
    """A convolution onto a small map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, patches: Patches) -> Tensor:
        rows = patches.gather(x.permute(0, 2, 3, 1))
        ctx.save_for_backward(rows, weight)
        ctx.patches = patches
        return torch.addmm(bias, rows, _matrix(weight).t()).view(len(x), *patches.small, -1).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        rows, weight = ctx.saved_tensors
        g = gradient.permute(0, 2, 3, 1).reshape(-1, len(weight))
        x_needed, weight_needed, bias_needed, _ = ctx.needs_input_grad
        return (
            ctx.patches.scatter(g @ _matrix(weight), weight.shape[1]).permute(0, 3, 1, 2) if x_needed else None,
            _weights(g.t() @ rows, weight) if weight_needed else None,
            g.sum(0) if bias_needed else None,
            None,
        )


class _Up(torch.autograd.Function):
    """A transposed convolution from a small map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, patches: Patches) -> Tensor:
        rows = x.permute(0, 2, 3, 1).reshape(-1, len(weight))
        ctx.save_for_backward(rows, weight)
        ctx.patches = patches
        return (patches.scatter(rows @ _matrix(weight), weight.shape[1]) + bias).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        rows, weight = ctx.saved_tensors
        g = gradient.permute(0, 2, 3, 1)
        x_needed, weight_needed, bias_needed, _ = ctx.needs_input_grad
        windows = ctx.patches.gather(g)
        x = (windows @ _matrix(weight).t()).view(len(g), *ctx.patches.small, -1).permute(0, 3, 1, 2)
        return (
            x if x_needed else None,
            _weights(rows.t() @ windows, weight) if weight_needed else None,
            g.sum((0, 1, 2)) if bias_needed else None,
            None,
        )


class _OneChannel(torch.autograd.Function):
    """A convolution of images with one channel: only the gradient at the images is a matrix product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, patches: Patches) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.patches = patches
        return F.conv2d(x, weight, bias, patches.stride, patches.padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        x, weight = ctx.saved_tensors
        patches = ctx.patches
        x_needed, weight_needed, bias_needed, _ = ctx.needs_input_grad
        dx = dw = db = None
        if x_needed:
            g = gradient.permute(0, 2, 3, 1).reshape(-1, len(weight))
            dx = _scatter_one_channel(patches, _matrix(weight).t() @ g.t())
        if weight_needed or bias_needed:
            shape = (patches.stride, patches.padding, (1, 1), False, (0, 0), 1)  # dilation 1, not transposed, one group
            needed = (False, weight_needed, bias_needed)
            _, dw, db = torch.ops.aten.convolution_backward(gradient, x, weight, [len(weight)], *shape, needed)
        return dx, dw, db, None


def _scatter_one_channel(patches: Patches, columns: Tensor) -> Tensor:
    """``Patches.scatter`` for one channel, (kh * kw, N * h * w): adds whole maps, since a single channel has no runs of values."""
    (h, w), (kh, kw), (sh, sw), (ph, pw) = patches.small, patches.kernel, patches.stride, patches.padding
    shifts = columns.view(kh, kw, -1, h, w)
    out = columns.new_zeros(shifts.shape[2], *patches.padded)
    for i in range(kh):
        for j in range(kw):
            out[:, i : i + (h - 1) * sh + 1 : sh, j : j + (w - 1) * sw + 1 : sw] += shifts[i, j]
    return out[:, None, ph : ph + patches.large[0], pw : pw + patches.large[1]]
