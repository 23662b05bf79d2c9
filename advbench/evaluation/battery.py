"""Which attacks are run, and how hard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from advbench.attacks.registry import ATTACKS
from advbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from art.attacks.attack import EvasionAttack
    from art.estimators.classification import PyTorchClassifier

DISTANCES = ("deepfool-l2", "deepfool-linf")
"""The attacks that seek the nearest boundary instead of staying within a bound."""

_MIN_CLASSES = 4  # of AutoAttack's DLR loss


@dataclass(frozen=True)
class Bounded:
    """One attack within a bound.

    :param name: in the registry.
    :param label: in the report.
    :param max_iter: steps.
    :param restarts: how often it is run on what it has not beaten, from another random start each time.
    :param single: whether it is one step of the whole bound.
    """

    name: str
    label: str
    max_iter: int = 10
    restarts: int = 1
    single: bool = False

    def attack(self, classifier: PyTorchClassifier, eps: float, seed: int) -> EvasionAttack:
        """The attack on a classifier, within eps."""
        from advbench import attacks

        if self.name.startswith("autoattack"):
            return attacks.AutoAttack(classifier, "inf" if ATTACKS[self.name].norm == "linf" else 2, eps, seed)
        return attacks.create(self.name, classifier, eps, eps if self.single else None, self.max_iter)


@dataclass(frozen=True)
class Battery:
    """What is run.

    :param bounded: in this order, each on what the ones before left correct.
    :param distances: the DeepFool variants.
    """

    bounded: tuple[Bounded, ...]
    distances: tuple[str, ...]


def battery(attacks: str, norm: str) -> Battery:
    """The attacks for ``standard``, ``fast`` or comma-separated names of the registry.

    :param norm: ``linf`` or ``l2``.
    :raises UsageError: for an unknown name, or an attack in another norm.

    ``standard`` is the single step, PGD with 50 steps and 10 restarts (Andriushchenko & Flammarion, 2020, section 5),
    both DeepFools and AutoAttack; ``fast`` the single step, PGD with 20 steps, and DeepFool in the norm.
    """
    suffix = "-l2" if norm == "l2" else ""
    step = Bounded("fgsm", "FGSM") if norm == "linf" else Bounded("bim-l2", "FGM", 1, single=True)
    if attacks == "standard":
        pgd = Bounded(f"pgd{suffix}", "PGD-50, 10 restarts", 50, 10)
        return Battery((step, pgd, Bounded(f"autoattack{suffix}", "AutoAttack standard")), DISTANCES)
    if attacks == "fast":
        return Battery((step, Bounded(f"pgd{suffix}", "PGD-20", 20)), (f"deepfool-{norm}",))
    return _named([name.strip() for name in attacks.split(",")], norm)


def _named(names: Sequence[str], norm: str) -> Battery:
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
    """The battery without what a number of classes does not allow, and what was left out.

    :raises UsageError: if nothing is left.
    """
    if classes >= _MIN_CLASSES:
        return wanted, []
    left = tuple(each for each in wanted.bounded if not each.name.startswith("autoattack"))
    note = f"AutoAttack needs {_MIN_CLASSES} classes, the model has {classes}: left out"
    if not left:
        raise UsageError(note)
    return Battery(left, wanted.distances), [note] * (left != wanted.bounded)
