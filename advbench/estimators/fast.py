"""The gradient of a model, faster: what is computed is the model itself, layer by layer, and never a copy of it.

Layers of known kinds are computed here: a convolution and the batch norm behind it as one convolution, channels last, and
without the gradients of weights. Everything else (an own ``forward``, a hook, a subclass, a replaced method) is called as it
is. Weights are read, and folded, at every call, so whatever changed since the last one is seen, however it was changed.
An attack of thousands of passes may read them once, where only known layers run in between: see ``weights_read_once``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils import checkpoint

from advbench.models.convolution import Conv2d
from advbench.models.tapped import Composite, TappedModule

_LAYERS = (
    *(nn.Sequential, nn.Conv2d, Conv2d, nn.BatchNorm2d, nn.Linear, nn.Flatten, nn.Unflatten, nn.Identity),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.Softplus),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Dropout2d),
)
"""Kinds whose result does not depend on the memory format, and whose bfloat16 is accurate enough for a gradient."""

_Weights = tuple[Tensor, Tensor | None]
_READ: ContextVar[Mapping[nn.Module, dict[Any, _Weights]]] = ContextVar("weights", default=MappingProxyType({}))
"""Of each layer whose weights are read once, what was read of it."""

_CALLED = ("__call__", "_call_impl", "forward", "_conv_forward")


def _called(kind: type) -> tuple[Any, ...]:
    """What a call of a layer runs, which a user may replace in its class."""
    return tuple(getattr(kind, name, None) for name in _CALLED)


_AS_IMPORTED = {kind: _called(kind) for kind in (*_LAYERS, Composite)}


class GradientModel(nn.Module):
    """The function of a model, for gradients with respect to its input.

    Logits and gradients are the model's own up to rounding, at the present weights. A pass costs as much as one of the
    model, or less; folding batch norm anew costs a few operations on the weights of each convolution.

    Images (N, C, H, W) -> logits (N, classes). In bfloat16 under autocast, except where the model's own code runs.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with calling_model():  # a clone: the model may change its input in place
            return logits(_compute(self.model, x.clone()), len(x))

    def features(self, x: Tensor, position: int) -> Tensor:
        """The activations of a model with taps at AD(position)."""
        assert isinstance(self.model, TappedModule)
        return self.model.features(x.clone(), position, _chain)

    def forward_from(self, features: Tensor, position: int) -> Tensor:
        """Its logits from the activations at AD(position)."""
        assert isinstance(self.model, TappedModule)
        return logits(self.model.forward_from(features, position, _chain), len(features))


def logits(outputs: Any, n: int) -> Any:
    """The outputs of a model for n images as float (n, classes); what holds no logits is returned as it is.

    A model may compute in half precision, return (classes,) for a single image, as those do that call ``squeeze()``, or
    return several things of which one is named ``logits``, as those of Hugging Face do.
    """
    if not isinstance(outputs, Tensor):
        named = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
        if not isinstance(named, Tensor):
            return outputs
        outputs = named
    if outputs.dtype in (torch.bfloat16, torch.float16):
        outputs = outputs.float()
    return outputs[None] if outputs.ndim == 1 and n == 1 < len(outputs) else outputs


def probe_gradient(module: nn.Module, x: Tensor) -> Tensor | None:
    """The gradient (N, C, H, W) of a fixed weighted sum of a model's logits for images x; None where none reaches them."""
    with torch.enable_grad(), calling_model():
        x = x.detach().clone().requires_grad_(True)
        outputs = logits(module(x.clone()), len(x))  # a clone: the model may change its input in place
        if not outputs.requires_grad:
            return None
        weights = torch.rand(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs)
        return torch.autograd.grad((outputs * weights).sum(), x, allow_unused=True)[0]


def alike(first: Tensor, second: Tensor, tolerance: float) -> Tensor:
    """Which rows of logits (N, classes) are the same, bool (N,).

    :param tolerance: a share of the spread of a row, for logits have no scale; the rounding of float32 comes on top.
    """
    difference, spread = (second - first).abs().amax(1), first.amax(1) - first.amin(1)
    return difference <= tolerance * spread + 1e-6 * first.abs().amax(1)


@contextmanager
def weights_read_once(model: nn.Module) -> Iterator[None]:
    """Inside, the weights of a model's convolutions are folded, and brought to bfloat16 under autocast, at the first pass alone.

    On a few small images that is a third of a forward pass. It is done for a model all of whose layers are known: a layer of the
    user's own may change the weights of another one while it runs.
    """
    token = _READ.set({layer: {} for layer in model.modules()} if _is_all_known(model) else {})
    try:
        yield
    finally:
        _READ.reset(token)


@contextmanager
def calling_model() -> Iterator[None]:
    """A frame for a call of a user's model, which may switch gradients or the default type: they are switched back.

    Reentrant checkpoints become the others, of equal gradient: they forbid ``torch.autograd.grad``.
    """
    enabled, default, reentrant = torch.is_grad_enabled(), torch.get_default_dtype(), checkpoint.CheckpointFunction
    checkpoint.CheckpointFunction = _Checkpoint  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        checkpoint.CheckpointFunction = reentrant  # type: ignore[misc]
        torch.set_grad_enabled(enabled)
        torch.set_default_dtype(default)


