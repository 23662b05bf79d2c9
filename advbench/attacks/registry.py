"""The attacks of the reports by name: ART's classes where ART has them right, ours where not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from advbench.errors import did_you_mean

if TYPE_CHECKING:
    from art.attacks.attack import EvasionAttack
    from art.estimators.classification import PyTorchClassifier

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class AttackSpec:
    """An attack of the registry.

    :param text: what it is, whose, and who published it.
    :param norm: in which it bounds or minimises the perturbation.
    :param bounded: whether it stays within an eps; a minimum-norm attack has none.
    """

    text: str
    norm: Norm = "linf"
    bounded: bool = True


ATTACKS = {
    "fgsm": AttackSpec("fast gradient sign method, l-inf (Goodfellow et al., 2015); ART's"),
    "bim": AttackSpec("basic iterative method, l-inf, no random start (Kurakin et al., 2017); ART's"),
    "bim-l2": AttackSpec("iterative l2 method, no random start (Metzen et al., 2017); ART's PGD", "l2"),
    "pgd": AttackSpec("projected gradient descent, l-inf, random start (Madry et al., 2018); ART's"),
    "pgd-l2": AttackSpec("projected gradient descent, l2, random start; ART's", "l2"),
    "autoattack": AttackSpec("AutoAttack standard, l-inf (Croce & Hein, 2020); the authors' code"),
    "autoattack-l2": AttackSpec("AutoAttack standard, l2", "l2"),
    "deepfool-l2": AttackSpec("DeepFool, l2 (Moosavi-Dezfooli et al., 2016), batched", "l2", bounded=False),
    "deepfool-linf": AttackSpec("DeepFool, l-inf, batched", bounded=False),
}


def create(
    name: str,
    classifier: PyTorchClassifier,
    eps: float | None = None,
    eps_step: float | None = None,
    max_iter: int | None = None,
    batch_size: int | None = None,
) -> EvasionAttack:
    """An attack of the registry on a classifier for images in [0, 1].

    :param eps: the bound on the perturbation in the attack's norm; needed by every attack but DeepFool.
    :param eps_step: the step of an iterative attack, default eps / 4.
    :param max_iter: steps of an iterative attack, default 10; of DeepFool, default 50.
    :param batch_size: images at a time, by default :func:`advbench.device.images_at_a_time`.
    :raises UsageError: for an unknown name.
    :raises ValueError: for a missing or negative eps.
    """
    import numpy as np
    from art.attacks.evasion import FastGradientMethod

    from advbench import checks, device
    from advbench.attacks.autoattack import AutoAttack
    from advbench.attacks.deepfool import DeepFool
    from advbench.attacks.pgd import PGD

    if name not in ATTACKS:
        raise did_you_mean("attack", name, list(ATTACKS))
    if batch_size is None:
        batch_size = device.images_at_a_time(classifier.input_shape, classifier.device)
    norm = 2 if ATTACKS[name].norm == "l2" else np.inf
    if name.startswith("deepfool"):
        return DeepFool(classifier, norm, max_iter=max_iter or 50, batch_size=batch_size)
    if eps is None:
        raise ValueError(f"eps is needed by {name}")
    if name.startswith("autoattack"):
        return AutoAttack(classifier, norm, eps, batch_size=batch_size)
    eps = float(checks.positive(eps, "eps", zero=True))
    smallest = 1 / 255  # ART rejects a step of 0, which eps = 0 would lead to
    if name == "fgsm":
        return FastGradientMethod(classifier, norm, eps, eps_step=eps or smallest, batch_size=batch_size)
    return PGD(
        classifier,
        norm,
        eps,
        float(eps_step or eps / 4 or smallest),
        max_iter=max_iter or 10,
        num_random_init=1 if name.startswith("pgd") else 0,
        batch_size=batch_size,
        verbose=False,
    )
