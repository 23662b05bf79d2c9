"""The contenders of ``bench``: one attack or training as each library does it, on the same model, images and budget."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
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
    """An attack of the table; ``steps`` gradients an image, none fixed for DeepFool."""

    norm: str
    steps: int = 0

    @property
    def deepfool(self) -> bool:
        return not self.steps


SETTINGS = {
    "fgsm": Setting("linf", 1),
    "pgd-10": Setting("linf", 10),
    "pgd-l2-10": Setting("l2", 10),
    "deepfool-l2": Setting("l2"),
    "deepfool-linf": Setting("linf"),
}


def attackers(
    classifier: estimators.TorchClassifier,
    x: np.ndarray,
    y: np.ndarray,
    setting: Setting,
    eps: float | None,
    batch: int,
    found: dict[str, np.ndarray],
) -> dict[str, Callable[[], Any]]:
    """The attack as each library does it; what a call makes is put into ``found`` under the library's name."""
    ours = {
        "advbench, exact": classifier,
        "advbench, fast": estimators.classifier(
            classifier.model, classifier.input_shape, classifier.nb_classes, "fast", classifier.device
        ),
    }
    net, device = classifier.model, classifier.device
    stock = _stock(net, None, classifier)
    images, labels = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)

    def keep(name: str, attack: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            result = attack()
            found[name] = result.detach().cpu().numpy() if isinstance(result, Tensor) else result

        return run

    contenders: dict[str, Callable[[], Any]] = {PLAIN: partial(_plain, net, images, labels, setting.steps or 10, batch)}
    if setting.deepfool:
        for name, each in ours.items():
            contenders[name] = keep(
                name, partial(attacks.DeepFool(each, setting.norm.removeprefix("l"), batch_size=batch).generate, x, y)
            )
        if setting.norm == "l2":
            art = ArtDeepFool(stock, max_iter=50, epsilon=0.02, nb_grads=10, batch_size=batch, verbose=False)
            contenders["ART"] = keep("ART", partial(art.generate, x))
    else:
        one_hot = np.eye(classifier.nb_classes, dtype=np.float32)[y]
        for name, each in {**ours, "ART": stock}.items():
            attack = (_art if name == "ART" else _registered)(each, setting, eps, batch)
            contenders[name] = keep(name, partial(attack.generate, x, one_hot))
    contenders |= {name: keep(name, run) for name, run in _peers(net, images, labels, setting, eps, batch).items()}
    return contenders


def _stock(
    net: nn.Module, optimizer: torch.optim.Optimizer | None, like: estimators.TorchClassifier
) -> PyTorchClassifier:
    """ART's own classifier as ART's examples make it."""
    device = "cpu" if like.device.type == "cpu" else "gpu"
    return PyTorchClassifier(
        net, nn.CrossEntropyLoss(), like.input_shape, like.nb_classes, optimizer, clip_values=(0, 1), device_type=device
    )


def _art(classifier: PyTorchClassifier, setting: Setting, eps: float | None, batch: int) -> Any:
    assert eps is not None
    norm = 2 if setting.norm == "l2" else np.inf
    if setting.steps == 1:
        return FastGradientMethod(classifier, norm, eps, batch_size=batch)
    return ProjectedGradientDescent(
        classifier, norm, eps, eps / 4, max_iter=setting.steps, num_random_init=0, batch_size=batch, verbose=False
    )


def _registered(classifier: PyTorchClassifier, setting: Setting, eps: float | None, batch: int) -> Any:
    """What ``attacks.create`` makes: ART's classes too, PGD without the predictions for its log line."""
    name = "fgsm" if setting.steps == 1 else "bim-l2" if setting.norm == "l2" else "bim"
    return attacks.create(name, classifier, eps, eps / 4 if eps else None, setting.steps, batch)


def _plain(net: nn.Module, images: Tensor, labels: Tensor, steps: int, batch: int) -> None:
    net.eval()
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        for _ in range(steps):
            inputs = x.detach().requires_grad_(True)
            torch.autograd.grad(nn.functional.cross_entropy(net(inputs), y), inputs)


def _peers(
    net: nn.Module, images: Tensor, labels: Tensor, setting: Setting, eps: float | None, batch: int
) -> dict[str, Callable[[], Tensor]]:
    """foolbox and torchattacks, where they are installed (extra ``peers``)."""
    try:
        import foolbox
        import torchattacks
    except ImportError:
        return {}
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device=images.device)
    linf = setting.norm == "linf"
    if setting.deepfool:
        attack = (foolbox.attacks.LinfDeepFoolAttack if linf else foolbox.attacks.L2DeepFoolAttack)(steps=50)
        return {"foolbox": partial(_batched, lambda x, y: attack(model, x, y, epsilons=None)[1], images, labels, batch)}
    assert eps is not None
    if setting.steps == 1:
        fast: Any = foolbox.attacks.LinfFastGradientAttack(random_start=False)
        other: Any = torchattacks.FGSM(net, eps=eps)
    elif linf:
        fast = foolbox.attacks.LinfPGD(abs_stepsize=eps / 4, steps=setting.steps, random_start=False)
        other = torchattacks.PGD(net, eps=eps, alpha=eps / 4, steps=setting.steps, random_start=False)
    else:
        fast = foolbox.attacks.L2PGD(abs_stepsize=eps / 4, steps=setting.steps, random_start=False)
        other = torchattacks.PGDL2(net, eps=eps, alpha=eps / 4, steps=setting.steps, random_start=False)
    return {
        "foolbox": partial(_batched, lambda x, y: fast(model, x, y, epsilons=eps)[1], images, labels, batch),
        "torchattacks": partial(_batched, other, images, labels, batch),
    }


def _batched(attack: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor, batch: int) -> Tensor:
    return torch.cat([attack(x, y) for x, y in zip(images.split(batch), labels.split(batch), strict=True)])


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
