"""The attacks of an evaluation, and how strong each is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from advbench.attacks.registry import ATTACKS
from advbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from art.attacks.attack import EvasionAttack
    from art.estimators.classification import PyTorchClassifier

DISTANCES = tuple(name for name, spec in ATTACKS.items() if not spec.bounded)
"""The attacks that seek the nearest decision boundary instead of staying within a bound."""

_MIN_CLASSES = 4  # of AutoAttack's DLR loss


@dataclass(frozen=True)
class Bounded:
    """One attack within a bound.

    :param name: in the registry.
    :param label: in the report.
    :param max_iter: steps.
    :param restarts: runs, each from another random start on the images that are still right.
    :param single: whether it is one step of the whole bound.
    """

    name: str
    label: str
    max_iter: int = 10
    restarts: int = 1
    single: bool = False

    @property
    def is_autoattack(self) -> bool:
        return self.name in (in_norm("autoattack", norm) for norm in ("linf", "l2"))

    def attack(self, classifier: PyTorchClassifier, eps: float, seed: int) -> EvasionAttack:
        """The attack on a classifier, within eps."""
        from advbench import attacks

        if self.is_autoattack:
            return attacks.AutoAttack(classifier, 2 if ATTACKS[self.name].norm == "l2" else "inf", eps, seed)
        return attacks.create(self.name, classifier, eps, eps if self.single else None, self.max_iter)


@dataclass(frozen=True)
class Battery:
    """The attacks of one evaluation.

    :param bounded: in this order, each on the images that are right after those before it.
    :param distances: the DeepFool variants.
    """

    bounded: tuple[Bounded, ...]
    distances: tuple[str, ...]


def in_norm(name: str, norm: str) -> str:
    """The name of the variant of an attack in a norm."""
    return f"{name}-l2" if norm == "l2" else name


def battery(attacks: str, norm: str) -> Battery:
    """The attacks for ``standard``, ``fast`` or comma-separated names of the registry.

    :param norm: ``linf`` or ``l2``.
    :raises UsageError: for an unknown name, or an attack in another norm.

    ``standard`` is the single step, PGD with 50 steps and 10 restarts (Andriushchenko & Flammarion, 2020, section 5),
    both DeepFools and AutoAttack; ``fast`` the single step, PGD with 20 steps, and DeepFool in the norm.
    """
    step = Bounded("fgsm", "FGSM") if norm == "linf" else Bounded("bim-l2", "FGM", 1, single=True)
    pgd = in_norm("pgd", norm)
    if attacks == "standard":
        ensemble = Bounded(in_norm("autoattack", norm), "AutoAttack standard")
        return Battery((step, Bounded(pgd, "PGD-50, 10 restarts", 50, 10), ensemble), DISTANCES)
    if attacks == "fast":
        return Battery((step, Bounded(pgd, "PGD-20", 20)), (f"deepfool-{norm}",))
    names = [name.strip() for name in attacks.split(",")]
    for name in names:
        if name not in ATTACKS:
            raise did_you_mean("attack", name, ["standard", "fast", *ATTACKS])
        if ATTACKS[name].norm != norm and name not in DISTANCES:
            fitting = [known for known in ATTACKS if ATTACKS[known].norm == norm]
            raise UsageError(f"{name} is bounded in {ATTACKS[name].norm}; --norm {norm} takes {', '.join(fitting)}")
    bounded = tuple(Bounded(name, name) for name in names if name not in DISTANCES)
    if not bounded:
        raise UsageError(f"--attacks must hold one that stays within --eps, not only {', '.join(names)}")
    return Battery(bounded, tuple(name for name in names if name in DISTANCES))


def fitting(wanted: Battery, classes: int) -> tuple[Battery, list[str]]:
    """The attacks that a number of classes allows, and a note where one is left out.

    :raises UsageError: if no attack remains.
    """
    allowed = tuple(each for each in wanted.bounded if classes >= _MIN_CLASSES or not each.is_autoattack)
    if allowed == wanted.bounded:
        return wanted, []
    note = f"AutoAttack needs {_MIN_CLASSES} classes, the model has {classes}: left out"
    if not allowed:
        raise UsageError(note)
    return replace(wanted, bounded=allowed), [note]
