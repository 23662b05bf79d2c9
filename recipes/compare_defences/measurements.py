"""The measurements of ``compare-defences``: functions from its defences to result rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from advbench import metrics
from advbench.metrics import Figure
from advbench.models.lipschitz import LipschitzCNN
from advbench.recipes.compare_defences.materials import ADAPTIVE, PLAIN, WORST, Comparison
from advbench.seeds import own_global_state
from advbench.study import Rows
from advbench.study.stages import stage_seconds

CERTIFIED = 36 / 255
"""The l2 radius at which certificates on CIFAR-10 are usually compared, for images in [0, 1]."""


def comparison(made: Comparison, name: str) -> Rows:
    """Robust accuracy under each attack, under all adaptive ones and under all, and what a naive test overstates.

    An image counts as correct if it is classified right or, with a detector, flagged.
    """
    metric = "joint_accuracy" if made.defences[name].kind == "detector" else "accuracy"
    for eps in made.bounds.eps:
        columns = {**made.columns_of(name), "norm": "linf", "eps": eps}
        beaten = pd.DataFrame({attack: mask for attack, mask in made.beaten(name, eps).items() if attack != "x"})
        beaten[ADAPTIVE] = beaten.drop(columns=list(PLAIN)).any(axis=1)
        beaten[WORST] = beaten.any(axis=1)
        for attack in beaten:
            yield _share(~beaten[attack]).row(metric, exhibit="comparison", attack=attack, **columns)
        gap = metrics.difference(_share(~beaten["pgd"]), _share(~beaten[ADAPTIVE]))
        yield gap.row("gap", exhibit="gap", **columns)


def certificate(made: Comparison, name: str) -> Rows:
    """Of a network with a known Lipschitz constant: the constant, certified l2 radii and certified accuracy."""
    classifier, images = made.defended(name).classifier, made.test
    if not isinstance(classifier.model, LipschitzCNN):
        return
    columns = {**made.columns_of(name), "exhibit": "certificate"}
    bound, logits = classifier.model.lipschitz_bound(), classifier.predict(images.x, batch_size=256)
    radius = metrics.median(metrics.certified_radius(logits, images.y, bound))
    share = metrics.certified_accuracy(logits, images.y, bound, CERTIFIED)
    yield Figure(bound, 1).row("lipschitz_bound", **columns)
    yield radius.row("certified_radius", **columns, norm="l2")
    yield share.row("certified_accuracy", **columns, norm="l2", eps=CERTIFIED)


def cost(made: Comparison, name: str) -> Rows:
    """Clean accuracy, for which a flagged image counts as lost, false positives, and seconds of training."""
    defended, images, columns = made.defended(name), made.test, made.columns_of(name)
    with own_global_state(made.study.seed_of("cost", name)):
        right, flagged = ~defended.wrong(images.x, images.y), defended.flagged(images.x)
    yield _share(right & ~flagged).row("clean_accuracy", **columns)
    if defended.detector is not None:
        yield _share(flagged).row("false_positives", **columns)
    seconds = stage_seconds(made.run.directory).get(f"defence-{name}", 0.0)
    yield Figure(seconds, 1).row("training_seconds", **columns)


def _share(correct: np.ndarray) -> Figure:
    return metrics.proportion(int(correct.sum()), len(correct))
