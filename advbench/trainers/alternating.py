"""Training a classifier and the network that attacks it, in turn on each batch (report 004, alternating mode)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from art.defences.trainer.trainer import Trainer
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import checks
from advbench.attacks.gan import GANAttack, Labelled
from advbench.estimators import refuse_preprocessing, training_format
from advbench.loop import batches, train_in_epochs
from advbench.seeds import derive


class AlternatingTrainer(Trainer):
    """One step of the attacker A, then one step of the classifier on the same batch, attacked.

    A's step sees the classifier in eval mode; the classifier's step is in training mode and takes the attacked images
    of A's last step as constants. Both have an Adam of their own, whose state lasts through all epochs.

    :param classifier: an ART PyTorch classifier that returns logits for images in [0, 1]; trained in place.
    :param attack: the attack on that classifier alone; trained in place.
    :param clean_share: the share of each batch that stays clean in the classifier's step, in [0, 1]; the report's 0.
    :param lr: of the classifier's Adam; A's is ``attack.lr``.
    :param seed: of the order of the batches.
    :param attack_steps: steps of A on a batch before the classifier's one; the report's 1.
    :raises ValueError: for an argument out of range, an attack on another classifier or on several, or a classifier with
        ART preprocessing.
    """

    def __init__(
        self,
        classifier: PyTorchClassifier,
        attack: GANAttack,
        clean_share: float = 0.0,
        lr: float = 1e-3,
        seed: int = 0,
        attack_steps: int = 1,
    ) -> None:
        super().__init__(classifier)
        refuse_preprocessing(classifier, type(self).__name__)
        if attack.classifiers != [classifier]:
            raise ValueError("attack must be on the classifier that is trained, and on no other")
        if not 0 <= clean_share <= 1:
            raise ValueError(f"clean_share must be in [0, 1], not {clean_share}")
        self.attack = attack
        self.clean_share = clean_share
        if attack_steps < 1:
            raise ValueError(f"attack_steps must be at least 1, not {attack_steps}")
        self.attack_steps = attack_steps
        self.lr = checks.positive(lr, "lr")
        self.seed = seed

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        batch_size: int = 100,
        nb_epochs: int = 20,
        epoch_images: int | None = None,
        validation: Labelled | None = None,
        watched: Mapping[str, PyTorchClassifier] | None = None,
        checkpoint: Path | None = None,
        **kwargs: Any,
    ) -> list[dict]:
        """Train both networks in place.

        :param x: clean images, float (N, C, H, W) in [0, 1].
        :param y: their true labels, indices or one-hot.
        :param epoch_images: as of :meth:`GANAttack.fit`, and so are ``validation`` and ``watched``.
        :param checkpoint: a file that each epoch is saved to and the training resumes from.
        :return: one dict an epoch, as of :meth:`GANAttack.fit`, with classifier_loss and, where there is ``validation``,
            clean_accuracy.
        :raises ValueError: for images or labels out of range.
        """
        attack, module = self.attack, self.classifier.model
        images, labels = attack.tensors(x, y)
        # one Adam for two networks: it skips parameters without a gradient, so neither step moves the other network
        optimizer = torch.optim.Adam(
            [
                {"params": list(attack.network.parameters()), "lr": attack.lr},
                {"params": list(module.parameters()), "lr": self.lr},
            ],
            fused=True,
        )

        def step(chosen: Tensor) -> dict[str, Tensor]:
            clean, truth = images[chosen], labels[chosen]
            for _ in range(self.attack_steps):
                attack_loss, seen = attack.train_batch(optimizer, clean, truth)
            n_clean = round(self.clean_share * len(clean))
            seen[:n_clean] = clean[:n_clean]
            module.train()
            loss = F.cross_entropy(module(seen), truth)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return {"loss": attack_loss, "classifier_loss": loss.detach()}

        def evaluate() -> dict[str, float]:
            attack.finish_training()
            if validation is None:
                return {}
            clean = self.classifier.predict(checks.images(validation[0]), batch_size=500).argmax(1)
            accuracy = float((clean == checks.labels(validation[1], len(clean), self.classifier.nb_classes)).mean())
            return {"clean_accuracy": accuracy, **attack.attacked_figures(validation, watched)}

        order = derive(self.seed, "alternating order")
        batches_of = partial(batches, len(images), batch_size, epoch_images=epoch_images, seed=order)
        label, both = (
            f"alternating, t = {attack.t:g}",
            nn.ModuleDict({"attacker": attack.network, "classifier": module}),
        )
        with training_format(module):
            history = train_in_epochs(label, both, optimizer, nb_epochs, batches_of, step, evaluate, checkpoint)
        attack.finish_training()
        return history
