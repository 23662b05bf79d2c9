"""The bounds B1 to B11 of ``bench``, which are ours: no report states them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import nan

import pandas as pd

from advbench.metrics import Figure, of_row, where
from advbench.study import Claim

GRADIENT = ("fgsm", "pgd", "pgd-l2")
EXACT, FAST, WEIGHTED = "advbench, exact", "advbench, fast", "advbench, weighted FGSM"
EVALUATED = "advbench.evaluate"
AUTHORS = "AutoAttack's authors"
"""The package ``pyautoattack`` on the plain module; advbench runs its code on layers of its own."""

SAYS = {
    "B1": "With exact gradients an attack costs at most 1.05 of as many bare gradients of the same layers.",
    "B2": "With fast gradients an attack costs at most 1.05 of as many bare gradients of the same layers in the same precision.",
    "B3": "With exact gradients an attack takes no longer than ART's, foolbox's and torchattacks' at the same budget.",
    "B4": "Fast gradients move the success rate of an attack by at most half a point.",
    "B5": "DeepFool, l2, costs at most 1.15 of the bare passes that it makes, flips every image and goes no farther than others.",
    "B6": "DeepFool, l-inf, costs at most 1.15 of the bare passes that it makes, flips every image and goes no farther.",
    "B7": "An epoch of weighted FGSM training takes at most 2.1 times as long as a clean epoch.",
    "B8": "An epoch of weighted FGSM training takes at most half as long as one of ART's AdversarialTrainer.",
    "B9": "A later epoch of a detector takes at most 1.15 times as long as an epoch of its subnetwork alone.",
    "B10": "AutoAttack takes at most 0.6 of the time of its authors' code with exact gradients, 0.4 with fast ones, and leaves no more images.",
    "B11": "A whole evaluation with its checks takes at most 0.6 of the time of AutoAttack alone by its authors, and leaves no more images.",
}


def _figure(rows: pd.DataFrame, metric: str, library: str, **columns: object) -> Figure:
    """The figure of the one row with these values, NaN where there is none."""
    found = where(rows, metric=metric, library=library, **columns)
    return of_row(found.iloc[0]) if len(found) else Figure(nan, 0)


def cost(id: str, measured: str, library: str, source: str, high: float, **columns: object) -> Claim:
    """A bound on the median time of one contender over that of another."""

    def figure(rows: pd.DataFrame) -> Figure:
        return _figure(rows, "cost", library, source=source, **columns)

    return Claim(id, SAYS[id], measured, figure, accept=(None, high))


def multiple(id: str, measured: str, library: str, high: float, **columns: object) -> Claim:
    """A bound on the median time of one contender over that of the bare gradients that it needs."""

    def figure(rows: pd.DataFrame) -> Figure:
        return _figure(rows, "limit", library, **columns)

    return Claim(id, SAYS[id], measured, figure, accept=(None, high))


def number(id: str, measured: str, read: Callable[[pd.DataFrame], float], high: float) -> Claim:
    """A bound on a number that follows from several figures."""
    return Claim(id, SAYS[id], measured, lambda rows: Figure(read(rows), 0), accept=(None, high))


def _success(rows: pd.DataFrame, attack: str, library: str) -> float:
    return _figure(rows, "success_rate", library, attack=attack).value


def _distance(rows: pd.DataFrame, attack: str, library: str) -> float:
    return _figure(rows, "median_distance", library, attack=attack).value


def _weaker(library: str, rows: pd.DataFrame) -> float:
    """By how much the authors' AutoAttack is more successful."""
    return max(_success(rows, "autoattack", AUTHORS) - _success(rows, "autoattack", library), 0.0)


def _left_more(rows: pd.DataFrame) -> float:
    left = where(rows, metric="robust_accuracy").pivot_table("value", "eps", "library")
    return float((left[EVALUATED] - left[AUTHORS]).clip(lower=0).max()) if len(left) else nan


def moved(attack: str) -> Claim:
    measured = f"{attack}: success rate of fast away from exact"
    return number("B4", measured, lambda rows: abs(_success(rows, attack, EXACT) - _success(rows, attack, FAST)), 0.005)


def farther(id: str, attack: str, peer: str) -> Claim:
    measured = f"{attack}: median distance against {peer}"
    # one per cent: the overshoot alone is two
    return number(id, measured, lambda rows: _distance(rows, attack, EXACT) / _distance(rows, attack, peer), 1.01)


def missed(id: str, attack: str) -> Claim:
    measured = f"{attack}: correct images not flipped"
    return number(id, measured, lambda rows: 1 - _success(rows, attack, EXACT), 0.0)


CLAIMS = [
    *(
        multiple(id, f"{attack} through ART's class, {kind}, against bare gradients", library, 1.05, attack=attack)
        for id, kind, library in (("B1", "exact", EXACT), ("B2", "fast", FAST))
        for attack in GRADIENT
    ),
    *(
        cost("B3", f"{attack}, exact, against {peer}", EXACT, peer, 1.0, attack=attack)
        for peer in ("ART", "torchattacks", "foolbox")
        for attack in GRADIENT
    ),
    *(moved(attack) for attack in GRADIENT),
    multiple("B5", "deepfool-l2 against its bare passes", EXACT, 1.15, attack="deepfool-l2"),
    farther("B5", "deepfool-l2", "ART"),
    farther("B5", "deepfool-l2", "foolbox"),
    missed("B5", "deepfool-l2"),
    multiple("B6", "deepfool-linf against its bare passes", EXACT, 1.15, attack="deepfool-linf"),
    farther("B6", "deepfool-linf", "foolbox"),
    missed("B6", "deepfool-linf"),
    cost("B10", f"autoattack, exact, against {AUTHORS}", EXACT, AUTHORS, 0.6, attack="autoattack"),
    cost("B10", f"autoattack, fast, against {AUTHORS}", FAST, AUTHORS, 0.4, attack="autoattack"),
    number("B10", "autoattack, exact: images beaten by its authors' code more", partial(_weaker, EXACT), 0.0),
    number("B10", "autoattack, fast: images beaten by its authors' code more", partial(_weaker, FAST), 0.0),
    cost("B11", f"evaluate at two bounds against {AUTHORS}", EVALUATED, AUTHORS, 0.6),
    number("B11", "accuracy left by evaluate above that of AutoAttack, the larger of the bounds", _left_more, 0.0),
    cost("B7", "weighted FGSM epoch against a clean epoch", WEIGHTED, "clean epoch", 2.1),
    cost("B8", "weighted FGSM epoch against ART's AdversarialTrainer", WEIGHTED, "ART AdversarialTrainer, FGSM", 0.5),
    cost(
        "B9", "later detector epochs against the subnetwork alone", "advbench, later epochs", "subnetwork alone", 1.15
    ),
]
