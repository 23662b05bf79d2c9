"""The measurements of ``detector-imagenet10``: functions from its materials to result rows."""

from __future__ import annotations

from itertools import product

from advbench import metrics
from advbench.recipes.detector_cifar.adversaries import Adversary
from advbench.recipes.detector_cifar.measurements import detectability_row, detection_rows
from advbench.recipes.detector_imagenet10.claims import BETWEEN_EPS, CHANCE, TRANSFER
from advbench.recipes.detector_imagenet10.materials import Detectors
from advbench.study import Rows


def clean_accuracy(made: Detectors) -> Rows:
    """The classifier on test images, by default all, on those that are attacked, and the files that are no images."""
    yield metrics.accuracy(made.clean_predictions(), made.labels("whole test")).row("accuracy")
    attacked = metrics.accuracy(made.crafted(None, "test").predicted, made.labels("test"))
    yield attacked.row("accuracy_on_attacked")
    for part in (made.study.train, made.study.test):
        unreadable = metrics.Figure(len(part.unreadable), len(part) + len(part.unreadable))
        yield unreadable.row("unreadable_files", split=part.split)


def detection(made: Detectors, adversary: Adversary) -> Rows:
    """As on CIFAR-10, and the size of the perturbations."""
    crafted = made.crafted(adversary, "test")
    yield from detection_rows(made, adversary, crafted.linf == 0)
    yield metrics.mean(crafted.linf).row("mean_linf", **made.columns_of(adversary))
    yield metrics.mean(crafted.l2).row("mean_l2", **made.columns_of(adversary))


def between_eps(made: Detectors) -> Rows:
    """A detector trained at one eps meets the same attack at another."""
    for fit, met in made.eps_pairs():
        yield detectability_row(made, fit, met, reported=BETWEEN_EPS.get((fit, met)))


def between_adversaries(made: Detectors) -> Rows:
    """A detector trained on one adversary meets another."""
    for fit, met in product(made.references(), repeat=2):
        yield detectability_row(made, fit, met, reported=TRANSFER[fit.attack][met.attack])


def chance(made: Detectors) -> Rows:
    """The one cell of the report at chance level, again from several initial weights of the detector."""
    for seed in range(made.config.chance_seeds if CHANCE in made.adversaries else 0):
        yield detectability_row(made, CHANCE, CHANCE, seed=seed, reported=BETWEEN_EPS[CHANCE, CHANCE])
