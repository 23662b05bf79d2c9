"""Attacks of ART, foolbox and torchattacks by name, with their parameters: ``art:SquareAttack(max_iter=500)``."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from advbench.errors import UsageError, did_you_mean
from advbench.evaluation.options import Norm

if TYPE_CHECKING:
    from advbench.estimators import TorchClassifier

LIBRARIES = {
    "art": ("art.attacks.evasion", "adversarial-robustness-toolbox"),
    "foolbox": ("foolbox.attacks", "foolbox"),
    "torchattacks": ("torchattacks", "torchattacks"),
}
"""The module that holds the attacks of a library, and the package that brings it."""

_OURS = ("self", "estimator", "classifier", "model", "args", "kwargs")  # what is no parameter of a user
_RESERVED = {"eps": "it is that of --eps", "targeted": "the labels are the true ones"}
_P = {"linf": math.inf, "l2": 2, "l1": 1, "l0": 0}
_NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1", "l0": "L0"}


@dataclass(frozen=True)
class Foreign:
    """An attack of another library.

    :param name: as the user writes it.
    :param kind: its class.
    :param given: the parameters that the user names.
    :param bounded: whether it stays within an eps, or seeks the smallest perturbation.
    """

    name: str
    norm: Norm
    library: str
    kind: type
    given: dict[str, Any] = field(default_factory=dict)
    bounded: bool = True
    once: bool = False
    restarts: int = 1
    passes: float = math.inf

    @property
    def label(self) -> str:
        return self.name

    def on(self, classifier: TorchClassifier, eps: float | None, seed: int) -> Any:
        """The attack on a classifier, within eps where it is bounded, as an object with ``generate(x, y)``.

        :raises UsageError: where its library refuses the parameters.
        """
        try:
            return _Adapter(_MADE[self.library](self, classifier, eps), self.name)
        except Exception as error:  # every library has its own errors for a wrong value
            raise _refused(self.name, error) from error


class _Adapter:
    """An attack of another library from float32 images and labels to float32 images; its errors are one line."""

    def __init__(self, run: Callable[[np.ndarray, np.ndarray], np.ndarray], name: str) -> None:
        self.run, self.name = run, name

    def generate(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The images after the attack; NaN, which is no image, is not judged."""
        try:
            return np.nan_to_num(np.asarray(self.run(x, y), np.float32), nan=0.5)
        except Exception as error:
            raise _refused(self.name, error) from error


def _refused(name: str, error: Exception) -> UsageError:
    from advbench.files import with_type

    return UsageError(f"{name} cannot be run: {with_type(error)}")


def split(attacks: str) -> list[str]:
    """The names in a list with commas; a comma inside of parentheses belongs to the parameters."""
    names, depth = [""], 0
    for character in attacks:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            names.append("")
        else:
            names[-1] += character
    return [name.strip() for name in names if name.strip()]


def foreign(name: str, norm: Norm) -> Foreign:
    """The attack ``library:Class`` or ``library:Class(parameter=value, ...)``.

    :raises UsageError: for an unknown library, class or parameter, a package that is not installed, a parameter that the
        evaluation sets, or an attack that is bounded in another norm.
    """
    library, _, text = name.partition(":")
    if library not in LIBRARIES:
        raise did_you_mean("library of attacks", library, list(LIBRARIES))
    wanted, given = _parsed(name, text)
    module, package = LIBRARIES[library]
    try:
        known = _classes(import_module(module), library)
    except ImportError as error:
        raise UsageError(f"{name} needs the package {package}: pip install {package}") from error
    if wanted not in known:
        from difflib import get_close_matches

        near = get_close_matches(wanted, known, 5, 0.5)
        raise UsageError(
            f"{library} has no attack named {wanted!r}; near are {', '.join(near) or ', '.join(sorted(known)[:8])}"
        )
    kind = known[wanted]
    parameters = [each for each in inspect.signature(kind).parameters if each not in _OURS]
    for each in given:
        if each in _RESERVED:
            raise UsageError(f"{name}: {each} cannot be set here: {_RESERVED[each]}")
        if each not in parameters:
            raise UsageError(f"{name}: {wanted} has no parameter {each!r}; it has {', '.join(parameters) or 'none'}")
    found = Foreign(name, norm, library, kind, given, "eps" in parameters)
    return _by_foolbox(found) if library == "foolbox" else found


