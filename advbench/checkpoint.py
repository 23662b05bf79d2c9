"""Training that survives a kill: weights, optimizer and history in one safetensors file an epoch, never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import methodcaller
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from advbench.errors import UsageError
from advbench.files import first_line, write
from advbench.progress import log


def save_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write tensors and JSON-serialisable metadata to a safetensors file, whole or not at all."""
    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # one entry: safetensors writes several in an order that changes from run to run
    content = save(flat, {"advbench": json.dumps([meta, _checksum(flat, meta)])})
    write(path, methodcaller("write", content))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a file that ``save_tensors`` wrote.

    :raises ValueError: if one of its bits has changed since, or ``save_tensors`` did not write it.
    """
    with safe_open(path, "pt") as stream:
        entry = json.loads((stream.metadata() or {}).get("advbench", "null"))
        names = stream.keys()
        tensors = {name: stream.get_tensor(name) for name in names}
    if not isinstance(entry, (dict, list)):
        raise ValueError(f"{path} was not written by advbench")
    meta, checksum = (entry, None) if isinstance(entry, dict) else entry  # files of earlier versions have no checksum
    if checksum is not None and checksum != _checksum(tensors, meta):
        raise ValueError(f"{path} is damaged: its checksum does not fit its content")
    return tensors, meta


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Let every error of a block that reads a user's file name the file in one line.

    :param kind: what the file should hold, such as "detector".
    :raises UsageError: if there is no such file, or the block fails.
    """
    if not path.is_file():
        raise UsageError(f"no {kind} at {path}")
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{path} is not a {kind} of advbench: {first_line(error)}") from error


def _checksum(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(meta).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def fingerprint(module: torch.nn.Module) -> str:
    """The first 16 hex digits of the SHA-256 over the names and values of all weights."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode() + (_bytes(value) if isinstance(value, Tensor) else repr(value).encode()))
    return digest.hexdigest()[:16]


def _bytes(tensor: Tensor) -> bytes:
    tensor = tensor.detach().cpu().contiguous().reshape(-1)
    return tensor.view(torch.uint8).numpy().tobytes()  # NumPy has no bfloat16


class Checkpoint:
    """The state of a training between two epochs.

    :param path: its file, or None for a training that will not be resumed.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def save(
        self, module: torch.nn.Module, optimizer: torch.optim.Optimizer, best: Mapping[str, Tensor], history: list[dict]
    ) -> None:
        """Save the module, the optimizer's state, the best weights so far and one dict an epoch."""
        if self.path is None:
            return
        state = optimizer.state_dict()["state"]
        tensors = {f"module/{name}": tensor for name, tensor in module.state_dict().items()}
        tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
        tensors |= {f"optimizer/{i}/{name}": value for i, slot in state.items() for name, value in slot.items()}
        save_tensors(self.path, tensors, {"history": history})

    def restore(
        self, module: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[dict[str, Tensor], list[dict]]:
        """Load the saved state; returns (best weights, history), both empty where there is none."""
        if self.path is None or not self.path.is_file():
            return {}, []
        try:
            tensors, meta = load_tensors(self.path)
        except (ValueError, SafetensorError) as error:
            log.warning("%s: the training starts again (%s)", self.path, error)
            return {}, []
        parts: dict[str, dict[str, Tensor]] = {"module": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, rest = name.split("/", 1)
            parts[part][rest] = tensor
        module.load_state_dict(parts["module"])
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, key = name.split("/", 1)
            parameter = parameters[int(index)]
            if tensor.shape == parameter.shape:  # in the parameter's layout: a fused step pairs both by place in memory
                tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
            slots.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
        return parts["best"], meta["history"]
