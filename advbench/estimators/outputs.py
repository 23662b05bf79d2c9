"""What a model returns: logits, probabilities, sigmoids or logarithms of them, told apart and made logits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from advbench import checks
from advbench.device import WideProbabilities
from advbench.errors import UsageError
from advbench.estimators.fast import calling_model

Outputs = Literal["logits", "probabilities", "log-probabilities", "sigmoid", "log-sigmoid"]
"""What a model returns: a number a class; ``sigmoid`` for a probability of its own a class, ``log-sigmoid`` for its logarithm."""

_TINY = torch.finfo(torch.float32).tiny
_NEAREST_TO_ONE = 2**-25  # closer to 1 than any other float32
_SAME_KIND = (
    *("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Select", "Slice", "Permute", "Transpose", "Clone"),
    *("ToCopy", "Mean", "AvgPool", "AdaptiveAvgPool", "NativeDropout"),
    *("Mul", "Div", "Add0", "AddBackward", "Sub", "Rsub", "Neg"),
)
"""Starts of the names of PyTorch's backward functions that change the shape or the scale of values and not their kind."""
_KINDS = {
    **dict.fromkeys(
        ("Relu", "LeakyRelu", "Hardtanh", "Addmm", "Mm", "Linear", "Convolution", "MkldnnConvolution"), "linear"
    ),
    **dict.fromkeys(("Softmax", "SafeSoftmax"), "softmax"),
    **dict.fromkeys(("Sigmoid", "Hardsigmoid"), "sigmoid"),
    **dict.fromkeys(("LogSigmoid", "Softplus"), "log-sigmoid"),
    "Tanh": "tanh",
}
_WAY_OUT = "--outputs {} converts them, with the figures of the logits; {}"


class AsLogits(nn.Module):
    """A model whose outputs are made logits, of which the model's probabilities are the softmax or the sigmoid.

    Two logits, (0, z), come from one output of a model for two classes. Probabilities may have any common factor.

    :param is_wide: whether the model's softmax or sigmoid of rows is in float32, where the model has it in half precision.
    """

    def __init__(self, module: nn.Module, outputs: Outputs, is_wide: bool = False) -> None:
        super().__init__()
        self.module, self.outputs, self.is_wide = module, outputs, is_wide

    def forward(self, x: Tensor) -> Tensor:
        with calling_model(), WideProbabilities(rows_only=True) if self.is_wide else nullcontext():
            out = self.module(x).float()
        out = out[:, None] if out.ndim == 1 else out
        if self.outputs == "sigmoid" or (self.outputs == "probabilities" and out.shape[1] == 1):
            out = out.clamp_min(_TINY).log() - (1 - out).clamp_min(_NEAREST_TO_ONE).log()
        elif self.outputs == "log-sigmoid":
            out = out - (-out.expm1()).clamp_min(_TINY).log()
        elif self.outputs == "probabilities":
            out = out.clamp_min(_TINY).log()
        return torch.cat([torch.zeros_like(out), out], 1) if out.shape[1] == 1 else out


def last_function(module: nn.Module, x: Tensor) -> str:
    """What the outputs are, up to their shape and scale: of ``_KINDS`` the last function that PyTorch recorded, or nothing."""
    try:
        with torch.enable_grad(), calling_model():
            last = module(x.detach().clone().requires_grad_(True).clone()).grad_fn
    except Exception:  # of a model that has no gradient
        return ""
    is_log = False
    while last is not None:
        name = last.name()
        is_log |= name.startswith("LogBackward")
        before = [each for each, _ in last.next_functions if each is not None and "AccumulateGrad" not in each.name()]
        if not (is_log or name.startswith(_SAME_KIND)) or len(before) != 1:
            break
        last = before[0]
        if is_log and last.name().startswith("Sigmoid"):
            return "log-sigmoid"
    name = "" if last is None else last.name()
    return next((kind for start, kind in _KINDS.items() if name.startswith(start)), "")


