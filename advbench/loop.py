"""Training in epochs that gives the same result after a kill: shuffled batches, a checkpoint and an entry an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from math import inf, isfinite
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from advbench import checks
from advbench.checkpoint import Checkpoint
from advbench.progress import log, track
from advbench.seeds import derive, own_global_state, seed_global_state

T = TypeVar("T")


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


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> dict[str, Tensor]:
    """Take one step of the optimizer down the gradient of a loss; returns the loss for the history."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {"loss": loss.detach()}


def train_in_epochs(
    label: str,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    nb_epochs: int,
    batches_of: Callable[[int], Iterable[T]],
    step: Callable[[T], dict[str, Tensor]],
    evaluate: Callable[[], dict[str, float]] = dict,
    checkpoint: Path | None = None,
    rate: Callable[[float], float] | None = None,
    best: str | None = None,
    global_seed: Callable[[int], int] | None = None,
    writes: bool = True,
) -> list[dict]:
    """Train a module in place, from the state in the checkpoint where there is one; leave it in eval mode.

    :param label: names the training in progress and log.
    :param module: everything that the steps change, besides the optimizer; it is in train mode when an epoch begins.
    :param batches_of: the batches of an epoch, counted from 0; all are drawn before its first step, so a batch should be
        small, such as indices of images.
    :param step: changes the module for one batch; returns scalars, whose means over the epoch are recorded.
    :param evaluate: figures of the module after an epoch, when it is in eval mode.
    :param checkpoint: a file that each epoch is saved to.
    :param rate: the learning rate at a time in epochs, from 0 at the first step; by default the optimizer's own.
    :param best: the figure whose largest value decides which epoch's weights stay; by default the last epoch's stay.
    :param global_seed: of the global generators in an epoch; by default they are left alone.
    :param writes: whether this process saves the checkpoint, for several that train together.
    :return: one dict an epoch: epoch, the means of the step's scalars, the figures, seconds.
    """
    saved = Checkpoint(checkpoint)
    best_weights, history = saved.restore(module, optimizer)
    with own_global_state() if global_seed else nullcontext():
        for epoch in range(len(history), nb_epochs):
            start = time.monotonic()
            if global_seed:
                seed_global_state(global_seed(epoch))
            epoch_batches = list(batches_of(epoch))
            steps = len(epoch_batches)
            sums: dict[str, Tensor] = {}
            module.train()
            for i, batch in enumerate(track(epoch_batches, f"{label}, epoch {epoch + 1}/{nb_epochs}", steps)):
                if rate is not None:
                    for group in optimizer.param_groups:
                        group["lr"] = rate(epoch + i / steps)
                for name, value in step(batch).items():
                    sums[name] = sums.get(name, 0) + value  # stays on its device: reading it would wait for the GPU
            module.eval()
            means = {name: float(value) / steps for name, value in sums.items()}
            entry = {"epoch": epoch + 1, **means, **evaluate()}
            if best is not None and entry[best] > max((earlier[best] for earlier in history), default=-inf):
                best_weights = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
            history.append({**entry, "seconds": round(time.monotonic() - start, 1)})
            log.info("%s: %s", label, ", ".join(f"{key} {value:.4g}" for key, value in entry.items()))
            if not all(map(isfinite, means.values())):
                log.warning("%s: the loss is not finite any more; try a lower learning rate", label)
            if writes:
                saved.save(module, optimizer, best_weights, history)
    if best is not None and best_weights:
        module.load_state_dict(best_weights)
    optimizer.zero_grad()
    module.eval()
    return history
