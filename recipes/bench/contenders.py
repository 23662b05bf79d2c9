"""The contenders of ``bench``: one attack or training as each library does it, on the same model, images and budget."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import DeepFool as ArtDeepFool
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import attacks, estimators
from advbench.trainers import WeightedAdversarialTrainer

PLAIN = "plain gradients"
"""The unit: as many float32 gradients of the plain module as the attack needs, no more."""


@dataclass(frozen=True)
class Setting:
    """An attack of the table.

    :param attack: its name there.
    :param registered: its name in ``attacks.ATTACKS``.
    :param steps: gradients an image; None for DeepFool, which takes as many as it needs.
    """

    attack: str
    registered: str
    steps: int | None = None

    @property
    def label(self) -> str:
        return self.attack

    @property
    def norm(self) -> str:
        return attacks.ATTACKS[self.registered].norm

    @property
    def bounded(self) -> bool:
        return attacks.ATTACKS[self.registered].bounded


SETTINGS = (
    Setting("fgsm", "fgsm", 1),
    Setting("pgd", "bim", 10),  # PGD without a random start
    Setting("pgd-l2", "bim-l2", 10),
    Setting("deepfool-l2", "deepfool-l2"),
    Setting("deepfool-linf", "deepfool-linf"),
)


def attackers(
    classifier: estimators.TorchClassifier,
    x: np.ndarray,
    y: np.ndarray,
    setting: Setting,
    eps: float | None,
    batch: int,
) -> dict[str, Callable[[], Any]]:
    """The attack as each library does it, by the library's name; each call returns adversarial images.

    The first is ``PLAIN``, which returns nothing.
    """
    net, device = classifier.model, classifier.device
    fast = estimators.classifier(net, classifier.input_shape, classifier.nb_classes, "fast", device)
    step = eps / 4 if eps else None
    by_name = {
        f"advbench, {precision}": attacks.create(setting.registered, each, eps, step, setting.steps, batch)
        for precision, each in (("exact", classifier), ("fast", fast))
    }
    if setting.attack != "deepfool-linf":  # ART has none
        by_name["ART"] = _art(_stock(net, None, classifier), setting, eps, batch)
    images, labels = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
    return {
        PLAIN: partial(_plain, net, images, labels, setting.steps or 10, batch),
        **{library: partial(attack.generate, x, y) for library, attack in by_name.items()},
        **_peers(net, images, labels, setting, eps, batch),
    }


def _stock(
    net: nn.Module, optimizer: torch.optim.Optimizer | None, like: estimators.TorchClassifier
) -> PyTorchClassifier:
    """ART's own classifier as ART's examples make it."""
    device = "cpu" if like.device.type == "cpu" else "gpu"
    return PyTorchClassifier(
        net, nn.CrossEntropyLoss(), like.input_shape, like.nb_classes, optimizer, clip_values=(0, 1), device_type=device
    )


def _art(classifier: PyTorchClassifier, setting: Setting, eps: float | None, batch: int) -> EvasionAttack:
    if eps is None:
        return ArtDeepFool(classifier, max_iter=50, epsilon=0.02, nb_grads=10, batch_size=batch, verbose=False)
    norm = 2 if setting.norm == "l2" else np.inf
    if setting.attack == "fgsm":
        return FastGradientMethod(classifier, norm, eps, batch_size=batch)
    return ProjectedGradientDescent(
        classifier, norm, eps, eps / 4, max_iter=setting.steps, num_random_init=0, batch_size=batch, verbose=False
    )


def _plain(net: nn.Module, images: Tensor, labels: Tensor, steps: int, batch: int) -> None:
    net.eval()
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        for _ in range(steps):
            inputs = x.detach().requires_grad_(True)
            torch.autograd.grad(nn.functional.cross_entropy(net(inputs), y), inputs)


def _peers(
    net: nn.Module, images: Tensor, labels: Tensor, setting: Setting, eps: float | None, batch: int
) -> dict[str, Callable[[], np.ndarray]]:
    """foolbox and torchattacks, where they are installed (extra ``peers``)."""
    try:
        import foolbox
        import torchattacks
    except ImportError:
        return {}
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device=images.device)
    fast: Any = None
    other: Any = None
    if eps is None:
        deepfool = {"l2": foolbox.attacks.L2DeepFoolAttack, "linf": foolbox.attacks.LinfDeepFoolAttack}
        fast = deepfool[setting.norm](steps=50)
    elif setting.attack == "fgsm":
        fast = foolbox.attacks.LinfFastGradientAttack(random_start=False)
        other = torchattacks.FGSM(net, eps=eps)
    else:
        ours, theirs = {
            "l2": (foolbox.attacks.L2PGD, torchattacks.PGDL2),
            "linf": (foolbox.attacks.LinfPGD, torchattacks.PGD),
        }[setting.norm]
        fast = ours(abs_stepsize=eps / 4, steps=setting.steps, random_start=False)
        other = theirs(net, eps=eps, alpha=eps / 4, steps=setting.steps, random_start=False)
    found = {"foolbox": partial(_batched, lambda x, y: fast(model, x, y, epsilons=eps)[1], images, labels, batch)}
    if other is not None:
        found["torchattacks"] = partial(_batched, other, images, labels, batch)
    return found


def _batched(attack: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor, batch: int) -> np.ndarray:
    parts = [attack(x, y) for x, y in zip(images.split(batch), labels.split(batch), strict=True)]
    return torch.cat(parts).detach().cpu().numpy()


def trainings(
    classifier: estimators.TorchClassifier, x: np.ndarray, y: np.ndarray, eps: float, batch: int
) -> dict[str, Callable[[], Any]]:
    """One epoch from the same weights each time."""

    def copied() -> tuple[nn.Module, torch.optim.Optimizer]:
        net = copy.deepcopy(classifier.model)
        return net, torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)

    def weighted(*weights: float) -> None:
        net, optimizer = copied()
        shape, classes = classifier.input_shape, classifier.nb_classes
        wrapped = estimators.classifier(net, shape, classes, "exact", classifier.device, optimizer)
        crafted = [FastGradientMethod(wrapped, np.inf, eps)] * (len(weights) - 1)
        WeightedAdversarialTrainer(wrapped, crafted, weights).fit(x, y, batch_size=batch, nb_epochs=1)

    def art() -> None:
        wrapped = _stock(*copied(), like=classifier)
        attack = FastGradientMethod(wrapped, np.inf, eps, batch_size=batch)
        AdversarialTrainer(wrapped, attack, ratio=1.0).fit(x, y, batch_size=batch, nb_epochs=1)

    return {
        "clean epoch": partial(weighted, 1.0),
        "advbench, weighted FGSM": partial(weighted, 0.5, 0.5),
        "ART AdversarialTrainer, FGSM": art,
    }
