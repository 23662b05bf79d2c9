"""The processor to compute on, and the precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from math import prod
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from advbench.errors import UsageError

_PROBABILITIES = {"softmax", "log_softmax", "sigmoid", "logsigmoid", "expit", "exp"}
_HALF = (torch.bfloat16, torch.float16)
_PIXELS_ON_CPU, _PIXELS_ON_GPU = 8 * 224**2, 32 * 224**2


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """The torch device for ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``; a torch device is itself.

    :raises UsageError: for a name of a device that this machine does not have.
    """
    if isinstance(device, torch.device):
        return device
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name, _, index = device.partition(":")
    is_gpu = name == "cuda" and (not index or index.isdigit()) and int(index or 0) < torch.cuda.device_count()
    if device == "cpu" or is_gpu:
        return torch.device(device)
    available = ["auto", "cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    raise UsageError(f"device {device!r} is not available here; allowed: {', '.join(available)}")


def images_at_a_time(input_shape: Sequence[int], device: torch.device, most: int = 128) -> int:
    """How many images of a shape (C, H, W) to compute on at once.

    On a CPU, gradients of EfficientNet-Lite0 take three times as long an image for 64 images of 224 x 224 pixels as for 8.
    On a GPU the memory for activations sets the limit.
    """
    pixels = _PIXELS_ON_CPU if device.type == "cpu" else _PIXELS_ON_GPU
    return max(1, min(most, pixels // prod(input_shape[1:])))


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor multiplies matrices in bfloat16; emulating it would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))


class WideProbabilities(TorchFunctionMode):
    """Softmax and sigmoid in float32, as autocast has it on a GPU; on a CPU it leaves them in bfloat16, and gradients vanish.

    :param rows_only: only those of matrices, such as the outputs of a model; not those within attention.
    """

    def __init__(self, rows_only: bool = False) -> None:
        super().__init__()
        self.rows_only = rows_only

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = next((each for each in (*args, *kwargs.values()) if isinstance(each, torch.Tensor)), None)
        is_meant = given is not None and not (self.rows_only and given.ndim != 2)
        if is_meant and getattr(function, "__name__", "") in _PROBABILITIES:
            args = tuple(_wide(value) for value in args)
            kwargs = {name: _wide(value) for name, value in kwargs.items()}
        return function(*args, **kwargs)


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in _HALF else value


@contextmanager
def bfloat16(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """Autocast to bfloat16, where it is wanted and the processor has it; but never of a softmax or sigmoid."""
    if not (wanted and has_bfloat16(device)):
        yield
        return
    with torch.autocast(device.type, torch.bfloat16), WideProbabilities():
        yield


@contextmanager
def float32_by_default() -> Iterator[None]:
    """New tensors in float32, whatever type the user has made the default."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def float32() -> AbstractContextManager:
    """True float32 for what is reported: no TensorFloat-32 in the convolutions of a GPU."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