def compare_outputs(found: np.ndarray, named: Outputs | None, last_function: Callable[[], str]) -> list[str]:
    """Notes on outputs (N, classes), or (N, 1), that are no plain logits.

    :param last_function: the model's, in the words of ``_KINDS``; asked only where nothing is named.
    :raises UsageError: if they are not what was named, or, where nothing was, if they are evidently no logits.
    """
    low, high, totals = found.min(), found.max(), found.sum(1)
    single = found.shape[1] == 1
    last = last_function() if named is None else ""
    is_unit = low >= 0 and high <= 1 + checks.ROUNDING and last != "linear"
    shares = not single and low >= 0 and _have_one_total(found)
    logs = not single and high <= 0 and _have_one_total_of_exp(found)
    if named is None:
        _refuse_unnamed(single, is_unit, shares, float(np.median(totals)))
        if not single and low >= 0 and _have_one_total_of_exp(-found):
            raise UsageError("the model returns negative log-probabilities: change their sign, which makes them logits")
        if logs:
            return [
                "the model returns log-probabilities: taken as logits, which is exact (softmax leaves them as they are)"
            ]
        if last == "log-sigmoid" and high <= 0:
            raise UsageError(
                "the model returns the logarithm of a sigmoid a class, whose gradients vanish; "
                + _WAY_OUT.format("log-sigmoid", "or return the logits before it")
            )
        if last in ("softmax", "sigmoid"):
            raise UsageError(
                f"the model's outputs ({low:.3g}..{high:.3g}) are a {last} up to scale: behind it gradients vanish and attacks "
                "fail for no good reason; return the logits before it, or --outputs logits takes them as they are"
            )
        if last == "tanh":
            return [
                f"THE MODEL ENDS IN A TANH ({low:.3g}..{high:.3g}), taken as logits: behind it gradients vanish and attacks "
                "fail for no good reason; return what goes into it"
            ]
        if low >= 0 or high <= 0:
            return [
                f"the model returns no {'negative' if low >= 0 else 'positive'} number ({low:.3g}..{high:.3g}): taken as "
                "logits; if they are not, say what they are with --outputs"
            ]
        return []
    fits = {
        "logits": True,
        "probabilities": shares or (single and is_unit),
        "log-probabilities": logs,
        "sigmoid": is_unit,
        "log-sigmoid": high <= 0,
    }
    if not fits[named]:
        raise UsageError(
            f"--outputs {named} does not fit: the model returns {low:.3g}..{high:.3g}, and rows sum to "
            f"{totals.min():.3g}..{totals.max():.3g}"
        )
    taken = {
        "logits": "logits",
        "probabilities": "probabilities: evaluated by their logarithm",
        "log-probabilities": "log-probabilities: taken as logits, which is exact (softmax leaves them as they are)",
        "sigmoid": "a sigmoid a class: evaluated by the logits before it",
        "log-sigmoid": "the logarithm of a sigmoid a class: evaluated by the logits before it",
    }
    return [f"--outputs {named}: the model returns {taken[named]}"]


def _refuse_unnamed(single: bool, is_unit: bool, shares: bool, total: float) -> None:
    if single:
        kind, what = ("sigmoid", "the probability") if is_unit else ("logits", "the logit")
        raise UsageError(
            f"the model returns one number an image; --outputs {kind} takes it for {what} of the second of two classes"
        )
    if shares:
        factor = "" if abs(total - 1) < 0.02 else f" times {total:.4g}"
        raise UsageError(
            f"the model returns probabilities{factor} (rows sum to {total:.4g}): behind a softmax gradients vanish and "
            f"attacks fail for no good reason; {_WAY_OUT.format('probabilities', 'or return the logits before it')}"
        )
    if is_unit:
        raise UsageError(
            "the model returns numbers in 0..1 that do not sum to 1, as a sigmoid a class does: behind it gradients vanish "
            f"and attacks fail for no good reason; {_WAY_OUT.format('sigmoid', '--outputs logits takes them as they are')}"
        )


def _have_one_total(found: np.ndarray) -> bool:
    """Whether all rows have one sum, exactly 1, or any other up to the rounding of a low precision."""
    totals = found.sum(1)
    total = np.median(totals)
    if np.allclose(totals, 1, atol=1e-4):
        return True
    is_constant = total > 0 and np.abs(totals - total).max() <= 0.05 * total  # probabilities may be rounded or clipped
    return bool(is_constant and totals.std() < 0.1 * found.std(0).mean())  # not of a network that answers all alike


def _have_one_total_of_exp(found: np.ndarray) -> bool:
    """Whether the rows are logarithms of probabilities."""
    with np.errstate(over="ignore"):
        return np.allclose(np.log(np.exp(found).sum(1)), 0, atol=2e-2)


def is_saturated(logits: np.ndarray, outputs: Outputs | None) -> np.ndarray:
    """Which rows come from probabilities of which one is 1 and all others are 0, or, of a sigmoid, one is 1."""
    ordered = np.sort(logits, 1)
    if outputs == "probabilities":
        return ordered[:, -2] <= np.log(_TINY) + 1e-3
    if outputs == "log-sigmoid":
        return ordered[:, -1] >= -np.log(_TINY) - 1e-3
    return ordered[:, -1] >= -np.log(_NEAREST_TO_ONE) - 1e-3 if outputs == "sigmoid" else np.zeros(len(logits), bool)
