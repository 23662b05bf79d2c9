"""The exhibits of ``detector-adaptive``, from its result rows."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from advbench.metrics import highest_row, lowest_row, share, where
from advbench.recipes.detector_adaptive.materials import Evasions
from advbench.report import charts
from advbench.study import Finding, Shown, exhibit

DETECTOR = ["detector", "fit_attack"]
CARLINI = ["error", "sr_at_5", "sr_at_28", "sr_at_50", "tpr_at_28_fpr", "auc", "mean_l2"]


@exhibit("Before: each detector on the attack that it was trained on", "A1")
def naive(rows: pd.DataFrame, made: Evasions) -> Shown:
    """Adversarial test images that were made without any knowledge of the detector: how such detectors are usually judged.
    eps is in units of 1/255."""
    part = where(rows, exhibit="naive")
    part = part.assign(eps=(part.eps * 255).round(2))
    return Shown(table=part.pivot_table("value", [*DETECTOR, "eps"], "metric", sort=False).reset_index())


@exhibit("After: attacks that know the detector", "A3", "A4")
def adaptive(rows: pd.DataFrame, made: Evasions) -> Shown:
    """By eps in units of 1/255: the share of test images, all classified right before, that are misclassified and not
    flagged, with the detector's threshold at 5 % (SR@5), 28 % or 50 % false positives on clean validation images; error
    counts the misclassified. 1 means that the detector stops nothing."""
    part = where(rows, exhibit="adaptive")
    attacked = part.detector + ", " + part.fit_attack + ": " + part.attack
    part = part.assign(eps=(part.eps * 255).round(2), attacked=attacked)
    chart = charts.curves(where(part, metric="sr_at_5"), "eps", "value", "attacked", "SR@5", band=("ci_low", "ci_high"))
    return Shown(chart, part.pivot_table("value", [*DETECTOR, "attack", "eps"], "metric", sort=False).reset_index())


@exhibit("Carlini & Wagner's l2 attack at three levels of knowledge", "A2", "A5", "A6")
def carlini(rows: pd.DataFrame, made: Evasions) -> Shown:
    """Zero knowledge attacks the classifier alone, limited knowledge a detector of the same kind and another seed, perfect
    knowledge the detector itself; the last two see classifier and detector as one network with a class for flagged images.
    The true-positive rate at 28 % false positives and the AUC are over misclassified images; published for zero knowledge:
    81 % true positives. mean_l2 is the distance of misclassified images in [0, 1] units."""
    part = where(rows, exhibit="carlini").rename(columns={"variant": "attacker"})
    table = part.pivot_table("value", [*DETECTOR, "attacker"], "metric", sort=False)
    return Shown(table=table.reindex(columns=CARLINI).reset_index())


EXHIBITS = (naive, adaptive, carlini)


def answer(rows: pd.DataFrame) -> Iterator[Finding]:
    """What the detectors see of images that were made without them, and of images that were made to evade them."""
    naive = where(rows, exhibit="naive", metric="detectability")
    least, most = lowest_row(naive), highest_row(naive)
    if least is not None and most is not None:
        chance = ", so they learned too little" if most.value < 0.6 else ""
        whose = share(most) if len(naive) == 1 else f"{share(least)} to {share(most)}"
        yield Finding.at(
            most,
            f"As long as the attack does not know the detector, it tells {whose} of clean and adversarial images "
            f"apart; guessing is right about 50 %{chance}.",
        )
    evaded = where(rows, exhibit="adaptive", metric="sr_at_5")
    worst = {kind: highest_row(where(evaded, detector=kind)) for kind in ("static", "dynamic")}
    met = {kind: row for kind, row in worst.items() if row is not None}
    if met:
        each = " and ".join(f"on {share(row)} of the images with the {kind} detector" for kind, row in met.items())
        yield Finding.at(
            list(met.values())[-1],
            f"An attack that knows the detector fools the classifier unseen {each}, at 5 % false positives.",
            survives=True,
        )
