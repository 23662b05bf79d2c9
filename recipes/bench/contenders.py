"""The contenders of ``bench``: one attack or training as each library does it, on the same model, images and budget."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyautoattack
import torch
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import DeepFool, FastGradientMethod, ProjectedGradientDescent
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import attacks, estimators
from advbench.estimators import TorchClassifier
from advbench.recipes.bench.claims import AUTHORS
from advbench.trainers import WeightedAdversarialTrainer

PLAIN = "plain gradients"
"""As many float32 gradients of the plain module as the attack has steps, no more."""

LIMITS = {"advbench, exact": "bare gradient, exact", "advbench, fast": "bare gradient, fast"}
"""The contenders of advbench, and the limit of each: gradients of the same layers in the same precision, and nothing else."""

GRADIENTS = 10
"""Of an image, in the limit of an attack whose number of steps differs between images."""

STEPS = {"fgsm": 1, "pgd": 10, "pgd-l2": 10, "deepfool-l2": None, "deepfool-linf": None, "autoattack": None}
"""The attacks, and how many gradients an image each takes: DeepFool and AutoAttack as many as they need."""

WITHOUT_RANDOM_START = {"pgd": "bim", "pgd-l2": "bim-l2"}

Contenders = dict[str, Callable[[], Any]]


def own(classifier: TorchClassifier, name: str, eps: float | None, batch: int) -> dict[str, EvasionAttack]:
    """An attack of advbench on exact and on fast gradients.

    :param eps: the bound; None for DeepFool.
    """
    shape, classes = classifier.input_shape, classifier.nb_classes
    fast = estimators.classifier(classifier.model, shape, classes, "fast", classifier.device)
    step = None if eps is None else eps / 4
    known = WITHOUT_RANDOM_START.get(name, name)
    return {
        library: attacks.create(known, each, eps, step, STEPS[name], batch)
        for library, each in zip(LIMITS, (classifier, fast), strict=True)
    }


def limits(attacks: dict[str, EvasionAttack], x: np.ndarray, y: np.ndarray, name: str) -> Contenders:
    """The limit of each attack of advbench, by its name in ``LIMITS``."""
    return {
        LIMITS[library]: partial(_bare, attack.estimator, x, y, STEPS[name] or GRADIENTS, attack.batch_size)
        for library, attack in attacks.items()
    }


def attackers(
    classifier: TorchClassifier, x: np.ndarray, y: np.ndarray, name: str, eps: float | None, batch: int
) -> Contenders:
    """An attack as each other library does it: each call returns adversarial images, that of ``PLAIN`` none.

    :param eps: the bound; None for DeepFool.
    """
    net, device, steps = classifier.model, classifier.device, STEPS[name]
    images, labels = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
    found: Contenders = {PLAIN: partial(_gradients, net.eval(), images, labels, steps or GRADIENTS, batch)}
    if name == "autoattack":  # ART's is another ensemble
        assert eps is not None
        return found | {AUTHORS: partial(authors, classifier, x, y, eps, batch)}
    if name != "deepfool-linf":  # ART has none
        found["ART"] = partial(_art(_stock(net, None, classifier), name, eps, batch).generate, x, y)
    peers = _peers(net, device, name, eps)
    return found | {library: partial(_batched, attack, images, labels, batch) for library, attack in peers.items()}


def _stock(net: nn.Module, optimizer: torch.optim.Optimizer | None, like: TorchClassifier) -> PyTorchClassifier:
    """ART's own classifier as ART's examples make it."""
    device = "cpu" if like.device.type == "cpu" else "gpu"
    return PyTorchClassifier(
        net, nn.CrossEntropyLoss(), like.input_shape, like.nb_classes, optimizer, clip_values=(0, 1), device_type=device
    )


def _art(classifier: PyTorchClassifier, name: str, eps: float | None, batch: int) -> EvasionAttack:
    if eps is None:
        return DeepFool(classifier, max_iter=50, epsilon=0.02, nb_grads=10, batch_size=batch, verbose=False)
    if name == "fgsm":
        return FastGradientMethod(classifier, np.inf, eps, batch_size=batch)
    options = {"max_iter": STEPS[name], "num_random_init": 0, "batch_size": batch, "verbose": False}
    return ProjectedGradientDescent(classifier, 2 if name == "pgd-l2" else np.inf, eps, eps / 4, **options)


def authors(classifier: TorchClassifier, x: np.ndarray, y: np.ndarray, eps: float, batch: int) -> np.ndarray:
    """AutoAttack, l-inf, in version "standard" as its authors run it on the plain module."""
    attack = pyautoattack.AutoAttack(classifier.model.eval(), eps=eps, norm="Linf", seed=0, device=classifier.device)
    images, labels = (torch.from_numpy(each).to(classifier.device) for each in (x, y))
    return attack.run_standard_evaluation(images, labels, batch_size=batch)[0].detach().cpu().numpy()


def _bare(classifier: TorchClassifier, x: np.ndarray, y: np.ndarray, steps: int, batch: int) -> None:
    images, labels = (torch.from_numpy(each).to(classifier.device) for each in (x, y))
    with estimators.gradient_autocast(classifier), estimators.weights_read_once(classifier.model):
        _gradients(estimators.gradient_module(classifier), images, labels, steps, batch)


def _gradients(module: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, steps: int, batch: int) -> None:
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        for _ in range(steps):
            inputs = x.detach().requires_grad_(True)
            torch.autograd.grad(nn.functional.cross_entropy(module(inputs), y), inputs)


def _peers(
    net: nn.Module, device: torch.device, name: str, eps: float | None
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """foolbox and torchattacks, where they are installed (extra ``peers``)."""
    try:
        import foolbox
        import torchattacks
    except ImportError:
        return {}
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device=device)
    steps, step = STEPS[name], (eps or 0) / 4
    pgd: dict[str, Any] = {"abs_stepsize": step, "steps": steps, "random_start": False}
    foolboxes: Contenders = {
        "fgsm": partial(foolbox.attacks.LinfFastGradientAttack, random_start=False),
        "pgd": partial(foolbox.attacks.LinfPGD, **pgd),
        "pgd-l2": partial(foolbox.attacks.L2PGD, **pgd),
        "deepfool-l2": partial(foolbox.attacks.L2DeepFoolAttack, steps=50),
        "deepfool-linf": partial(foolbox.attacks.LinfDeepFoolAttack, steps=50),
    }
    peer = foolboxes[name]()
    found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"foolbox": lambda x, y: peer(model, x, y, epsilons=eps)[1]}
    if name == "fgsm":
        found["torchattacks"] = torchattacks.FGSM(net, eps)
    elif eps is not None:
        kind = torchattacks.PGDL2 if name == "pgd-l2" else torchattacks.PGD
        found["torchattacks"] = kind(net, eps, step, steps, random_start=False)
    return found


def _batched(attack: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor, batch: int) -> np.ndarray:
    parts = [attack(x, y) for x, y in zip(images.split(batch), labels.split(batch), strict=True)]
    return torch.cat(parts).detach().cpu().numpy()


def trainings(classifier: TorchClassifier, x: np.ndarray, y: np.ndarray, eps: float, batch: int) -> Contenders:
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
