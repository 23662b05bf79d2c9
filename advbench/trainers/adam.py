"""Clean training with Adam and nothing else: the classifiers of report 004."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from advbench import checks
from advbench.estimators import refuse_preprocessing, training_format
from advbench.loop import batches, descend, train_in_epochs
from advbench.seeds import derive


def train_with_adam(
    classifier: PyTorchClassifier,
    x: np.ndarray,
    y: np.ndarray,
    batch_size: int = 100,
    nb_epochs: int = 20,
    epoch_images: int | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    lr: float = 1e-3,
    seed: int = 0,
    checkpoint: Path | None = None,
) -> list[dict]:
    """Train a classifier in place with cross-entropy on clean images; the last epoch's weights stay.

    :param classifier: an ART PyTorch classifier that returns logits for images in [0, 1].
    :param x: float (N, C, H, W) in [0, 1].
    :param y: true labels, indices or one-hot.
    :param epoch_images: images an epoch, which may be less or more than N; default N.
    :param validation: (x, y) whose accuracy is recorded after each epoch.
    :param seed: of the order of the batches.
    :param checkpoint: a file that each epoch is saved to and the training resumes from.
    :return: one dict an epoch: epoch, loss, seconds and, where there is ``validation``, accuracy.
    :raises ValueError: for images, labels or numbers out of range, or a classifier with ART preprocessing.
    """
    refuse_preprocessing(classifier, "train_with_adam")
    x = checks.images(x, "x", classifier.input_shape)
    y = checks.labels(y, len(x), classifier.nb_classes)
    images, labels = (torch.from_numpy(a).to(classifier.device) for a in (x, y))
    module = classifier.model
    optimizer = torch.optim.Adam(module.parameters(), checks.positive(lr, "lr"), fused=True)

    def step(chosen: Tensor) -> dict[str, Tensor]:
        return descend(optimizer, F.cross_entropy(module(images[chosen]), labels[chosen]))

    def evaluate() -> dict[str, float]:
        if validation is None:
            return {}
        predicted = classifier.predict(checks.images(validation[0]), batch_size=500).argmax(1)
        return {"accuracy": float((predicted == validation[1]).mean())}

    order = derive(seed, "clean order")
    batches_of = partial(batches, len(images), batch_size, epoch_images=epoch_images, seed=order)
    with training_format(module):
        return train_in_epochs("classifier", module, optimizer, nb_epochs, batches_of, step, evaluate, checkpoint)
