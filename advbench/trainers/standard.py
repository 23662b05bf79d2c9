"""Standard training of an image classifier: crop, flip, SGD, the epoch with the best validation accuracy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.checkpoint import Checkpoint
from advbench.device import bfloat16
from advbench.errors import UsageError
from advbench.progress import log, track
from advbench.seeds import derive
from advbench.trainers.parallel import Team, in_parallel


@dataclass(frozen=True)
class Schedule:
    """How long, how fast and on what size of image a classifier is trained.

    :param milestones: epochs after which the learning rate falls to a tenth; none: one cycle, a linear climb
        over the first ``warmup`` of all steps and a linear descent to zero (Smith & Topin, 2018).
    :param sizes: (share of the epochs, image height) from first to last: small images first cost less
        (progressive resizing); the shares sum to 1, height 0 stands for the native one;
        images are never enlarged.
    :param pad: pixels of zero padding before the random crop.
    :param flip: whether images are mirrored at random; digits and letters should not be.
    :param bfloat16: compute in bfloat16 where the processor has it.
    """

    epochs: int
    lr: float
    weight_decay: float
    nesterov: bool = False
    batch_size: int = 128
    milestones: tuple[int, ...] = ()
    warmup: float = 0.2
    sizes: tuple[tuple[float, int], ...] = ((1.0, 0),)
    pad: int = 4
    flip: bool = True
    bfloat16: bool = False

    def of_length(self, epochs: int) -> Schedule:
        """The same schedule squeezed or stretched to another number of epochs."""
        milestones = tuple(round(milestone * epochs / self.epochs) for milestone in self.milestones)
        return replace(self, epochs=epochs, milestones=milestones)

    def rate(self, epoch: int, progress: float) -> float:
        """The learning rate in an epoch (from 0), ``progress`` (0..1) of it done."""
        if self.milestones:
            return self.lr * 0.1 ** sum(epoch >= milestone for milestone in self.milestones)
        done = (epoch + progress) / self.epochs
        return self.lr * min(done / self.warmup, (1 - done) / (1 - self.warmup))

    def size(self, epoch: int) -> int:
        """The image height in an epoch (from 0), 0 for the native one."""
        until = 0.0
        for share, size in self.sizes:
            until += share * self.epochs
            if epoch < round(until):
                return size
        return self.sizes[-1][1]


def augmented_batches(
    x: Tensor, y: Tensor, schedule: Schedule, epoch: int, generator: torch.Generator, part: slice = slice(None)
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches with a random crop after zero-padding and a random flip (He et al., 2016, section 4.2).

    :param x: uint8 (N, C, H, W).
    :param part: which images of every batch.
    :return: float32 images in [0, 1] and their labels; a last, smaller batch is left out.
    """
    n, _, height, width = x.shape
    batch_size, size, pad = min(schedule.batch_size, n), schedule.size(epoch), schedule.pad
    padded = F.pad(x, (pad,) * 4)
    order = torch.randperm(n, generator=generator)
    shift = torch.randint(0, 2 * pad + 1, (n, 2), generator=generator)
    flip = torch.rand(n, generator=generator) < 0.5 * schedule.flip
    for start in range(0, n - batch_size + 1, batch_size):
        chosen = order[start : start + batch_size][part]
        rows = torch.arange(height) + shift[chosen, :1]
        columns = torch.arange(width).expand(len(chosen), -1)
        columns = torch.where(flip[chosen, None], width - 1 - columns, columns) + shift[chosen, 1:]
        crops = padded[chosen[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # channels come last here
        images = crops.to(y.device).permute(0, 3, 1, 2).float() / 255
        if 0 < size < height:
            images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        yield images, y[chosen.to(y.device)]


def train_classifier(
    module: nn.Module,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    schedule: Schedule,
    seed: int = 0,
    device: str | torch.device = "cpu",
    checkpoint: Path | None = None,
    devices: int = 1,
) -> list[dict]:
    """Train a module in place with cross-entropy and leave it with its best epoch's weights, in eval mode.

    :param train: uint8 images (N, C, H, W) and int64 labels (N,); so is ``validation``.
    :param checkpoint: a file to resume from and to keep each epoch in; removed by whoever keeps the result.
    :param devices: so many processes, each on a device of its own, share every batch and average their gradients:
        the same training as on one, up to rounding. Batch norm takes its statistics over the whole batch on GPUs, on
        CPUs over the share of each process, which is another training.
    :return: one dict an epoch: epoch, loss, validation_accuracy, seconds.
    :raises UsageError: if the batches cannot be shared equally, or there are not so many devices.

    The result is the same whether or not it was interrupted: each epoch derives its own generator.
    """
    arguments = (module, train, validation, schedule, seed, checkpoint)
    device = torch.device(device)
    if devices == 1:
        best, history = _train(Team(device), *arguments)
    else:
        if (batch := min(schedule.batch_size, len(train[0]))) % devices:
            raise UsageError(f"a batch of {batch} cannot be shared equally by {devices} devices")
        best, history = in_parallel(_train, device, devices, *arguments)
    module.to(device).load_state_dict(best)
    module.zero_grad()
    module.eval()
    return history


def _train(
    team: Team,
    module: nn.Module,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    schedule: Schedule,
    seed: int,
    checkpoint: Path | None,
) -> tuple[dict[str, Tensor], list[dict]]:
    """What one process of a training does: the best weights and the history."""
    module.to(team.device).to(memory_format=torch.channels_last)
    x, y = torch.from_numpy(np.array(train[0])), torch.from_numpy(train[1]).to(team.device)
    x_val, y_val = torch.from_numpy(np.array(validation[0])), torch.from_numpy(validation[1]).to(team.device)
    optimizer = torch.optim.SGD(
        module.parameters(), schedule.lr, momentum=0.9, nesterov=schedule.nesterov, weight_decay=schedule.weight_decay
    )
    kept = Checkpoint(checkpoint)
    best, history = kept.restore(module, optimizer)
    network = team.share(module)
    steps = max(len(x) // schedule.batch_size, 1)
    for epoch in range(len(history), schedule.epochs):
        start = time.monotonic()
        generator = torch.Generator().manual_seed(derive(seed, "epoch", epoch))
        batches = augmented_batches(x, y, schedule, epoch, generator, team.part)
        module.train()
        total = torch.zeros((), device=team.device)
        for step, (images, labels) in enumerate(
            track(batches, f"classifier, epoch {epoch + 1}/{schedule.epochs}", steps)
        ):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(epoch, step / steps)
            with bfloat16(team.device, schedule.bfloat16):
                logits = network(images)
            loss = F.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        accuracy = float(team.total(_hits(module, x_val[team.part], y_val[team.part]))) / len(y_val)
        if not history or accuracy > max(entry["validation_accuracy"] for entry in history):
            best = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        history.append(
            {
                "epoch": epoch + 1,
                "loss": float(team.total(total)) / team.size / steps,
                "validation_accuracy": accuracy,
                "seconds": round(time.monotonic() - start, 1),
            }
        )
        log.info(
            "classifier: epoch %(epoch)d, loss %(loss).4f, validation accuracy %(validation_accuracy).4f, %(seconds).0f s",
            history[-1],
        )
        if team.first:
            kept.save(module, optimizer, best, history)
    return best, history


@torch.no_grad()
def _hits(module: nn.Module, x: Tensor, y: Tensor, batch_size: int = 500) -> Tensor:
    """How many images are classified as they should be."""
    module.eval()
    hits = torch.zeros((), device=y.device)
    for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        images = (images.to(y.device).float() / 255).contiguous(memory_format=torch.channels_last)
        hits += (module(images).argmax(1) == labels).sum()
    return hits
