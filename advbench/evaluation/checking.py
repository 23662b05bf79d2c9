"""The checks of an evaluation: which images, which attack, which surrogate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import sqrt

import numpy as np
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier

from advbench import attacks
from advbench.data.find import Images
from advbench.estimators import TorchClassifier
from advbench.evaluation.options import Options
from advbench.metrics import sanity
from advbench.metrics.binarization import binarization_test
from advbench.metrics.surrogate import surrogate
from advbench.progress import track
from advbench.seeds import derive, own_global_state

_COLOUR = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
_GREY = {"MNIST": ((0.1307,), (0.3081,))}
_BINARIZED = 16  # images of the binarization test, which costs 200 predictions each
_PREDICTED = 512  # images of the checks that only predict

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def run_checks(
    classifier: TorchClassifier, images: Images, options: Options, seed: int, given: Statistics
) -> Iterator[dict[str, object]]:
    """Every check as a row of results.csv, on images drawn at random and at the largest eps.

    :param given: mean and standard deviation that the model is given, empty for none.
    """
    order = np.random.default_rng(derive(seed, "checks")).permutation(len(images.x))
    x, y = (a[order[: options.checks]] for a in (images.x, images.y))
    many = order[:_PREDICTED]
    eps, norm = max(options.eps), options.norm
    large = 0.5 if norm == "linf" else 0.5 * sqrt(x[0].size)
    make = partial(_pgd, norm)
    with own_global_state(derive(seed, "checks")):
        beaten = classifier.predict(make(classifier, eps, 20).generate(x, y)).argmax(1) != y
        imitation = surrogate(classifier, images.x[many], derive(seed, "surrogate"))
        checks: list[Callable[[], Iterable[sanity.Check | None]]] = [
            lambda: [sanity.gradients(classifier, x, y)],
            lambda: [sanity.deterministic(classifier, x)],
            lambda: [sanity.eps_zero(classifier, make, x, y)],
            lambda: sanity.falls_with_eps(classifier, make, x, y, options.eps, large),
            lambda: [sanity.noise(classifier, beaten, x, y, eps, norm, derive(seed, "noise"))],
            lambda: [sanity.more_steps(classifier, make, x, y, eps)],
            lambda: [sanity.transfer(classifier, make(imitation, eps, 20).generate(x, y), beaten, y)],
            lambda: [
                sanity.normalisation(classifier, images.x[many], images.y[many], preprocessings(x.shape[1], given))
            ],
            lambda: [binarization_test(classifier, make, x[:_BINARIZED], eps, norm, derive(seed, "binarization"))],
        ]
        made = [check for each in track(checks, "checks", len(checks)) for check in each()]
    for check in made:
        if check is not None:
            yield check.row(exhibit="check", norm=norm, eps=eps)


def _pgd(norm: str, classifier: PyTorchClassifier, eps: float, steps: int) -> EvasionAttack:
    return attacks.create("pgd" if norm == "linf" else "pgd-l2", classifier, eps, max_iter=steps)


def preprocessings(channels: int, given: Statistics) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What else a model may have been trained on, as functions of what it is given: images in [0, 1].

    :param given: mean and standard deviation that the model applies itself and that are undone here, empty for none.
    """
    known = {**(_COLOUR if channels == 3 else _GREY if channels == 1 else {}), "0.5 and 0.5": ((0.5,), (0.5,))}
    mean, std = (
        np.array(values or neutral, np.float32).reshape(1, -1, 1, 1) for values, neutral in zip(given, ((0,), (1,)))
    )

    def apply(image_mean: tuple[float, ...], image_std: tuple[float, ...], x: np.ndarray) -> np.ndarray:
        m, s = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (image_mean, image_std))
        return (x - m) / s * std + mean

    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        f"mean and std of {name}" if name in _COLOUR | _GREY else f"mean and std {name}": partial(apply, *statistics)
        for name, statistics in known.items()
        if statistics != given
    }
    changes["images in 0..255"] = partial(apply, (0,), (1 / 255,))
    if given[0]:
        changes["no normalisation"] = partial(apply, (0,), (1,))
    return changes
