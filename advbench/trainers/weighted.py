"""Adversarial training on a weighted sum of losses (Goodfellow et al., 2015, section 6; reports 002 and 003)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import FastGradientMethod
from art.defences.trainer import Trainer
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from advbench import checks
from advbench.attacks.fgsm import FGSM
from advbench.device import bfloat16
from advbench.estimators import calling_model, clipped, in_format, loss_of, refuse_preprocessing, training_format
from advbench.loop import batches, train_in_epochs
from advbench.seeds import derive


class WeightedAdversarialTrainer(Trainer):
    """Minimises J'(x) = a0 J(x) + a1 J(p1(x)) + ... + an J(pn(x)), each p an attack on the current weights.

    Adversarial images are made for each batch with the true labels, and the perturbation counts as constant. Without attacks
    and with the weight 1 it is standard training.

    :param classifier: an ART PyTorch classifier for images in [0, 1] that has an optimizer; J is its loss.
    :param attacks: ART evasion attacks on that classifier, p1 .. pn.
    :param weights: a0 .. an, not negative, of sum 1.
    :param random_eps: draw the eps of each image uniformly from 0 to that of the attack, in untargeted l-inf FGSM.
    :param bfloat16: compute in bfloat16 where the processor has it.
    :raises ValueError: for weights of another number or sum, an attack on another classifier, a classifier without
        an optimizer or with ART preprocessing.

    A step costs a forward and a backward pass for each loss, besides the attacks. Untargeted l-inf FGSM costs nothing more:
    the pass over the clean batch gives the gradients of weights and of images, with the network in train mode. That holds
    for a0 = 0 too.
    """

    def __init__(
        self,
        classifier: PyTorchClassifier,
        attacks: Sequence[EvasionAttack],
        weights: Sequence[float],
        random_eps: bool = False,
        bfloat16: bool = False,
    ) -> None:
        super().__init__(classifier)
        self.attacks = tuple(attacks)
        self.weights = tuple(float(weight) for weight in weights)
        self.random_eps = random_eps
        self.bfloat16 = bfloat16
        if len(self.weights) != len(self.attacks) + 1:
            raise ValueError(
                f"weights must hold {len(self.attacks) + 1} numbers, one for the clean loss and one an attack, "
                f"not {len(self.weights)}"
            )
        if not np.isclose(sum(self.weights), 1, atol=1e-6) or min(self.weights) < 0:
            raise ValueError(f"weights must not be negative and must sum to 1, not {self.weights}")
        if any(attack.estimator is not classifier for attack in self.attacks):
            raise ValueError("attacks must be attacks on the classifier that is trained")
        if classifier.optimizer is None:
            raise ValueError("classifier must have an optimizer")
        refuse_preprocessing(classifier, type(self).__name__)

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        batch_size: int = 128,
        nb_epochs: int = 20,
        targets: np.ndarray | None = None,
        each_epoch: Callable[[], dict[str, float]] | None = None,
        rate: Callable[[float], float] | None = None,
        seed: int = 0,
        checkpoint: Path | None = None,
        label: str = "classifier",
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Train the classifier in place; the last epoch's weights stay.

        :param x: float (N, C, H, W) in [0, 1].
        :param y: true labels, indices or one-hot.
        :param targets: the labels that targeted attacks aim at, indices or one-hot.
        :param each_epoch: figures after an epoch, the classifier in eval mode, for the history. It may change the state of
            the optimizer.
        :param rate: the learning rate at a time in epochs, from 0 at the first step; by default the optimizer's own.
        :param seed: of the order of the images and of random attacks.
        :param checkpoint: a file that each epoch is saved to and the training resumes from.
        :param label: names the training in the progress display.
        :return: one dict an epoch: epoch, loss (J'), the figures of ``each_epoch``, seconds.
        :raises ValueError: for images or labels out of range, or a targeted attack without targets.
        """
        classifier, device = self.classifier, self.classifier.device
        x = checks.images(x, "x", classifier.input_shape)
        labels = torch.from_numpy(checks.labels(y, len(x), classifier.nb_classes))
        if any(getattr(attack, "targeted", False) for attack in self.attacks) and targets is None:
            raise ValueError("targets are needed: one of the attacks is targeted")
        aims = labels if targets is None else torch.from_numpy(checks.labels(targets, len(x), classifier.nb_classes))
        module, images = classifier.model, torch.from_numpy(x)

        def step(memory_format: torch.memory_format, chosen: Tensor) -> dict[str, Tensor]:
            batch = in_format(images[chosen].to(device), memory_format)
            classifier.optimizer.zero_grad()
            loss = self._backward(batch, labels[chosen].to(device), aims[chosen].to(device))
            classifier.optimizer.step()
            return {"loss": loss}

        with training_format(module) as memory_format:
            return train_in_epochs(
                label,
                module,
                classifier.optimizer,
                nb_epochs,
                partial(batches, len(x), batch_size, epoch_images=None, seed=derive(seed, "order")),
                partial(step, memory_format),
                each_epoch or dict,
                checkpoint,
                rate,
                global_seed=partial(derive, seed, "attacks"),
            )

    def _backward(self, x: Tensor, y: Tensor, aims: Tensor) -> Tensor:
        """Put the gradient of J' on a batch into the parameters; returns J'."""
        clean, sign = self._clean(x, y, self.weights[0], any(map(is_fgsm, self.attacks)))
        total = self.weights[0] * clean
        for attack, weight in zip(self.attacks, self.weights[1:], strict=True):
            adversarial = self._crafted(attack, x, aims if getattr(attack, "targeted", False) else y, sign)
            if weight:
                total = total + weight * self._loss(adversarial, y, weight)
        return total

    def _clean(self, x: Tensor, y: Tensor, weight: float, input_sign: bool) -> tuple[Tensor, Tensor | None]:
        """J(x), its weighted gradient added to the parameters, and sgn(grad_x J(x)) from the same pass."""
        if not weight and not input_sign:
            return torch.zeros((), device=x.device), None
        self.classifier.model.train()
        inputs = x.detach().requires_grad_(input_sign)
        loss = self._mean_loss(inputs, y)
        if not weight:
            return loss.detach(), torch.autograd.grad(loss, inputs)[0].sign()
        (weight * loss).backward()
        return loss.detach(), None if inputs.grad is None else inputs.grad.sign()

    def _loss(self, x: Tensor, y: Tensor, weight: float) -> Tensor:
        """J(x), its weighted gradient added to the parameters."""
        return self._clean(x, y, weight, input_sign=False)[0]

    def _mean_loss(self, x: Tensor, y: Tensor) -> Tensor:
        with bfloat16(x.device, self.bfloat16), calling_model():
            logits = self.classifier.model(x)
        return loss_of(self.classifier, logits.float() if logits.dtype is torch.bfloat16 else logits, y)

    def _crafted(self, attack: EvasionAttack, x: Tensor, y: Tensor, sign: Tensor | None) -> Tensor:
        if is_fgsm(attack):
            assert sign is not None
            share = torch.rand(len(x), 1, 1, 1).to(x.device) if self.random_eps else 1.0
            return clipped(self.classifier, x + float(attack.eps) * share * sign)
        self.classifier.model.eval()
        return torch.from_numpy(attack.generate(x.cpu().numpy(), y.cpu().numpy())).to(x.device)


def is_fgsm(attack: EvasionAttack) -> bool:
    """Whether the attack is one step along the sign of the loss gradient at the images themselves."""
    return (
        type(attack) in (FastGradientMethod, FGSM)
        and attack.norm in (np.inf, "inf")
        and not (attack.targeted or attack.minimal or attack.num_random_init)
        and np.isscalar(attack.eps)
    )
