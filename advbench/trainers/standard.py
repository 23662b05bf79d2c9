"""Standard training of an image classifier: crop, flip, SGD, the epoch with the best validation accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.device import bfloat16
from advbench.errors import UsageError
from advbench.estimators import in_format, training_format
from advbench.loop import descend, train_in_epochs
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
    :param flip: whether images are mirrored at random, which does not suit digits and letters.
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

    def rate(self, time: float) -> float:
        """The learning rate at a time in epochs, from 0 at the first step."""
        if self.milestones:
            return self.lr * 0.1 ** sum(time >= milestone for milestone in self.milestones)
        done = time / self.epochs
        return self.lr * min(done / self.warmup, (1 - done) / (1 - self.warmup))

    def size(self, epoch: int) -> int:
        """The image height in an epoch (from 0), 0 for the native one."""
        until = 0.0
        for share, size in self.sizes:
            until += share * self.epochs
            if epoch < round(until):
                return size
        return self.sizes[-1][1]


class Crops(NamedTuple):
    """The images of a batch, the corner of each in its padded version, whether it is mirrored, and the height for all."""

    chosen: Tensor
    corner: Tensor
    mirrored: Tensor
    size: int


def random_crops(
    n: int, schedule: Schedule, epoch: int, generator: torch.Generator, part: slice = slice(None)
) -> Iterator[Crops]:
    """Shuffled batches for a random crop after zero-padding and a random flip (He et al., 2016, section 4.2).

    :param part: which images of every batch.
    """
    batch_size = min(schedule.batch_size, n)
    order = torch.randperm(n, generator=generator)
    corner = torch.randint(0, 2 * schedule.pad + 1, (n, 2), generator=generator)
    mirrored = torch.rand(n, generator=generator) < 0.5 * schedule.flip
    for batch in order[: n // batch_size * batch_size].split(batch_size):  # a last, smaller batch is left out
        chosen = batch[part]
        yield Crops(chosen, corner[chosen], mirrored[chosen], schedule.size(epoch))


def cropped(padded: Tensor, pad: int, crops: Crops, device: torch.device) -> Tensor:
    """A batch of crops, float32 in [0, 1], of images that were padded, uint8 (N, C, H + 2 pad, W + 2 pad)."""
    height, width = (side - 2 * pad for side in padded.shape[2:])
    rows = torch.arange(height) + crops.corner[:, :1]
    columns = torch.arange(width).expand(len(crops.chosen), -1)
    columns = torch.where(crops.mirrored[:, None], width - 1 - columns, columns) + crops.corner[:, 1:]
    cut = padded[crops.chosen[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # channels come last here
    images = cut.to(device).permute(0, 3, 1, 2).float() / 255
    if 0 < crops.size < height:
        size = (crops.size, crops.size)
        images = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
    return images


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
    :param checkpoint: a file that each epoch is saved to and the training resumes from; the caller removes it.
    :param devices: the number of processes, each on a device of its own, that share every batch and average their
        gradients: the same training as on one, up to rounding. On CPUs batch norm takes its statistics from the share of
        each process, which is another training; on GPUs from the whole batch.
    :return: one dict an epoch: epoch, loss, validation_accuracy, seconds.
    :raises ValueError: for images that are not uint8.
    :raises UsageError: if the batches cannot be shared equally, or there are too few devices.

    The result is the same whether or not it was interrupted: each epoch derives its own generator.
    """
    for name, (images, _) in (("train", train), ("validation", validation)):
        if images.dtype != np.uint8:
            raise ValueError(
                f"{name} must hold uint8 images in 0..255, which are divided by 255 here, not {images.dtype}"
            )
    arguments = (module, train, validation, schedule, seed, checkpoint)
    device = torch.device(device)
    if devices == 1:
        weights, history = _train(Team(device), *arguments)
    else:
        if (batch := min(schedule.batch_size, len(train[0]))) % devices:
            raise UsageError(f"a batch of {batch} cannot be shared equally by {devices} devices")
        weights, history = in_parallel(_train, device, devices, *arguments)
    module.to(device).load_state_dict(weights)
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
    """The part of one process in a training: the best weights and the history."""
    module.to(team.device)
    # np.array copies: memory-mapped images are read-only, which torch warns about
    padded = F.pad(torch.from_numpy(np.array(train[0])), (schedule.pad,) * 4)
    x_val = torch.from_numpy(np.array(validation[0]))
    labels, y_val = (torch.from_numpy(y).to(team.device) for y in (train[1], validation[1]))
    optimizer = torch.optim.SGD(
        module.parameters(), schedule.lr, momentum=0.9, nesterov=schedule.nesterov, weight_decay=schedule.weight_decay
    )

    def batches_of(epoch: int) -> Iterator[Crops]:
        generator = torch.Generator().manual_seed(derive(seed, "epoch", epoch))
        return random_crops(len(padded), schedule, epoch, generator, team.part)

    def step(network: nn.Module, memory_format: torch.memory_format, crops: Crops) -> dict[str, Tensor]:
        images = in_format(cropped(padded, schedule.pad, crops, team.device), memory_format)
        with bfloat16(team.device, schedule.bfloat16):
            logits = network(images)
        loss = F.cross_entropy(logits.float(), labels[crops.chosen.to(team.device)])
        return {"loss": team.mean(descend(optimizer, loss)["loss"])}

    def evaluate(memory_format: torch.memory_format) -> dict[str, float]:
        hits = _hits(module, x_val[team.part], y_val[team.part], memory_format)
        return {"validation_accuracy": float(team.total(hits)) / len(y_val)}

    with training_format(module) as memory_format:
        history = train_in_epochs(
            "classifier",
            module,
            optimizer,
            schedule.epochs,
            batches_of,
            partial(step, team.share(module), memory_format),
            partial(evaluate, memory_format),
            checkpoint,
            schedule.rate,
            best="validation_accuracy",
            writes=team.first,
        )
    return dict(module.state_dict()), history


@torch.no_grad()
def _hits(module: nn.Module, x: Tensor, y: Tensor, memory_format: torch.memory_format, batch_size: int = 500) -> Tensor:
    """The number of images that are classified right."""
    hits = torch.zeros((), device=y.device)
    for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        images = in_format(images.to(y.device).float() / 255, memory_format)
        hits += (module(images).argmax(1) == labels).sum()
    return hits
