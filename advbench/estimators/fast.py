"""A faster copy of a module for gradients: batch norm folded into the convolutions, channels last, perhaps compiled.

A copy is used only where its logits and gradients are those of the module on a probe; otherwise the module itself is.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.fx.experimental.optimization import fuse
from torch.optim.optimizer import register_optimizer_step_post_hook

from advbench.device import float32
from advbench.files import first_line
from advbench.models.tapped import TappedModule
from advbench.seeds import own_global_state


def version(module: nn.Module) -> tuple[tuple[int, int], ...]:
    """A value that differs whenever PyTorch has counted a change of a parameter or buffer of the module."""
    return tuple((id(t), t._version) for t in (*module.parameters(), *module.buffers()))


def _count_fused_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Count the change: a fused optimizer does not, and attacks would continue with a copy of the old weights."""
    for group in optimizer.param_groups:
        if group.get("fused"):
            for parameter in group["params"]:
                increment_version(parameter)


register_optimizer_step_post_hook(_count_fused_step)


def folded_copy(module: nn.Module, input_shape: tuple[int, ...], device: torch.device) -> nn.Module:
    """The module with batch norm folded and channels last, or only the latter where folding cannot be trusted."""
    plain = copy.deepcopy(module).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    if not any(isinstance(part, nn.BatchNorm2d) for part in plain.modules()):
        return plain
    try:
        folded = _folded(plain)
        _check_equal(folded, plain, input_shape, device)
    except Exception as error:  # torch.fx refuses some models in many ways; none of them may change a result
        warnings.warn(f"batch norm is not folded, gradients will be slower: {first_line(error)}", stacklevel=3)
        return plain
    return folded.to(memory_format=torch.channels_last)


def compiled_copy(module: nn.Module, input_shape: tuple[int, ...], device: torch.device) -> nn.Module:
    """The module with a compiled forward, or the module itself where compiling fails or changes a result."""
    fast = copy.deepcopy(module)
    try:
        fast.compile()
        _check_equal(fast, module, input_shape, device)
    except Exception as error:  # no compiler, or a model that it refuses
        warnings.warn(f"the model is not compiled, gradients will be slower: {first_line(error)}", stacklevel=3)
        return module
    return fast


def _folded(module: nn.Module) -> nn.Module:
    if not isinstance(module, TappedModule):
        return fuse(module)
    folded = copy.deepcopy(module)  # stage by stage, so that the taps stay
    folded.stages = nn.ModuleList([fuse(stage) for stage in module.stages])
    folded.head = fuse(module.head)
    return folded


def _check_equal(fast: nn.Module, plain: nn.Module, input_shape: tuple[int, ...], device: torch.device) -> None:
    """:raises AssertionError: if logits or gradients differ by more than a thousandth of the largest."""
    probe = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    for found, expected in zip(_logits_and_gradient(fast, probe), _logits_and_gradient(plain, probe), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


def _logits_and_gradient(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_(True)
    with torch.enable_grad(), float32(), own_global_state():  # a random module draws the same for both
        logits = module(x)
        (gradient,) = torch.autograd.grad(logits.square().sum(), x)
    return logits.detach(), gradient