def _parsed(name: str, text: str) -> tuple[str, dict[str, Any]]:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, {}
        assert isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args
        return tree.func.id, {str(each.arg): _value(each.value) for each in tree.keywords}
    except (SyntaxError, ValueError, AssertionError, ZeroDivisionError, RecursionError) as error:
        raise UsageError(f"{name!r} is not of the form library:Class(parameter=value, ...)") from error


def _value(node: ast.expr) -> Any:
    """A literal; a number may be written 1/255."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _value(node.left) / _value(node.right)
    return ast.literal_eval(node)


def _classes(module: Any, library: str) -> dict[str, type]:
    if library == "art":
        from art.attacks.attack import EvasionAttack as base
    elif library == "foolbox":
        from foolbox.attacks.base import Attack as base
    else:
        from torchattacks.attack import Attack as base
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and not inspect.isabstract(value)
    }


def _by_foolbox(found: Foreign) -> Foreign:
    """A foolbox attack takes its eps when it is run, and knows its norm."""
    from foolbox.attacks.base import MinimizationAttack

    try:
        distance = found.kind(**found.given).distance
    except Exception as error:
        raise _refused(found.name, error) from error
    p = getattr(distance, "p", None)
    if p is not None and p != _P[found.norm]:
        raise UsageError(f"{found.name} is of l{'-inf' if p == math.inf else f'{p:g}'}, and --norm is {found.norm}")
    bounded = not issubclass(found.kind, MinimizationAttack)
    return Foreign(found.name, found.norm, found.library, found.kind, found.given, bounded)


def _arguments(attack: Foreign, eps: float | None, **defaults: Any) -> dict[str, Any]:
    """What the user gives, the bound, and those of the defaults that the class takes."""
    known = inspect.signature(attack.kind).parameters
    bound = {"eps": float(eps)} if eps is not None else {}
    return {**{key: value for key, value in defaults.items() if key in known}, **bound, **attack.given}


def _art(attack: Foreign, classifier: TorchClassifier, eps: float | None) -> Callable[..., np.ndarray]:
    options = {"norm": _P[attack.norm], "verbose": False}
    return attack.kind(classifier, **_arguments(attack, eps, **options)).generate


def _foolbox(attack: Foreign, classifier: TorchClassifier, eps: float | None) -> Callable[..., np.ndarray]:
    import foolbox

    from advbench.estimators import whole_model

    made = attack.kind(**attack.given)
    model = foolbox.PyTorchModel(whole_model(classifier), bounds=(0, 1), device=classifier.device)

    def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return made(model, *_tensors(classifier, x, y), epsilons=eps)[1].detach().cpu().numpy()

    return run


def _torchattacks(attack: Foreign, classifier: TorchClassifier, eps: float | None) -> Callable[..., np.ndarray]:
    from advbench.estimators import whole_model

    options = {"norm": _NAMES[attack.norm], "n_classes": classifier.nb_classes, "verbose": False}
    made: Any = attack.kind(whole_model(classifier), **_arguments(attack, eps, **options))

    def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return made(*_tensors(classifier, x, y)).detach().cpu().numpy()

    return run


def _tensors(classifier: TorchClassifier, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
    import torch

    return torch.from_numpy(x).to(classifier.device), torch.from_numpy(np.asarray(y)).to(classifier.device)


_MADE: dict[str, Callable[..., Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "art": _art,
    "foolbox": _foolbox,
    "torchattacks": _torchattacks,
}
