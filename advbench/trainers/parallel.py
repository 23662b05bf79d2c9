"""One training in several processes, each on a device of its own: every batch is shared, gradients are averaged."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn

from advbench import progress
from advbench.errors import UsageError, missing

if TYPE_CHECKING:
    from lightning_fabric import Fabric

P = ParamSpec("P")
T = TypeVar("T")


class Team:
    """The processes of a training; this class itself is one process alone.

    :ivar size: the number of processes.
    :ivar first: whether this process saves the results.
    :ivar part: the share of every batch that this process computes.
    """

    size = 1
    first = True
    part = slice(None)

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def share(self, module: nn.Module) -> nn.Module:
        """The module whose backward pass averages the gradients of all processes."""
        return module

    def total(self, value: Tensor) -> Tensor:
        """The sum of a scalar over all processes."""
        return value

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a scalar over all processes."""
        return self.total(value) / self.size


class _Several(Team):
    def __init__(self, fabric: Fabric) -> None:
        super().__init__(fabric.device)
        self._fabric = fabric
        self.size = fabric.world_size
        self.first = fabric.global_rank == 0
        self.part = slice(fabric.global_rank, None, fabric.world_size)

    def share(self, module: nn.Module) -> nn.Module:
        if self.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return self._fabric.setup_module(module)

    def total(self, value: Tensor) -> Tensor:
        return cast(Tensor, self._fabric.all_reduce(value, reduce_op="sum"))


def in_parallel(
    work: Callable[Concatenate[Team, P], T], device: torch.device, devices: int, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run ``work`` in several processes, each with the team as its first argument; returns the result of the first.

    :param work: a function of a module that other processes can import; returns tensors, numbers and strings, in lists,
        tuples and dicts.
    :raises UsageError: if there are not so many devices, or Lightning Fabric is not installed.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise missing("several devices need Lightning Fabric", "distributed") from error
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise UsageError(f"there are {torch.cuda.device_count()} GPUs, not {devices}")
    fabric = Fabric(accelerator=device.type, devices=devices, strategy="ddp_spawn")
    with TemporaryDirectory(prefix="advbench-") as folder:
        # through a file: Fabric's pipe is read only after the process that wrote to it has ended
        found = Path(folder) / "found.pt"
        # as bytes: torch would give all processes the same memory, but each trains a module of its own
        task = pickle.dumps((work, args, kwargs))
        fabric.launch(partial(_begin, found=found, task=task))
        return torch.load(found, weights_only=True)


def _begin(fabric: Fabric, found: Path, task: bytes) -> None:
    if fabric.global_rank == 0:
        progress.log_in_child()
    work, args, kwargs = pickle.loads(task)  # noqa: S301 the parent wrote it, for its own user
    result = work(_Several(fabric), *args, **kwargs)
    if fabric.global_rank == 0:
        torch.save(result, found)
