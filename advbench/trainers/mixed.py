"""Adversarial training on clean and adversarial images in one batch (report 002; Kurakin et al., 2017)."""

from __future__ import annotations

import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from advbench.trainers.weighted import WeightedAdversarialTrainer, is_fgsm


class MixedAdversarialTrainer(WeightedAdversarialTrainer):
    """Minimises the mean loss of a batch of N clean images and their N adversarial versions.

    Without batch norm the two halves are independent, and the gradient is that of the weighted loss with weights 1/2: it is
    computed that way, in two passes. With batch norm both halves share their statistics, so the adversarial half is made
    first and one pass takes the whole batch.

    :param classifier: an ART PyTorch classifier for images in [0, 1] that has an optimizer.
    :param attack: an ART evasion attack on that classifier.
    :param random_eps: as of :class:`WeightedAdversarialTrainer`, and so is ``bfloat16``.
    :raises ValueError: as :class:`WeightedAdversarialTrainer` does.
    """

    def __init__(
        self, classifier: PyTorchClassifier, attack: EvasionAttack, random_eps: bool = False, bfloat16: bool = False
    ) -> None:
        super().__init__(classifier, [attack], (0.5, 0.5), random_eps, bfloat16)
        self._couples = any(isinstance(module, _BatchNorm) for module in classifier.model.modules())

    def _backward(self, x: Tensor, y: Tensor, aims: Tensor) -> Tensor:
        if not self._couples:
            return super()._backward(x, y, aims)
        (attack,) = self.attacks
        sign = self._sign(x, y) if is_fgsm(attack) else None
        adversarial = self._crafted(attack, x, aims if getattr(attack, "targeted", False) else y, sign)
        return self._loss(torch.cat([x, adversarial]), torch.cat([y, y]), 1.0)

    def _sign(self, x: Tensor, y: Tensor) -> Tensor:
        self.classifier.model.eval()
        inputs = x.detach().requires_grad_(True)
        return torch.autograd.grad(self._mean_loss(inputs, y), inputs)[0].sign()
