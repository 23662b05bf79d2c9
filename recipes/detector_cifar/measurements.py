"""The measurements of ``detector-cifar``; the first two functions serve the ImageNet part of the report too."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np

from advbench import metrics
from advbench.attacks import DynamicDetectorAttack
from advbench.metrics import where
from advbench.recipes.detector_cifar.adversaries import ITERATIONS, Adversary, StaticDetectors
from advbench.recipes.detector_cifar.materials import Detectors, Kind
from advbench.study import Rows


def detection_rows(made: StaticDetectors[Any], adversary: Adversary, unchanged: np.ndarray) -> Rows:
    """Predictive accuracy under an adversary, and how well its own detector sees it: all images and the misclassified.

    :param unchanged: bool (N,): whether the adversary leaves the image as it is.
    """
    position, under = made.positions[adversary.attack], made.columns_of(adversary)
    yield made.accuracy_under(adversary).row("predictive_accuracy", **under)
    yield metrics.proportion(int(unchanged.sum()), len(unchanged)).row("unchanged_images", **under)
    if not made.has_detector(adversary):
        return
    detector = made.detector(adversary, position, 0)
    thresholds = {percent: made.threshold(detector, percent) for percent in (1, 5)}
    clean, adversarial = made.scores(detector, None), made.scores(detector, adversary)
    for suffix, scores in (("", adversarial), ("_successful", adversarial[made.wrong(adversary)])):
        for metric, figure in metrics.detection_figures(clean, scores, thresholds).items():
            yield figure.row(metric + suffix, **made.fit_columns(adversary, position, 0), **under)


def detectability_row(
    made: StaticDetectors[Any],
    fit: Adversary,
    met: Adversary,
    position: int | None = None,
    seed: int = 0,
    **columns: Any,
) -> dict[str, Any]:
    """The row of how well the detector that was trained on an adversary sees another.

    :param position: where the detector is attached, by default where the report has it.
    :param columns: further ones of the row.
    """
    position = made.positions[fit.attack] if position is None else position
    detector = made.detector(fit, position, seed)
    figure = metrics.detectability(made.scores(detector, None), made.scores(detector, met))
    return figure.row("detectability", **made.fit_columns(fit, position, seed), **made.columns_of(met), **columns)


def detection(made: Detectors, adversary: Adversary) -> Rows:
    """Figure 2, left: predictive accuracy and detectability of every adversary."""
    same = made.crafted(adversary, "test") == made.crafted(None, "test")
    return detection_rows(made, adversary, same.all(axis=(1, 2, 3)))


def between_eps(made: Detectors) -> Rows:
    """Figure 3: a detector trained at one eps meets the same attack at another."""
    for fit, met in made.eps_pairs():
        yield detectability_row(made, fit, met)


def between_adversaries(made: Detectors) -> Rows:
    """Figure 4: a detector trained on one adversary meets another."""
    for fit, met in product(made.references(), repeat=2):
        yield detectability_row(made, fit, met)


def depth(made: Detectors) -> Rows:
    """Figure 2, right: the same detector attached at every depth, over several seeds."""
    for adversary, position in product(made.references(), made.config.depths):
        for seed in filter(partial(made.has_detector, adversary, position), range(made.config.depth_seeds)):
            yield detectability_row(made, adversary, adversary, position, seed)


def clean_accuracy(made: Detectors) -> Rows:
    """The classifier on test images, by default all, and on those that are attacked."""
    whole = made.test_images(made.config.clean_images)
    for metric, images in (("accuracy", whole), ("accuracy_on_attacked", made.clean("test"))):
        yield metrics.accuracy(made.predicted(images.x), images.y).row(metric)


def dynamic_adversary(made: Detectors, kind: Kind, sigma: float) -> Rows:
    """Figure 5: accuracy of classifier and detector, the latter on clean against successful adversarial images."""
    return _under_dynamic_adversary(made, kind, sigma, made.dynamic_step, ITERATIONS)


def finer_steps(made: Detectors) -> Rows:
    """What breaks figure 5? A step as large as the bound jumps between corners of the ball; a finer one descends."""
    config, step = made.config, made.dynamic_step / 4
    for kind in made.kinds:
        sigmas = _worst_sigma(made, kind) if config.check_sigmas is None else config.check_sigmas
        for sigma in sigmas:
            yield from _under_dynamic_adversary(made, kind, sigma, step, config.check_iterations)


def _worst_sigma(made: Detectors, kind: Kind) -> list[float]:
    """Where figure 5 has the lowest accuracy of a detector; none where it has no accuracy."""
    seen = where(made.run.results(), exhibit="dynamic adversary", metric="balanced_accuracy", detector=kind)
    return [float(seen.loc[seen.value.idxmin()].sigma)] if len(seen) else []


def _under_dynamic_adversary(made: Detectors, kind: Kind, sigma: float, alpha: float, steps: int) -> Rows:
    config, images = made.config, made.clean("test")
    images = images.first(config.sigma_images or len(images.x))
    detector = made.dynamic_detector() if kind == "dynamic" else made.detector(made.dynamic_base, 2, 0)
    attack = DynamicDetectorAttack(made.classifier, detector, config.dynamic_eps, alpha, steps, sigma=sigma)
    adversarial = made.attacked(attack, images, f"dynamic adversary, {kind} detector, sigma {sigma:g}")
    predicted = made.predicted(adversarial)
    success = predicted != images.y
    known = {"detector": kind, "position": 2, "attack": "dynamic", "norm": "linf", "eps": config.dynamic_eps}
    known |= {"sigma": sigma, "alpha": alpha, "steps": steps}
    yield metrics.accuracy(predicted, images.y).row("predictive_accuracy", **known)
    yield metrics.Figure(float(success.sum()), len(success)).row("successes", **known)
    if success.sum() >= config.min_successes:
        clean, flagged = detector.scores(images.x), detector.scores(adversarial[success])
        yield metrics.detectability(clean, flagged).row("balanced_accuracy", **known)
        yield metrics.auc(clean, flagged).row("auc", **known)
