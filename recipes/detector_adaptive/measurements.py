"""The measurements of ``detector-adaptive``: functions from its materials to result rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from advbench import metrics
from advbench.recipes.detector_adaptive.materials import Defender, Evasions, Knowledge
from advbench.study import Rows

FPR = (5, 28, 50)
"""False-positive rates in percent: 5 and 50 of SR@N, 28 of the published figure on Carlini & Wagner's attack."""


def naive(made: Evasions, defender: Defender) -> Rows:
    """What such a detector is usually praised for: it meets the attack of its training, which knows nothing of it."""
    detector, adversary = defender.detector, defender.adversary
    clean, adversarial = made.base.scores(detector, None), made.base.scores(detector, adversary)
    known = {**defender.columns(), **made.base.columns_of(adversary)}
    yield metrics.detectability(clean, adversarial).row("detectability", **known)
    yield metrics.auc(clean, adversarial).row("auc", **known)
    threshold = made.base.threshold(detector, 5)
    yield metrics.true_positive_rate(adversarial, threshold).row("tpr_at_5_fpr", **known)


def adaptive(made: Evasions, defender: Defender, name: str, eps: float) -> Rows:
    """SR@5 and SR@50: the shares of images that are wrong and not flagged."""
    known = {**defender.columns(), "attack": name, "norm": "linf", "eps": eps}
    return _success(made, defender, made.pgd(defender, name, eps), known)


def carlini(made: Evasions, defender: Defender, knowledge: Knowledge) -> Rows:
    """The same for the nearest image that is found, its distance, and how well the detector sees it."""
    adversarial, clean = made.carlini(defender, knowledge), made.clean.x
    known = {**defender.columns(), "attack": "cw-l2", "norm": "l2", "variant": f"{knowledge} knowledge"}
    yield from _success(made, defender, adversarial, known)
    wrong = made.wrong(adversarial)
    distance = np.linalg.norm((adversarial - clean[: len(adversarial)]).reshape(len(adversarial), -1), axis=1)
    yield metrics.mean(distance[wrong]).row("mean_l2", **known)
    scores = defender.detector.scores(adversarial)[wrong]
    threshold = made.base.threshold(defender.detector, 28)
    yield metrics.true_positive_rate(scores, threshold).row("tpr_at_28_fpr", **known)
    yield metrics.auc(defender.detector.scores(clean), scores).row("auc", **known)


def _success(
    made: Evasions, defender: Defender, adversarial: np.ndarray, known: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    wrong, scores = made.wrong(adversarial), defender.detector.scores(adversarial)
    yield metrics.proportion(int(wrong.sum()), len(wrong)).row("error", **known)
    for percent in FPR:
        threshold = made.base.threshold(defender.detector, percent)
        yield metrics.sr_at(wrong, scores, threshold).row(f"sr_at_{percent}", **known)
