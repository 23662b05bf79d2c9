"""The sanity checks of an evaluation: their images, their attack, their surrogate network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import sqrt

import numpy as np
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier

from advbench import attacks
from advbench.evaluation.battery import Attack, follows_gradients, in_norm
from advbench.evaluation.options import DEFAULT_EPS, Norm
from advbench.evaluation.subject import Subject
from advbench.metrics import attacked, failure, proportion, sanity
from advbench.metrics.binarization import binarization_test
from advbench.metrics.surrogate import surrogate
from advbench.progress import track
from advbench.seeds import derive, own_global_state

_COLOUR = {
    "mean and std of ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean and std of CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
_GREY = {"mean and std of MNIST": ((0.1307,), (0.3081,))}
_ANY = {"mean and std 0.5 and 0.5": ((0.5,), (0.5,))}
_BINARIZED = 16  # images of the binarization test, which costs 200 predictions each
_PREDICTED = 512  # images of the checks that only predict

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation, a number a channel; empty for none."""


def run_checks(subject: Subject, wanted: Sequence[Attack] = ()) -> Iterator[dict[str, object]]:
    """Every check as a row of results.csv, on images drawn at random and at the largest eps.

    :param wanted: the attacks of the evaluation, whose indicators of failure are rows of their own.
    """
    classifier, images, options, seed = subject.classifier, subject.images, subject.options, subject.seed
    order = np.random.default_rng(derive(seed, "checks")).permutation(len(images.x))
    many = order[:_PREDICTED]
    x, y = (a[order[: options.checks]] for a in (images.x, images.y))
    norm, bounds = checked_in(subject.norm, subject.eps)
    eps = max(bounds)
    large = 0.5 if norm == "linf" else 0.5 * sqrt(x[0].size)

    def make(target: PyTorchClassifier, eps: float, steps: int) -> EvasionAttack:
        return attacks.create(in_norm("pgd", norm), target, eps, max_iter=steps)

    shown: dict[str, dict[str, np.ndarray]] = {}
    with own_global_state(derive(seed, "checks")):
        logits = classifier.predict(images.x[many])
        right = logits.argmax(1) == images.y[many]
        others = preprocessings(x.shape[1], (subject.mean, subject.std))
        checks: list[Callable[[], Iterable[sanity.Check | None]]] = [
            lambda: sanity.same_twice(classifier, x),
            lambda: [sanity.normalisation(classifier, images.x[many], images.y[many], others, right)],
        ]
        if options.access == "gradients":  # the others are of attacks that take them
            predicted = (logits if len(x) <= len(many) else classifier.predict(x))[: len(x)].argmax(1)
            beaten = attacked(classifier, make(classifier, eps, 20), x, y)[1]
            imitation = surrogate(classifier, images.x[many], derive(seed, "surrogate"), logits=logits)
            known = {0.0: predicted == y, eps: ~beaten}
            checks += [
                lambda: [sanity.gradients(classifier, x, y)],
                lambda: [sanity.eps_zero(classifier, make, x, y, predicted)],
                lambda: sanity.falls_with_eps(classifier, make, x, y, bounds, large, known),
                lambda: [sanity.noise(classifier, beaten, x, y, eps, norm, derive(seed, "noise"))],
                lambda: [sanity.more_steps(classifier, make, x, y, eps)],
                lambda: [sanity.restarts(classifier, make, beaten, x, y, eps)],
                lambda: [sanity.inference(classifier, x[:_BINARIZED])],
                lambda: [sanity.transfer(classifier, make(imitation, eps, 20), beaten, x, y)],
                lambda: [binarization_test(classifier, make, x[:_BINARIZED], eps, norm, derive(seed, "binarization"))],
            ]
            shown = _indicators(subject, wanted, x[:_BINARIZED], y[:_BINARIZED])
            checks.append(lambda: failure.worst(shown))
        made = [check for each in track(checks, "checks", len(checks)) for check in each()]
    for check in made:
        if check is not None:
            yield check.row(exhibit="check", norm=norm, eps=eps)
    for attack, found in shown.items():
        for name, those in found.items():
            share = proportion(int(those.sum()), len(those))
            yield share.row(name, exhibit="indicators", attack=attack, norm=subject.norm, eps=max(subject.eps))


def _indicators(
    subject: Subject, wanted: Sequence[Attack], x: np.ndarray, y: np.ndarray
) -> dict[str, dict[str, np.ndarray]]:
    """Which images show an indicator of failure, by attack and indicator: of those that follow gradients within a bound.

    A single step is not judged, for it is neither complete nor strong.
    """
    classifier, norm, shown = subject.classifier, subject.norm, {}
    eps = max(subject.eps)
    large = 0.5 * x[0].size ** {"linf": 0, "l2": 0.5, "l1": 1, "l0": 1}[norm]
    for attack in wanted:
        if not (attack.bounded and attack.passes > 2 and attack.norm == norm and follows_gradients(attack)):
            continue
        seed = derive(subject.seed, "indicators", attack.name)
        with own_global_state(seed):
            shown[attack.label] = {
                **failure.indicators(classifier, attack.on(classifier, eps, seed), x, y, eps, attack.norm),
                "unconstrained failure": failure.withstood(classifier, attack.on(classifier, large, seed), x, y),
            }
    return shown


def checked_in(norm: Norm, bounds: tuple[float, ...]) -> tuple[Norm, tuple[float, ...]]:
    """The norm and the bounds of the checks: those of the evaluation, but l2 and its default bounds for l1 and l0.

    Masked gradients are of the model and not of a norm, and PGD, with which the checks attack, is strong in l-inf and l2.
    """
    return (norm, bounds) if norm in ("linf", "l2") else ("l2", DEFAULT_EPS["l2"])


def preprocessings(channels: int, given: Statistics) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Other preprocessings that a model may have been trained with, as functions of images in [0, 1].

    :param given: of the model under test, which applies them itself; they are undone here.
    """
    mean, std = (_by_channel(values or neutral) for values, neutral in zip(given, ((0,), (1,)), strict=True))

    def apply(other: Statistics, x: np.ndarray) -> np.ndarray:
        return (x - _by_channel(other[0])) / _by_channel(other[1]) * std + mean

    known: dict[str, Statistics] = {
        **(_COLOUR if channels == 3 else _GREY if channels == 1 else {}),
        **_ANY,
        "images in 0..255": ((0,), (1 / 255,)),
    }
    if given[0]:
        known["no normalisation"] = ((0,), (1,))
    return {name: partial(apply, statistics) for name, statistics in known.items() if statistics != given}


def _by_channel(values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, -1, 1, 1)
