"""Training on clean images and on adversarial ones that were made once, before the training (report 000)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.defences.trainer import Trainer
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from advbench import checks
from advbench.device import bfloat16
from advbench.estimators import clipped, in_format, loss_of, refuse_preprocessing, training_format
from advbench.loop import batches, descend, train_in_epochs
from advbench.seeds import derive


class StaticAdversarialTrainer(Trainer):
    """Minimises the loss over N clean images and their N adversarial versions x + eps d, which never change.

    The directions d may be made on any classifier, and eps may differ from image to image. The images are not clipped
    to [0, 1] unless the classifier has clip values. A model that is trained this way has not met an adversary who knows it.

    :param classifier: an ART PyTorch classifier for images in [0, 1] that has an optimizer.
    :param bfloat16: compute in bfloat16 where the processor has it.
    :raises ValueError: for a classifier without an optimizer, or with ART preprocessing.
    """

    def __init__(self, classifier: PyTorchClassifier, bfloat16: bool = False) -> None:
        super().__init__(classifier)
        if classifier.optimizer is None:
            raise ValueError("classifier must have an optimizer")
        refuse_preprocessing(classifier, type(self).__name__)
        self.bfloat16 = bfloat16

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        direction: np.ndarray | None = None,
        eps: float | np.ndarray = 0.0,
        batch_size: int = 64,
        nb_epochs: int = 10,
        each_epoch: Callable[[], dict[str, float]] | None = None,
        rate: Callable[[float], float] | None = None,
        seed: int = 0,
        checkpoint: Path | None = None,
        label: str = "classifier",
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Train the classifier in place; the last epoch's weights stay.

        :param x: clean images, float (N, C, H, W) in [0, 1].
        :param y: their true labels, indices or one-hot.
        :param direction: d, numbers of the shape of x such as the sign of a loss gradient (int8 will do), possibly
            memory-mapped.
        :param eps: the length of the step along d, a number or one an image (N,).
        :param batch_size: drawn from the 2 N images of an epoch.
        :param each_epoch: figures after an epoch, the classifier in eval mode, for the history.
        :param rate: the learning rate at a time in epochs, from 0 at the first step; by default the optimizer's own.
        :param seed: of the order of the images and of dropout.
        :param checkpoint: a file that each epoch is saved to and the training resumes from.
        :param label: names the training in the progress display.
        :return: one dict an epoch: epoch, loss, the figures of ``each_epoch``, seconds.
        :raises ValueError: for images, labels, directions or eps of the wrong range or shape.
        """
        classifier, device = self.classifier, self.classifier.device
        x = checks.images(x, "x", classifier.input_shape)
        labels = torch.from_numpy(checks.labels(y, len(x), classifier.nb_classes))
        if direction is None or direction.shape != x.shape:
            found = None if direction is None else direction.shape
            raise ValueError(f"direction must have the shape of x, {x.shape}, not {found}")
        if np.shape(eps) not in ((), (len(x),)):
            raise ValueError(f"eps must be a number or {len(x)} numbers, not of shape {np.shape(eps)}")
        steps = torch.from_numpy(np.full(len(x), eps, np.float32))
        module, images = classifier.model, torch.from_numpy(x)

        def step(memory_format: torch.memory_format, chosen: Tensor) -> dict[str, Tensor]:
            of = chosen % len(x)  # from N on they are the adversarial versions
            lengths = (steps[of] * (chosen >= len(x))).view(-1, 1, 1, 1)
            batch = clipped(classifier, images[of] + lengths * torch.from_numpy(direction[of.numpy()]))
            batch = in_format(batch.to(device), memory_format)
            with bfloat16(device, self.bfloat16):
                logits = module(batch)
            return descend(classifier.optimizer, loss_of(classifier, logits.float(), labels[of].to(device)))

        with training_format(module) as memory_format:
            return train_in_epochs(
                label,
                module,
                classifier.optimizer,
                nb_epochs,
                partial(batches, 2 * len(x), batch_size, epoch_images=None, seed=derive(seed, "order")),
                partial(step, memory_format),
                each_epoch or dict,
                checkpoint,
                rate,
                global_seed=partial(derive, seed, "dropout"),
            )
