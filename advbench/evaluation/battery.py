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
_ENSEMBLE = {"apgd-ce": "APGD-CE", "apgd-t": "APGD-T", "fab-t": "FAB-T", "square": "Square"}  # of AutoAttack, standard
_PASSES = {"apgd-ce": 202, "apgd-t": 1818, "fab-t": 2700, "square": 5001, "autoattack": 9721}


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
    def passes(self) -> int:
        """Forward and backward passes of an image that withstands it."""
        steps = 1 if ATTACKS[self.name].max_iter is None else self.max_iter
        return _PASSES.get(self.name.removesuffix("-l2"), 2 * steps * self.restarts)

    def attack(self, classifier: PyTorchClassifier, eps: float, seed: int) -> EvasionAttack:
        """The attack on a classifier, within eps."""
        from advbench import attacks

        attack = attacks.create(self.name, classifier, eps, eps if self.single else None, self.max_iter)
        if "seed" in attack.attack_params:
            attack.set_params(seed=seed)
        return attack


@dataclass(frozen=True)
class Battery:
    """The attacks of one evaluation.

    :param bounded: each runs on the images that are right after those before it: the cheapest first, for the order changes
        the cost and not the union.
    :param distances: the DeepFool variants.
    """

    bounded: tuple[Bounded, ...]
    distances: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounded", tuple(sorted(self.bounded, key=lambda each: each.passes)))


def in_norm(name: str, norm: str) -> str:
    """The name of the variant of an attack in a norm."""
    return f"{name}-l2" if norm == "l2" else name


def battery(attacks: str, norm: str) -> Battery:
    """The attacks for ``standard``, ``fast`` or comma-separated names of the registry.

    :param norm: ``linf`` or ``l2``.
    :raises UsageError: for an unknown name, or an attack in another norm.

    ``standard`` is the single step, PGD with 50 steps and 10 restarts (Andriushchenko & Flammarion, 2020, section 5),
    both DeepFools and the four attacks of AutoAttack; ``fast`` the single step, PGD with 20 steps, and DeepFool in the norm.
    """
    step = Bounded("fgsm", "FGSM") if norm == "linf" else Bounded("bim-l2", "FGM", 1, single=True)
    pgd = in_norm("pgd", norm)
    if attacks == "standard":
        ensemble = [Bounded(in_norm(name, norm), label) for name, label in _ENSEMBLE.items()]
        return Battery((step, Bounded(pgd, "PGD-50, 10 restarts", 50, 10), *ensemble), DISTANCES)
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
    if classes >= _MIN_CLASSES:
        return wanted, []
    allowed = tuple(each for each in wanted.bounded if not each.name.startswith("apgd-t"))
    if not allowed:
        raise UsageError(f"apgd-t needs {_MIN_CLASSES} classes, the model has {classes}")
    ensemble = [each for each in wanted.bounded if each.name.removesuffix("-l2") in _PASSES]
    note = f"the model has {classes} classes: AutoAttack runs without APGD-T, whose loss needs {_MIN_CLASSES}"
    return replace(wanted, bounded=allowed), [note] if ensemble else []
