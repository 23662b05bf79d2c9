"""Weights from a file into a network, without unpickling code."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from advbench.errors import UsageError
from advbench.files import first_line

_CONTAINERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a state dict that ``torch.save`` wrote, by name.

    A checkpoint that holds the state dict under ``state_dict``, ``model_state_dict``, ``model`` or ``net`` is opened,
    and the prefixes of ``DataParallel`` and ``torch.compile`` are taken off.

    :raises UsageError: if the file is missing, unreadable, needs code to be unpickled, or holds no state dict.
    """
    if not path.is_file():
        raise UsageError(f"no weights at {path}")
    if path.suffix == ".safetensors":
        try:
            state = load_file(path)
        except (SafetensorError, OSError) as error:
            raise UsageError(f"{path} is not a safetensors file: {first_line(error)}") from error
    else:
        state = _state_dict(path)
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"{path} holds no state dict (names and tensors); save model.state_dict()")
    return state


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path} is not a plain state dict: reading it would run code from the file, which is refused; "
            "save model.state_dict()"
        ) from error
    except Exception as error:
        raise UsageError(f"{path} cannot be read as weights: {first_line(error)}") from error
    while isinstance(found, dict):
        inside = next((found[key] for key in _CONTAINERS if isinstance(found.get(key), dict)), None)
        if inside is None:
            return dict(found)
        found = inside
    raise UsageError(f"{path} holds a {type(found).__name__}, not a state dict; save model.state_dict()")


def fill(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Put a state dict into a module, every name and shape in its place.

    :raises UsageError: if they are the weights of another network; the message names the differences.
    """
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in state]
    unknown = [name for name in state if name not in wanted]
    other = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", other))
        if names
    ]
    if problems:
        raise UsageError(
            f"{path} holds the weights of another network than {type(module).__name__}: {'; '.join(problems)}"
        )
    module.load_state_dict(state)