class _Checkpoint:
    @staticmethod
    def apply(function: Any, preserve_rng_state: bool, *args: Any) -> Any:
        return checkpoint.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=preserve_rng_state)


def _chain(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    waiting = list(layers)
    while waiting:
        layer = waiting.pop(0)
        if waiting and type(x) is Tensor and _folds(layer, waiting[0]):
            x = _convolve(layer, x, waiting.pop(0))
        else:
            x = _compute(layer, x)
    return x


def _compute(layer: nn.Module, x: Tensor) -> Tensor:
    """The layer's output: computed here where its kind is known, otherwise by calling it as PyTorch does."""
    if not (type(x) is Tensor and _is_known(layer)):  # a subclass may compute in another way
        return _call(layer, x)
    if isinstance(layer, nn.Sequential):
        return _chain(layer, x)
    if isinstance(layer, Composite):
        return layer.compose(x, _chain)
    if type(layer) in (nn.Conv2d, Conv2d):
        return _convolve(layer, x)
    if type(layer) is nn.Linear:
        return F.linear(x, layer.weight.detach(), None if layer.bias is None else layer.bias.detach())
    return layer(_channels_last(x))


def _call(layer: nn.Module, x: Tensor) -> Tensor:
    """An unknown layer sees what it would see without us: float32, in the usual memory format."""
    x = in_format(x)
    if not torch.is_autocast_enabled(x.device.type):
        return layer(x)
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.float() if x.dtype is torch.bfloat16 else x)


def in_format(x: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    """The images in a memory format, with its strides.

    ``contiguous`` leaves images of one channel, or of one pixel, as they are: they are in both formats, and a convolution
    may take them for those of the other one.
    """
    x = x.contiguous(memory_format=memory_format)
    is_exact = x.stride() == torch.empty(x.shape, device="meta", memory_format=memory_format).stride()
    return x if is_exact else x.clone(memory_format=memory_format)


def _convolve(layer: nn.Module, x: Tensor, norm: nn.Module | None = None) -> Tensor:
    """A convolution, with the batch norm that follows folded into it."""
    assert isinstance(layer, nn.Conv2d)
    read = _READ.get().get(layer)
    if read is None:
        weight, bias = _weights(layer, norm)
    else:
        dtype = layer.weight.dtype
        if dtype is torch.float32 and torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
        if (norm, dtype) not in read:
            weight, bias = _weights(layer, norm)
            read[norm, dtype] = weight.to(dtype), None if bias is None else bias.to(dtype)
        weight, bias = read[norm, dtype]
    return layer._conv_forward(_channels_last(x), weight, bias)


def _weights(layer: nn.Conv2d, norm: nn.Module | None) -> _Weights:
    """The weights, channels last, and bias of a convolution, with the batch norm that follows folded into them."""
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    if norm is not None:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        statistics = norm.running_mean, norm.running_var, norm.eps
        with torch.no_grad():
            weight, bias = fuse_conv_bn_weights(weight, bias, *statistics, norm.weight, norm.bias)
    return weight.to(memory_format=torch.channels_last), bias


def _folds(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether the second is a batch norm in eval mode that can be folded into the first, a convolution."""
    if not (type(layer) is nn.Conv2d and type(norm) is nn.BatchNorm2d and _is_known(layer) and _is_known(norm)):
        return False
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return False
    tensors = (layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return {t.dtype for t in tensors if t is not None} == {layer.weight.dtype} and len(norm.running_mean) == len(
        layer.weight
    )


def _is_known(layer: nn.Module) -> bool:
    """Whether calling the layer does what its class says and nothing else, in any memory format."""
    kind: type = type(layer)
    if not vars(layer).keys().isdisjoint(_methods(kind)) or torch_module._has_any_global_hook():
        return False
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks:
        return False
    if not all(map(_is_plain, (*layer._parameters.values(), *layer._buffers.values()))):
        return False
    if kind in _AS_IMPORTED:
        return _called(kind) == _AS_IMPORTED[kind]
    composite = issubclass(kind, Composite) and _called(kind) == _AS_IMPORTED[Composite]
    if composite and issubclass(kind, TappedModule):
        return kind.features is TappedModule.features and kind.forward_from is TappedModule.forward_from
    return composite or kind.__module__.startswith("advbench.models.")


def _is_all_known(module: nn.Module) -> bool:
    return all(_is_known(part) or type(part) is nn.ModuleList for part in module.modules())


def _is_plain(tensor: Tensor | None) -> bool:
    """Whether it is a dense tensor, and of no subclass, which may compute in another way."""
    return tensor is None or (type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided)


@cache
def _methods(kind: type) -> frozenset[str]:
    return frozenset(name for base in kind.__mro__ for name, value in vars(base).items() if callable(value))


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


@contextmanager
def training_format(module: nn.Module) -> Iterator[torch.memory_format]:
    """The memory format to train a module in: channels last if all its layers are known, and undone at the end."""
    if not _is_all_known(module):
        yield torch.contiguous_format
        return
    strides = [(tensor, tensor.stride()) for tensor in (*module.parameters(), *module.buffers())]
    module.to(memory_format=torch.channels_last)
    try:
        yield torch.channels_last
    finally:
        for tensor, stride in strides:
            if tensor.stride() != stride:
                tensor.data = torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype, device=tensor.device).copy_(
                    tensor
                )
