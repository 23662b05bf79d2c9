"""The bounds B1 to B9 of ``bench``, which are ours: no report states them."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import pandas as pd

from advbench.metrics import Figure, where
from advbench.recipes.bench.contenders import PLAIN
from advbench.study import Claim

GRADIENT = ("fgsm", "pgd", "pgd-l2")
EXACT, FAST, WEIGHTED = "advbench, exact", "advbench, fast", "advbench, weighted FGSM"

SAYS = {
    "B1": "With exact gradients an attack costs at most 0.7 of as many gradients of the plain module.",
    "B2": "With fast gradients an attack costs at most 0.3 of as many gradients of the plain module.",
    "B3": "With fast gradients an attack takes at most a quarter of the time of ART's and foolbox's, 0.35 of torchattacks'.",
    "B4": "Fast gradients move the success rate of an attack by at most half a point.",
    "B5": "DeepFool, l2, takes at most 0.025 of ART's time and 0.08 of foolbox's, flips every image and goes no farther.",
    "B6": "DeepFool, l-inf, takes at most 0.12 of foolbox's time, flips every image and goes no farther.",
    "B7": "An epoch of weighted FGSM training takes at most 2.1 times as long as a clean epoch.",
    "B8": "An epoch of weighted FGSM training takes at most half as long as one of ART's AdversarialTrainer.",
    "B9": "A later epoch of a detector takes at most 1.15 times as long as an epoch of its subnetwork alone.",
}


def _figure(rows: pd.DataFrame, metric: str, library: str, **columns: object) -> Figure:
    """The figure of the one row with these values, NaN where there is none."""
    found = where(rows, metric=metric, library=library, **columns)
    return Figure(found.value.iloc[0], int(found.n.iloc[0])) if len(found) else Figure(nan, 0)


def cost(id: str, measured: str, library: str, source: str, high: float, **columns: object) -> Claim:
    """A bound on the median time of one contender over that of another."""

    def figure(rows: pd.DataFrame) -> Figure:
        return _figure(rows, "cost", library, source=source, **columns)

    return Claim(id, SAYS[id], measured, figure, accept=(None, high))


def number(id: str, measured: str, read: Callable[[pd.DataFrame], float], high: float) -> Claim:
    """A bound on a number that follows from several figures."""
    return Claim(id, SAYS[id], measured, lambda rows: Figure(read(rows), 0), accept=(None, high))


def _success(rows: pd.DataFrame, attack: str, library: str) -> float:
    return _figure(rows, "success_rate", library, attack=attack).value


def _distance(rows: pd.DataFrame, attack: str, library: str) -> float:
    return _figure(rows, "median_distance", library, attack=attack).value


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
        cost(id, f"{attack} through ART's class, {kind}, against {PLAIN}", library, PLAIN, high, attack=attack)
        for id, kind, library, high in (("B1", "exact", EXACT, 0.70), ("B2", "fast", FAST, 0.30))
        for attack in GRADIENT
    ),
    *(
        cost("B3", f"{attack}, fast, against {peer}", FAST, peer, high, attack=attack)
        for peer, high in (("ART", 0.25), ("torchattacks", 0.35), ("foolbox", 0.25))
        for attack in GRADIENT
    ),
    *(moved(attack) for attack in GRADIENT),
    cost("B5", "deepfool-l2 against ART", EXACT, "ART", 0.025, attack="deepfool-l2"),
    farther("B5", "deepfool-l2", "ART"),
    cost("B5", "deepfool-l2 against foolbox", EXACT, "foolbox", 0.08, attack="deepfool-l2"),
    farther("B5", "deepfool-l2", "foolbox"),
    missed("B5", "deepfool-l2"),
    cost("B6", "deepfool-linf against foolbox", EXACT, "foolbox", 0.12, attack="deepfool-linf"),
    farther("B6", "deepfool-linf", "foolbox"),
    missed("B6", "deepfool-linf"),
    cost("B7", "weighted FGSM epoch against a clean epoch", WEIGHTED, "clean epoch", 2.1),
    cost("B8", "weighted FGSM epoch against ART's AdversarialTrainer", WEIGHTED, "ART AdversarialTrainer, FGSM", 0.5),
    cost(
        "B9", "later detector epochs against the subnetwork alone", "advbench, later epochs", "subnetwork alone", 1.15
    ),
]
