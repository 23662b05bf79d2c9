"""Training in epochs of any length that a kill does not change: shuffled batches, a checkpoint and an entry an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor, nn

from advbench import checks
from advbench.checkpoint import Checkpoint
from advbench.progress import log, track
from advbench.seeds import derive


def batches(n: int, batch_size: int, epoch: int, epoch_images: int | None, seed: int) -> Iterator[Tensor]:
    """The batches of one epoch, as indices of images.

    All epochs together are one endless walk over the n images, each pass in a fresh random order; an epoch is the next
    ``epoch_images`` of it, so that it may be a part of a pass. A last, smaller batch is left out.

    :param epoch: from 0.
    :param epoch_images: default n.
    :raises ValueError: for a batch_size or epoch_images that is not positive.
    """
    length = n if epoch_images is None else int(checks.positive(epoch_images, "epoch_images"))
    batch_size = min(int(checks.positive(batch_size, "batch_size")), length)
    first, last = epoch * length // n, ((epoch + 1) * length - 1) // n
    orders = [
        torch.randperm(n, generator=torch.Generator().manual_seed(derive(seed, "pass", i)))
        for i in range(first, last + 1)
    ]
    start = epoch * length - first * n
    order = torch.cat(orders)[start : start + length]
    yield from order[: length // batch_size * batch_size].split(batch_size)


def train_in_epochs(
    label: str,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    nb_epochs: int,
    epoch_of: Callable[[int], Iterator[Tensor]],
    step: Callable[[Tensor], dict[str, Tensor]],
    evaluate: Callable[[], dict[str, float]],
    checkpoint: Path | None,
    rate: Callable[[float], float] | None = None,
) -> list[dict]:
    """Take a step a batch, evaluate after each epoch and keep the state; go on from the state where one is kept.

    :param label: what is trained, for progress and log.
    :param module: everything that the steps change, with the optimizer.
    :param epoch_of: the batches of an epoch, counted from 0.
    :param step: changes the module for one batch of indices; returns scalars, whose means over the epoch are recorded.
    :param evaluate: figures of the module after an epoch.
    :param rate: the learning rate at a time in epochs, from 0 at the first step; by default the optimizer's own.
    :return: one dict an epoch: epoch, the means of the step's scalars, the figures, seconds.
    """
    kept = Checkpoint(checkpoint)
    _, history = kept.restore(module, optimizer)
    for epoch in range(len(history), nb_epochs):
        start = time.monotonic()
        chosen = list(epoch_of(epoch))
        sums: dict[str, Tensor] = {}
        for i, indices in enumerate(track(chosen, f"{label}, epoch {epoch + 1}/{nb_epochs}", len(chosen))):
            if rate is not None:
                for group in optimizer.param_groups:
                    group["lr"] = rate(epoch + i / len(chosen))
            for name, value in step(indices).items():
                sums[name] = sums.get(name, 0) + value  # stays on its device: reading it would wait for the GPU
        means = {name: float(value) / len(chosen) for name, value in sums.items()}
        entry = {"epoch": epoch + 1, **means, **evaluate()}
        history.append({**entry, "seconds": round(time.monotonic() - start, 1)})
        log.info("%s: %s", label, ", ".join(f"{key} {value:.4g}" for key, value in entry.items()))
        if not all(map(isfinite, means.values())):
            log.warning("%s: the loss is not finite any more; try a lower learning rate", label)
        kept.save(module, optimizer, {}, history)
    return history
