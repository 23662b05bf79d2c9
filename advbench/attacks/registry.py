"""The attacks of the reports by name: ART's classes where ART has them right, ours where not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from advbench.errors import did_you_mean

if TYPE_CHECKING:
    from art.attacks.attack import EvasionAttack
    from art.estimators.classification import PyTorchClassifier

Norm = Literal["linf", "l2", "l1", "l0"]
Access = Literal["gradients", "scores", "labels"]

_SMALLEST_STEP = 1 / 255  # for eps = 0: ART rejects a step of 0


@dataclass(frozen=True)
class AttackSpec:
    """An attack of the registry.

    :param text: what it is, whose, and who published it.
    :param kind: module and class of the ART attack, or a function that makes one, which is imported when one is made.
    :param norm: in which it bounds or minimises the perturbation.
    :param bounded: whether it stays within an eps; a minimum-norm attack has none.
    :param access: what it takes from the classifier.
    :param max_iter: the default number of steps; None where the class takes none.
    :param step: the default step as a share of eps; None where the class takes none.
    :param options: further arguments of the class.
    """

    text: str
    kind: str
    norm: Norm = "linf"
    bounded: bool = True
    access: Access = "gradients"
    max_iter: int | None = None
    step: float | None = None
    options: dict[str, Any] = field(default_factory=dict)


def _pgd(text: str, norm: Norm = "linf", random_starts: int = 0) -> AttackSpec:
    options = {"num_random_init": random_starts, "verbose": False}
    return AttackSpec(text, "advbench.attacks.pgd:pgd", norm, max_iter=10, step=1 / 4, options=options)


def _autoattack(text: str, norm: Norm = "linf", **options: Any) -> AttackSpec:
    return AttackSpec(text, "advbench.attacks.autoattack:AutoAttack", norm, options=options)


def _component(name: str, text: str, norm: Norm = "linf") -> AttackSpec:
    spec = _autoattack(f"{text}, {'l-inf' if norm == 'linf' else norm}; a part of AutoAttack", norm, components=(name,))
    return replace(spec, access="scores" if name == "square" else "gradients")


_COMPONENTS = {
    "apgd-ce": "APGD on the cross-entropy (Croce & Hein, 2020)",
    "apgd-t": "APGD towards nine classes on the DLR loss (Croce & Hein, 2020)",
    "fab-t": "FAB towards nine classes (Croce & Hein, 2020)",
    "square": "Square with 5,000 queries (Andriushchenko et al., 2020)",
}


_IN_L1 = {
    "apgd-ce": "APGD on the cross-entropy with five restarts (Croce & Hein, 2021)",
    "apgd-t": "APGD towards five classes on the DLR loss (Croce & Hein, 2021)",
}


def _deepfool(text: str, norm: Norm = "linf") -> AttackSpec:
    return AttackSpec(text, "advbench.attacks.deepfool:DeepFool", norm, bounded=False, max_iter=50)


def _fmn(norm: Norm) -> AttackSpec:
    text = f"fast minimum-norm attack, {'l-inf' if norm == 'linf' else norm} (Pintor et al., 2021), batched"
    return AttackSpec(text, "advbench.attacks.fmn:FMN", norm, bounded=False, max_iter=100)


def _hopskipjump(text: str, norm: Norm = "linf") -> AttackSpec:
    kind = "advbench.attacks.hopskipjump:HopSkipJump"
    return AttackSpec(text, kind, norm, False, "labels", max_iter=50, options={"verbose": False})


ATTACKS = {
    "fgsm": AttackSpec(
        "fast gradient sign method, l-inf (Goodfellow et al., 2015); ART's", "advbench.attacks.fgsm:FGSM", step=1
    ),
    "bim": _pgd("basic iterative method, l-inf, no random start (Kurakin et al., 2017); ART's"),
    "bim-l2": _pgd("iterative l2 method, no random start (Metzen et al., 2017); ART's PGD", "l2"),
    "pgd": _pgd("projected gradient descent, l-inf, random start (Madry et al., 2018); ART's", random_starts=1),
    "pgd-l2": _pgd("projected gradient descent, l2, random start; ART's", "l2", random_starts=1),
    "pgd-l1": _pgd("projected gradient descent, l1, random start (Croce & Hein, 2021)", "l1", random_starts=1),
    "autoattack": _autoattack("AutoAttack standard, l-inf (Croce & Hein, 2020); the authors' code"),
    "autoattack-l2": _autoattack("AutoAttack standard, l2", "l2"),
    "autoattack-l1": _autoattack("AutoAttack standard, l1 (Croce & Hein, 2021)", "l1"),
    **{name: _component(name, text) for name, text in _COMPONENTS.items()},
    **{f"{name}-l2": _component(name, text, "l2") for name, text in _COMPONENTS.items()},
    **{f"{name}-l1": _component(name, text, "l1") for name, text in (_COMPONENTS | _IN_L1).items()},
    "deepfool-l2": _deepfool("DeepFool, l2 (Moosavi-Dezfooli et al., 2016), batched", "l2"),
    "deepfool-linf": _deepfool("DeepFool, l-inf, batched"),
    "fmn-linf": _fmn("linf"),
    "fmn-l2": _fmn("l2"),
    "fmn-l1": _fmn("l1"),
    "fmn-l0": _fmn("l0"),
    "ddn-l2": AttackSpec(
        "decoupled direction and norm, l2 (Rony et al., 2019), batched",
        "advbench.attacks.ddn:DDN",
        "l2",
        bounded=False,
        max_iter=100,
    ),
    "sigma-zero": AttackSpec(
        "sigma-zero, l0 (Cinà et al., 2025), batched",
        "advbench.attacks.sigma_zero:SigmaZero",
        "l0",
        bounded=False,
        max_iter=1000,
    ),
    "sparse-rs": AttackSpec(
        "sparse random search, l0, with 5,000 queries (Croce et al., 2022), batched",
        "advbench.attacks.sparse_rs:SparseRS",
        "l0",
        access="scores",
        max_iter=5000,
    ),
    "hopskipjump": _hopskipjump("HopSkipJump, l-inf (Chen et al., 2020); ART's"),
    "hopskipjump-l2": _hopskipjump("HopSkipJump, l2; ART's", "l2"),
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

    :param eps: the bound on the perturbation in the attack's norm; needed by every attack that is bounded.
    :param eps_step: the step of an iterative attack, default eps / 4.
    :param max_iter: steps of an iterative attack, default 10; of DeepFool, default 50.
    :param batch_size: images at a time, by default :func:`advbench.device.images_at_a_time`.
    :raises UsageError: for an unknown name.
    :raises ValueError: for a missing or negative eps.
    """
    import numpy as np

    from advbench import checks, device

    if name not in ATTACKS:
        raise did_you_mean("attack", name, list(ATTACKS))
    spec = ATTACKS[name]
    if batch_size is None:
        batch_size = device.images_at_a_time(classifier.input_shape, classifier.device)
    norm = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}[spec.norm]
    arguments = {"norm": norm, "batch_size": batch_size, **spec.options}
    if spec.max_iter:
        arguments["max_iter"] = max_iter or spec.max_iter
    if spec.bounded:
        if eps is None:
            raise ValueError(f"eps is needed by {name}")
        arguments["eps"] = eps = float(checks.positive(eps, "eps", zero=True))
        if spec.step:
            arguments["eps_step"] = float(eps_step or spec.step * eps or _SMALLEST_STEP)
    module, _, kind = spec.kind.partition(":")
    return getattr(import_module(module), kind)(classifier, **arguments)
