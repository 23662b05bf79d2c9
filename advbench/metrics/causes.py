"""Why a gradient is missing: the steps of a model that have none, or the temperature of its logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch.overrides import TorchFunctionMode

from advbench.estimators import whole_model

_STEPS = {
    **dict.fromkeys(("round", "floor", "ceil", "trunc", "fix", "floor_divide", "__floordiv__"), "rounding"),
    **dict.fromkeys(("byte", "int", "long", "short", "char", "bool"), "conversion to integers"),
    **dict.fromkeys(("sign", "sgn", "heaviside", "bucketize", "histc"), "a step function"),
    **dict.fromkeys(("fake_quantize_per_tensor_affine", "quantize_per_tensor"), "quantisation"),
    **dict.fromkeys(("numpy", "__array__"), "NumPy"),
    **dict.fromkeys(("detach", "_set_grad_enabled"), "detach or no_grad"),
}
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)
_SATURATED = 50.0  # of the margin: softmax in float32 is exactly 1 from about 17 on for the gradient's largest part


def cause(classifier: PyTorchClassifier, x: np.ndarray) -> str:
    """What takes the gradient of images (N, C, H, W), as far as their forward pass shows it; empty where it does not."""
    found: dict[str, None] = {}
    model = whole_model(classifier)
    with torch.enable_grad(), _Watch(found):
        outputs = model(torch.from_numpy(np.array(x[:2], np.float32)).to(classifier.device).requires_grad_(True))
    ordered = np.sort(classifier.predict(x), 1)
    margin = float(np.median(ordered[:, -1] - ordered[:, -2]))
    if outputs.requires_grad and not found and margin > _SATURATED:
        found[f"temperature: the largest logit leads by {margin:.3g}, where softmax saturates"] = None
    return ", ".join(found)


class _Watch(TorchFunctionMode):
    def __init__(self, found: dict[str, None]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "to" and any(each in _INTEGERS for each in args[1:] if isinstance(each, torch.dtype)):
            self.found["conversion to integers"] = None
        if (step := _STEPS.get(name.removesuffix("_") if not name.startswith("_") else name)) and (
            name != "_set_grad_enabled" or not args[0]
        ):
            self.found[step] = None
        return func(*args, **(kwargs or {}))
