"""Training a detector against an adversary that attacks it as it learns (Metzen et al., 2017, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.defences.trainer import Trainer
from torch import Tensor

from advbench import checks
from advbench.attacks import DynamicDetectorAttack
from advbench.detectors import SubnetworkDetector


class DynamicDetectorTrainer(Trainer):
    """Replaces each image of a batch with probability 0.5 by its adversarial version, with sigma ~ U[0, 1] an image.

    The adversary attacks the detector as it is at that batch, in eval mode. The classifier stays as it is.

    :param detector: is trained in place, with its own learning rate and seed.
    :param eps: as of :class:`~advbench.attacks.DynamicDetectorAttack`, and so are ``eps_step`` and ``max_iter``.
    :raises ValueError: for attack parameters out of range.
    """

    def __init__(
        self, detector: SubnetworkDetector, eps: float = 1 / 255, eps_step: float = 1 / 255, max_iter: int = 10
    ) -> None:
        super().__init__(detector.classifier)
        self.detector = detector
        self.attack = DynamicDetectorAttack(detector.classifier, detector, eps, eps_step, max_iter)

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        batch_size: int = 128,
        nb_epochs: int = 20,
        checkpoint: Path | None = None,
        decay: bool = False,
        fast: bool = False,
        **kwargs: Any,
    ) -> list[dict]:
        """Train the detector.

        :param x: clean images, float (N, C, H, W) in [0, 1].
        :param y: their true classes, indices or one-hot.
        :param checkpoint: a file that each epoch is saved to and the training resumes from.
        :param decay: let the learning rate fall linearly to zero, step by step; the report keeps it.
        :param fast: compute the detector's own steps in bfloat16 where the processor has it.
        :return: one dict an epoch: epoch, loss, seconds.
        :raises ValueError: for images or labels out of range.
        """
        detector, device = self.detector, self.classifier.device
        x = checks.images(x, "x", self.classifier.input_shape)
        classes = torch.from_numpy(checks.labels(y, len(x), self.classifier.nb_classes))
        batch_size = min(batch_size, len(x))

        def batches_of(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            order = torch.randperm(len(x), generator=generator)
            for chosen in order[: len(x) // batch_size * batch_size].split(batch_size):
                replaced = torch.rand(batch_size, generator=generator) < 0.5
                yield chosen, replaced, torch.rand(batch_size, generator=generator)

        def labelled(batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            chosen, replaced, sigma = batch
            images = torch.from_numpy(x[chosen.numpy()]).to(device)
            labels = replaced.to(device)
            if replaced.any():
                detector.subnetwork.eval()
                truth = classes[chosen[replaced]].to(device)
                images[labels] = self.attack.perturb(images[labels], truth, sigma[replaced].to(device))
                detector.subnetwork.train()
            with torch.no_grad():
                return detector.features(images), labels.long()

        return detector.train(nb_epochs, batches_of, labelled, checkpoint=checkpoint, decay=decay, fast=fast)
