"""The published claims A1 to A6 on attacks that know a detector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from advbench.metrics import Figure, lowest, of_row, where
from advbench.study import Claim

FGSM = {"detector": "static", "fit_attack": "fgsm"}


def measured(exhibit: str, metric: str, **columns: Any) -> Callable[[pd.DataFrame], Figure | None]:
    return lambda rows: lowest(where(rows, exhibit=exhibit, metric=metric, **columns))


def strongest(**columns: Any) -> Callable[[pd.DataFrame], Figure | None]:
    """SR@5 of the better attack at the largest eps."""

    def figure(rows: pd.DataFrame) -> Figure | None:
        seen = where(rows, exhibit="adaptive", metric="sr_at_5", **columns)
        at_largest = seen[seen.eps == seen.eps.max()].sort_values("value")
        return of_row(at_largest.iloc[-1]) if len(at_largest) else None

    return figure


A1 = "The detector is about 99 % accurate on FGSM, the attack that it was trained on (Carlini & Wagner, 2017)."
A2 = (
    "Of the images of their attack with zero knowledge it flags 81 %, at 28 % false positives (Carlini & Wagner, 2017)."
)
A2_MEASURED = (
    "the same detector on Carlini & Wagner's l2 attack, zero knowledge: true positives at 28 % false positives"
)

CLAIMS = [
    Claim(
        "A1",
        A1,
        "detectability of FGSM by the detector trained on it",
        measured("naive", "detectability", **FGSM),
        0.99,
        (0.9, None),
    ),
    Claim(
        "A2",
        A2,
        A2_MEASURED,
        measured("carlini", "tpr_at_28_fpr", variant="zero knowledge", **FGSM),
        0.81,
        (0.71, 0.91),
    ),
    *(
        Claim(
            id,
            f"Selective and orthogonal PGD evade a {kind} detector almost always (after Bryniarski et al., 2021).",
            f"SR@5 of the better of selective and orthogonal PGD at the largest eps, {kind} detector",
            strongest(**columns),
            accept=(0.9, None),
        )
        for id, kind, columns in (("A3", "static", FGSM), ("A4", "dynamic", {"detector": "dynamic"}))
    ),
    *(
        Claim(
            id,
            f"Carlini & Wagner's attack with {knowledge} knowledge breaks the detector (2017).",
            f"SR@5 of Carlini & Wagner's l2 attack, {knowledge} knowledge, static detector",
            measured("carlini", "sr_at_5", variant=f"{knowledge} knowledge", **FGSM),
            accept=(low, None),
        )
        for id, knowledge, low in (("A5", "perfect", 0.9), ("A6", "limited", 0.5))
    ),
]
