"""The bounds B1 to B9 of ``bench``, which are ours: no report states them."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from advbench.metrics import Figure, of_row, where
from advbench.recipes.bench.contenders import PLAIN, SETTINGS
from advbench.study import Claim

GRADIENT = tuple(setting.attack for setting in SETTINGS if setting.bounded)
EXACT, FAST, WEIGHTED = "advbench, exact", "advbench, fast", "advbench, weighted FGSM"

SAYS = {
    "B1": "With exact gradients an attack costs at most 0.7 of as many gradients of the plain module.",
    "B2": "With fast gradients an attack costs at most 0.3 of as many gradients of the plain module.",
    "B3": "With fast gradients an attack takes at most a quarter of ART's and of foolbox's time, and 0.35 of torchattacks'.",
    "B4": "Fast gradients move the success rate of an attack by at most half a point.",
    "B5": "DeepFool, l2, takes at most 0.025 of ART's time and 0.08 of foolbox's, flips every image and goes no farther.",
    "B6": "DeepFool, l-inf, takes at most 0.12 of foolbox's time, flips every image and goes no farther.",
    "B7": "An epoch of weighted FGSM training takes at most 2.1 times as long as a clean epoch.",
    "B8": "An epoch of weighted FGSM training takes at most half as long as one of ART's AdversarialTrainer.",
    "B9": "A later epoch of a detector takes at most 1.15 times as long as an epoch of its subnetwork alone.",
}

Read = Callable[[pd.DataFrame], Figure | None]


def only(**columns: object) -> Read:
    """The figure of the one row with these values, None where there is none."""

    def read(rows: pd.DataFrame) -> Figure | None:
        found = where(rows, **columns)
        return of_row(found.iloc[0]) if len(found) else None

    return read


def cost(library: str, source: str, exhibit: str = "attacks", **columns: object) -> Read:
    """The median time of one contender over that of another."""
    return only(exhibit=exhibit, metric="cost", library=library, source=source, **columns)


def of_both(first: Read, second: Read, combine: Callable[[float, float], float]) -> Read:
    """A number from two figures, None where one of them is missing."""

    def read(rows: pd.DataFrame) -> Figure | None:
        one, other = first(rows), second(rows)
        return Figure(combine(one.value, other.value), 0) if one and other else None

    return read


def at_most(id: str, measured: str, figure: Read, high: float) -> Claim:
    return Claim(id, SAYS[id], measured, figure, accept=(None, high))


def _success_moved(attack: str) -> Claim:
    exact, fast = (only(attack=attack, library=library, metric="success_rate") for library in (EXACT, FAST))
    measured = f"{attack}: success rate of fast away from exact"
    return at_most("B4", measured, of_both(exact, fast, lambda one, other: abs(one - other)), 0.005)


def _deepfool(id: str, attack: str, peers: dict[str, float]) -> list[Claim]:
    """Time and distance beside each peer, and the images that are not flipped."""
    flipped = only(attack=attack, library=EXACT, metric="success_rate")
    missed = of_both(flipped, flipped, lambda rate, _: 1 - rate)
    found = [at_most(id, f"{attack}: correct images not flipped", missed, 0.0)]
    for peer, high in peers.items():
        ours, theirs = (only(attack=attack, library=name, metric="median_distance") for name in (EXACT, peer))
        farther = of_both(ours, theirs, lambda one, other: one / other)
        found.append(at_most(id, f"{attack} against {peer}", cost(EXACT, peer, attack=attack), high))
        # one per cent: the overshoot alone is two
        found.append(at_most(id, f"{attack}: median distance against {peer}", farther, 1.01))
    return found


CLAIMS = [
    *(
        at_most(id, f"{attack} through ART's class, {kind}, against {PLAIN}", cost(ours, PLAIN, attack=attack), high)
        for id, kind, ours, high in (("B1", "exact", EXACT, 0.70), ("B2", "fast", FAST, 0.30))
        for attack in GRADIENT
    ),
    *(
        at_most("B3", f"{attack}, fast, against {peer}", cost(FAST, peer, attack=attack), high)
        for peer, high in (("ART", 0.25), ("torchattacks", 0.35), ("foolbox", 0.25))
        for attack in GRADIENT
    ),
    *(_success_moved(attack) for attack in GRADIENT),
    *_deepfool("B5", "deepfool-l2", {"ART": 0.025, "foolbox": 0.08}),
    *_deepfool("B6", "deepfool-linf", {"foolbox": 0.12}),
    at_most("B7", "weighted FGSM epoch against a clean epoch", cost(WEIGHTED, "clean epoch", "training"), 2.1),
    at_most(
        "B8",
        "weighted FGSM epoch against ART's AdversarialTrainer",
        cost(WEIGHTED, "ART AdversarialTrainer, FGSM", "training"),
        0.5,
    ),
    at_most(
        "B9",
        "later detector epochs against training its subnetwork alone",
        cost("advbench, later epochs", "subnetwork alone", "detector"),
        1.15,
    ),
]
