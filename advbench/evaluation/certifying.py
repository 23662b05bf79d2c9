"""What is proven beside what was not beaten: bounds that hold against every attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt

import numpy as np
from torch import nn

from advbench import metrics
from advbench.data.find import Images
from advbench.device import images_at_a_time
from advbench.estimators import SmoothedModel
from advbench.estimators.whole import RootModule
from advbench.evaluation.attacking import Outcome
from advbench.evaluation.options import Norm
from advbench.evaluation.subject import Subject
from advbench.metrics.interval import Unbounded, certified
from advbench.models.tapped import Normalize
from advbench.seeds import derive, own_global_state

INTERVAL, LIPSCHITZ, SMOOTHING = "interval bounds", "Lipschitz constant", "randomized smoothing"
_CHOOSING, _ESTIMATING, _ALPHA = 100, 1000, 0.001  # draws, and the chance that a certificate is wrong
_AT_ONCE = 64  # images in float64
_WITNESSES = 64  # images that an attack beat at the largest distance: a proof of one of them would be wrong

Prove = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""Images (N, C, H, W), labels (N,) and a bound -> which images are proven right within it, bool (N,)."""


def certified_rows(outcome: Outcome, subject: Subject) -> Iterator[dict[str, object]]:
    """The share of images that are proven right at each eps, by method, as rows of results.csv.

    There are none for a network that no method bounds, and none in l0. What an attack beat needs no proof but for a few,
    which show whether the proofs hold.

    :raises ValueError: where an image is proven and beaten, so that either is wrong.
    """
    distance = outcome.distance
    for name, prove in _methods(subject, outcome.norm):
        proven = np.ones(len(distance), bool)
        for eps in outcome.bounds:  # rising: what is not proven within one of them is not proven within the next
            beaten = distance <= eps
            hardest = np.argsort(np.where(beaten, distance, -1))[-_WITNESSES:]
            tried = np.union1d(np.flatnonzero(proven & ~beaten), hardest)
            try:
                proven = _proven(prove, subject.images, tried, eps)
            except Unbounded:
                break
            if wrong := int((proven & beaten).sum()):
                raise ValueError(f"{wrong} images are proven right by {name} and beaten all the same")
            share = metrics.proportion(int(proven.sum()), len(proven))
            yield share.row("certified_accuracy", exhibit="certified", variant=name, norm=outcome.norm, eps=eps)
    yield from _smoothed_rows(outcome, subject)


def _proven(prove: Prove, images: Images, tried: np.ndarray, eps: float) -> np.ndarray:
    """Which images are proven, bool (N,), of those with the numbers ``tried``."""
    proven = np.zeros(len(images.x), bool)
    for start in range(0, len(tried), _AT_ONCE):
        part = tried[start : start + _AT_ONCE]
        proven[part] = prove(images.x[part], images.y[part], eps)
    return proven


def _smoothed_rows(outcome: Outcome, subject: Subject) -> Iterator[dict[str, object]]:
    """Of the vote over noise (Cohen et al., 2019, theorem 1), on as many images as the checks take."""
    classifier = subject.classifier
    part = next((each for each in classifier.model.modules() if isinstance(each, SmoothedModel)), None)
    if part is None or outcome.norm == "l0":
        return
    from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing
    from scipy.stats import binomtest

    class Smoothed(PyTorchRandomizedSmoothing):
        def _lower_confidence_bound(self, n_class_samples: int, n_total_samples: int) -> float:
            """Clopper and Pearson's, as ART's, which needs statsmodels for it."""
            test = binomtest(int(n_class_samples), n_total_samples, alternative="greater")
            return float(test.proportion_ci(1 - self.alpha, "exact").low)

    chosen = np.random.default_rng(derive(subject.seed, "smoothing")).permutation(len(subject.images.x))
    x, y = (array[chosen[: subject.options.checks]] for array in (subject.images.x, subject.images.y))
    smoothed = Smoothed(
        part.module,
        nn.CrossEntropyLoss(),
        classifier.input_shape,
        classifier.nb_classes,
        preprocessing=None,
        device_type="cpu",
        sample_size=_CHOOSING,
        scale=part.sigma,
        alpha=_ALPHA,
    )
    smoothed._device, smoothed._model = classifier.device, RootModule(part.module)
    with own_global_state(derive(subject.seed, "smoothing")):
        predicted, radius = smoothed.certify(
            x, _ESTIMATING, images_at_a_time(classifier.input_shape, classifier.device)
        )
    radius = np.where(predicted == y, radius, 0)
    for eps in outcome.bounds:
        share = metrics.proportion(int((radius > _length(eps, outcome.norm, x[0].size)).sum()), len(y))
        yield share.row("certified_accuracy", exhibit="certified", variant=SMOOTHING, norm=outcome.norm, eps=eps)


def _length(eps: float, norm: Norm, size: int) -> float:
    """The length in l2 of the longest perturbation of so many values."""
    return eps * (sqrt(size) if norm == "linf" else 1)


def _methods(subject: Subject, norm: Norm) -> Iterator[tuple[str, Prove]]:
    module, classifier = subject.classifier.model, subject.classifier
    if norm == "l0":
        return

    def by_interval(x: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
        return certified(module, x, y, eps)  # the balls of l2 and l1 lie in that of l-inf

    yield INTERVAL, by_interval
    if (constant := _lipschitz(module)) is None:
        return

    def by_constant(x: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
        logits = classifier.predict(x)
        radius = metrics.certified_radius(logits, y, constant)
        return (logits.argmax(1) == y) & (radius > _length(eps, norm, x[0].size))

    yield LIPSCHITZ, by_constant


def _lipschitz(module: nn.Module) -> float | None:
    """A bound on the Lipschitz constant in l2 of a network that knows one, behind a normalisation or not."""
    if type(module) is nn.Sequential and len(module) == 2 and type(module[0]) is Normalize:
        inner = _lipschitz(module[1])
        return None if inner is None else inner / float(module[0].std.min())
    bound = getattr(module, "lipschitz_bound", None)
    return float(bound()) if callable(bound) else None
