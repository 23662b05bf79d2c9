"""Steps without gradient: forward exact, backward through a stand-in (BPDA; Athalye et al., 2018, https://arxiv.org/abs/1802.00420, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode

from advbench.errors import UsageError
from advbench.estimators.fast import calling_model, logits, probe_gradient
from advbench.files import first_line, place

StandIn = Callable[[nn.Module, Tensor], Tensor]
"""A model and images (N, C, H, W) -> logits (N, classes), with a gradient that is of use."""


class BackwardModel(nn.Module):
    """The outputs of a module, to the bit, with the gradient of a stand-in.

    :param stand_in: computes the module's function differentiably; called for gradients alone.
    :param name: of the stand-in, for errors.
    """

    def __init__(self, module: nn.Module, stand_in: StandIn, name: str = "") -> None:
        super().__init__()
        self.module, self.stand_in, self.name = module, stand_in, name

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes).

        :raises UsageError: where a gradient is wanted and the stand-in fails, or returns something else than such logits.
        """
        if not (torch.is_grad_enabled() and x.requires_grad):
            with calling_model():
                return self.module(x)
        with torch.no_grad(), calling_model():
            exact = logits(self.module(x.detach().clone()), len(x))
        try:
            with calling_model():
                soft = logits(self.stand_in(self.module, x.clone()), len(x))
        except Exception as error:  # a user's function may raise anything
            raise UsageError(f"--backward {self.name} fails: {place(error)}") from error
        if not isinstance(soft, Tensor) or soft.shape != exact.shape:
            found = tuple(soft.shape) if isinstance(soft, Tensor) else type(soft).__name__
            raise UsageError(
                f"--backward {self.name} must return logits {tuple(exact.shape)} for (model, x), not {found}"
            )
        return _Through.apply(soft, exact)


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, soft: Tensor, exact: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def check_backward(module: nn.Module, x: Tensor) -> None:
    """Try the stand-in inside of a module, if there is one, on images x (N, C, H, W).

    :raises UsageError: where it fails, or lets no gradient through.
    """
    part = next((each for each in module.modules() if isinstance(each, BackwardModel)), None)
    if part is None:
        return
    try:
        gradient = probe_gradient(module, x)
    except RuntimeError as error:  # of a step that has no derivative in PyTorch
        raise UsageError(f"--backward {part.name} fails: {first_line(error)}") from error
    if gradient is not None and gradient.count_nonzero():
        return
    if part.stand_in is identity:
        way = (
            "the steps are no rounding, comparison, conversion, detach, no_grad, or layer with outputs of the shape of its "
            "inputs; give --backward file.py:function"
        )
    else:
        way = "it has a step without gradient of its own"
    raise UsageError(f"--backward {part.name}: no gradient reaches the images: {way}")


def identity(model: nn.Module, x: Tensor) -> Tensor:
    """The model, with the identity in the backward pass of every step that rounds, compares, converts or detaches.

    Also of a layer, such as one in NumPy, that returns a tensor of the shape of its input without a gradient.
    """
    handle = register_module_forward_hook(_straight)
    try:
        with _Identity():
            return model(x)
    finally:
        handle.remove()


def _straight(_module: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> Any:
    x = inputs[0] if inputs else None
    if not (isinstance(x, Tensor) and isinstance(outputs, Tensor) and x.requires_grad and not outputs.requires_grad):
        return None
    return _as(x, outputs) if x.shape == outputs.shape and outputs.is_floating_point() else None


def _as(x: Tensor, value: Tensor) -> Tensor:
    """The value, with the gradient of x."""
    with torch.enable_grad():
        return _Through.apply(x, value.to(x.dtype))


_ROUNDING = {"round", "floor", "ceil", "trunc", "fix", "sign", "sgn"}
_COMPARING = {
    "gt", "ge", "lt", "le", "greater", "greater_equal", "less", "less_equal", "__gt__", "__ge__", "__lt__", "__le__"
}  # fmt: skip
_CONVERTING = {"float", "double", "half", "bfloat16", "to", "type", "type_as"}


class _Identity(TorchFunctionMode):
    """Each operation as it is; integers and booleans remember the floats that they come from."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "_set_grad_enabled":  # no_grad in the model
            return None
        if name in ("detach", "detach_") or func == Tensor.data.__get__:  # type: ignore[attr-defined]
            return args[0]
        if name in ("numpy", "__array__"):
            return func(args[0].detach(), *args[1:], **(kwargs or {}))
        if name.removesuffix("_") in _ROUNDING and name.endswith("_"):
            x = args[0]
            return x.add_((func(x.detach().clone(), *args[1:], **(kwargs or {})) - x).detach())
        if name in ("floor_divide", "__floordiv__") and len(args) == 2:
            return _as(args[0] / args[1], func(args[0].detach(), args[1]))
        out = func(*args, **(kwargs or {}))
        source = next((each for each in args if isinstance(each, Tensor)), None)
        if source is None or not isinstance(out, Tensor) or out.shape != source.shape:
            return out
        origin = getattr(source, "_origin", None)
        if source.is_floating_point() and out.is_floating_point():
            return _as(source, out) if name in _ROUNDING else out
        if out.is_floating_point():  # from integers or booleans
            return _as(origin, out) if origin is not None and name in _CONVERTING else out
        if source.is_floating_point():
            sign = -1 if name.strip("_") in ("lt", "le", "less", "less_equal") else 1
            origin = sign * source if name in _COMPARING or name not in ("isnan", "isinf", "isfinite") else None
        if origin is not None:
            out._origin = origin  # type: ignore[attr-defined]
        return out
