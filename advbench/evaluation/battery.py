"""The attacks of an evaluation: what a reviewer asks for in a threat model, or those that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from advbench.attacks.registry import ATTACKS
from advbench.errors import UsageError, did_you_mean
from advbench.evaluation.foreign import foreign, split
from advbench.evaluation.options import Access, Norm, Options

if TYPE_CHECKING:
    from art.attacks.attack import EvasionAttack

    from advbench.estimators import TorchClassifier

_MIN_CLASSES = 4  # of AutoAttack's DLR loss
_KNOWLEDGE: tuple[Access, ...] = ("labels", "scores", "gradients")  # each contains those before it


class Attack(Protocol):
    """One attack of a battery.

    :ivar name: as the user writes it.
    :ivar label: in the report.
    :ivar norm: in which its perturbations are measured.
    :ivar bounded: whether it stays within an eps, or seeks the smallest perturbation.
    :ivar once: whether its steps are the same for every eps, so that one run, at the smallest, is that at all.
    :ivar restarts: runs, each from another random start on the images that are still right.
    """

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def norm(self) -> Norm: ...
    @property
    def bounded(self) -> bool: ...
    @property
    def once(self) -> bool: ...
    @property
    def restarts(self) -> int: ...
    @property
    def passes(self) -> float:
        """Forward and backward passes of an image that withstands it; infinite where that is not known."""
        ...

    def on(self, classifier: TorchClassifier, eps: float | None, seed: int) -> Any:
        """The attack on a classifier, within eps where it is bounded, as an object with ``generate(x, y)``."""
        ...


@dataclass(frozen=True)
class Own:
    """An attack of the registry.

    :param name: in the registry.
    :param label: in the report, by default the name.
    :param max_iter: steps, by default those of the registry.
    :param restarts: runs, each from another random start on the images that are still right.
    :param single: whether it is one step of the whole bound.
    """

    name: str
    label: str = ""
    max_iter: int | None = None
    restarts: int = 1
    single: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.name)

    @property
    def norm(self) -> Norm:
        return ATTACKS[self.name].norm

    @property
    def bounded(self) -> bool:
        return ATTACKS[self.name].bounded

    @property
    def once(self) -> bool:
        return _family(self.name) == "fab-t"

    @property
    def passes(self) -> float:
        steps = self.max_iter or ATTACKS[self.name].max_iter or 1
        if self.max_iter and self.name.startswith("square"):
            return self.max_iter + 1
        step = 1 + _GRADIENTS if self.name.startswith("deepfool") else 2
        return _PASSES.get(self.name, _PASSES.get(_family(self.name), step * steps * self.restarts))

    def on(self, classifier: TorchClassifier, eps: float | None, seed: int) -> EvasionAttack:
        from advbench import attacks

        attack = attacks.create(self.name, classifier, eps, eps if self.single else None, self.max_iter)
        if self.max_iter and "queries" in attack.attack_params:
            attack.set_params(queries=self.max_iter)
        if "seed" in attack.attack_params:
            attack.set_params(seed=seed)
        if self.once:
            attack.set_params(farther=True)
        return attack


_GRADIENTS = 10  # of DeepFool in a step, at most
_ENSEMBLE = {"apgd-ce": 202, "apgd-t": 1818, "fab-t": 2700, "square": 5001, "autoattack": 9721}
_PASSES = _ENSEMBLE | {"apgd-ce-l1": 1030, "apgd-t-l1": 1030, "autoattack-l1": 9761, "sparse-rs": 5001}


def _family(name: str) -> str:
    return name.removesuffix("-l2").removesuffix("-l1")


def _ensemble(suffix: str, *others: Own) -> tuple[Own, ...]:
    """The parts of AutoAttack, standard, and others before its dearest: APGD-T beats most of what those would be run on."""
    first = Own(f"apgd-ce{suffix}", "APGD-CE"), Own(f"apgd-t{suffix}", "APGD-T")
    return *first, *others, Own(f"fab-t{suffix}", "FAB-T"), Own(f"square{suffix}", "Square")


_SQUARE = "Square, 100 queries"
_PGD = "PGD-50, 10 restarts"
_STANDARD: dict[tuple[Access, Norm], tuple[Own, ...]] = {
    ("gradients", "linf"): (
        Own("fgsm", "FGSM"),
        Own("deepfool-linf", "DeepFool"),
        Own("fmn-linf", "FMN", 70),  # as near as 100 steps within a hundredth: docs/results/attacks
        *_ensemble("", Own("pgd", _PGD, 50, 10)),
    ),
    ("gradients", "l2"): (
        Own("bim-l2", "FGM", 1, single=True),
        Own("deepfool-l2", "DeepFool"),
        Own("fmn-l2", "FMN"),
        Own("ddn-l2", "DDN"),
        *_ensemble("-l2", Own("pgd-l2", _PGD, 50, 10)),
    ),
    ("gradients", "l1"): (Own("fmn-l1", "FMN"), *_ensemble("-l1", Own("pgd-l1", _PGD, 50, 10))),
    ("gradients", "l0"): (Own("fmn-l0", "FMN"), Own("sigma-zero", "sigma-zero"), Own("sparse-rs", "Sparse-RS")),
    ("scores", "linf"): (Own("square", "Square"),),
    ("scores", "l2"): (Own("square-l2", "Square"),),
    ("scores", "l1"): (Own("square-l1", "Square"),),
    ("scores", "l0"): (Own("sparse-rs", "Sparse-RS"),),
    ("labels", "linf"): (Own("hopskipjump", "HopSkipJump"),),
    ("labels", "l2"): (Own("hopskipjump-l2", "HopSkipJump"),),
}
_FAST: dict[tuple[Access, Norm], tuple[Own, ...]] = {
    ("gradients", "linf"): (
        Own("fgsm", "FGSM"),
        Own("deepfool-linf", "DeepFool"),
        Own("pgd", "PGD-20", 20),
        Own("square", _SQUARE, 100),
    ),
    ("gradients", "l2"): (
        Own("bim-l2", "FGM", 1, single=True),
        Own("deepfool-l2", "DeepFool"),
        Own("pgd-l2", "PGD-20", 20),
        Own("square-l2", _SQUARE, 100),
    ),
    ("gradients", "l1"): (Own("fmn-l1", "FMN"),),
    ("gradients", "l0"): (Own("sigma-zero", "sigma-zero", 100),),
    **{key: attacks for key, attacks in _STANDARD.items() if len(attacks) == 1},
}


def in_norm(name: str, norm: str) -> str:
    """The name of the variant of an attack in a norm."""
    return name if norm == "linf" else f"{name}-{norm}"


def battery(attacks: str, norm: Norm, access: Access = "gradients") -> tuple[Attack, ...]:
    """The attacks, in order, for ``standard``, ``fast`` or comma-separated names of ours and of other libraries.

    :param access: what the attacker sees of the model.
    :raises UsageError: for an unknown name, an attack in another norm or with more access, or none in the norm.

    ``standard`` is, by norm, what a reviewer asks for: the single step, DeepFool and FMN, in l2 also DDN, which seek
    the smallest perturbation, PGD with 50 steps and 10 restarts (Andriushchenko & Flammarion, 2020, section 5), and the four
    attacks of AutoAttack. In l1 it is FMN, PGD and the four of AutoAttack, in l0 FMN, sigma-zero and sparse random search.
    ``fast`` is the single step, DeepFool, PGD with 20 steps, and Square with 100 queries, which beats what masked gradients
    left; in l1 FMN, in l0 sigma-zero with 100 steps.
    """
    if attacks in ("standard", "fast"):
        table = _STANDARD if attacks == "standard" else _FAST
        if (access, norm) not in table:
            known = " and ".join(each for sees, each in table if sees == access)
            raise UsageError(f"there is no attack in {norm} with --access {access}; with it --norm takes {known}")
        return table[access, norm]
    named = [_named(name, norm, access) for name in split(attacks)]
    if not named or len({each.name for each in named}) < len(named):
        raise UsageError(f"--attacks must hold one or several attacks, each once, not {attacks!r}")
    # the cheapest first, for the order changes the cost and not the union; attacks without a bound count at every one
    found = tuple(sorted(named, key=lambda each: (each.passes > 2, each.bounded, each.passes)))
    if all(each.norm != norm for each in found):
        raise UsageError(f"--attacks must hold one in {norm}, not only {', '.join(each.name for each in found)}")
    return found


def follows_gradients(attack: Attack) -> bool:
    """Whether an attack takes gradients; one of another library is taken for such."""
    return not isinstance(attack, Own) or ATTACKS[attack.name].access == "gradients"


def labels_of(options: Options) -> list[str]:
    """How the table names the attacks that options ask for.

    :raises UsageError: as :func:`battery` does.
    """
    found = batteries(options.attacks, options.norm, options.access)
    return list(dict.fromkeys(each.label for attacks in found.values() for each in attacks))


def batteries(attacks: str, norms: Sequence[Norm], access: Access = "gradients") -> dict[Norm, tuple[Attack, ...]]:
    """The attacks in each norm. With several norms a named attack runs in its own, one of another library in all that it takes.

    :raises UsageError: as :func:`battery` does.
    """
    if len(norms) == 1 or attacks in ("standard", "fast"):
        return {norm: battery(attacks, norm, access) for norm in norms}
    names: dict[Norm, list[str]] = {norm: [] for norm in norms}
    for name in split(attacks):
        error = UsageError(f"{name} is of another norm; --norm is {','.join(norms)}")
        for norm in norms:
            try:
                if _named(name, norm, access).norm == norm:
                    names[norm].append(name)
            except UsageError as refused:
                error = refused
        if not any(name in found for found in names.values()):
            raise error
    return {norm: battery(",".join(names[norm]) or attacks, norm, access) for norm in norms}


def _named(name: str, norm: Norm, access: Access) -> Attack:
    if ":" in name:
        if access != "gradients":
            raise UsageError(f"{name} does not say what it needs of the model; it takes --access gradients")
        return foreign(name, norm)
    if name not in ATTACKS:
        raise did_you_mean("attack", name, ["standard", "fast", *ATTACKS])
    spec = ATTACKS[name]
    if spec.bounded and spec.norm != norm:
        fitting = [known for known, other in ATTACKS.items() if other.norm == norm]
        raise UsageError(f"{name} is bounded in {spec.norm}; --norm {norm} takes {', '.join(fitting)}")
    if _KNOWLEDGE.index(spec.access) > _KNOWLEDGE.index(access):
        raise UsageError(f"{name} needs {spec.access} of the model, and --access is {access}")
    return Own(name)


def fitting(wanted: tuple[Attack, ...], classes: int) -> tuple[tuple[Attack, ...], list[str]]:
    """The attacks that a number of classes allows, and a note where one is left out.

    :raises UsageError: if no attack remains.
    """
    if classes >= _MIN_CLASSES:
        return wanted, []
    allowed = tuple(each for each in wanted if not each.name.startswith("apgd-t"))
    if not allowed:
        raise UsageError(f"apgd-t needs {_MIN_CLASSES} classes, the model has {classes}")
    ensemble = [each for each in wanted if _family(each.name) in ("apgd-t", "autoattack")]
    note = f"the model has {classes} classes: AutoAttack runs without APGD-T, whose loss needs {_MIN_CLASSES}"
    return allowed, [note] if ensemble else []
