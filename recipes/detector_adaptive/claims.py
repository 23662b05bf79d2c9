"""The published claims A1 to A6 on attacks that know a detector."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from advbench.metrics import Figure, lowest, of_row, where
from advbench.study import Claim


def of_static(rows: pd.DataFrame, **columns: Any) -> Figure | None:
    """A figure of the static detector of FGSM."""
    return lowest(where(rows, detector="static", fit_attack="fgsm", **columns))


def strongest(detector: str, fit_attack: str, rows: pd.DataFrame) -> Figure | None:
    """SR@5 of the better attack at the largest eps."""
    seen = where(rows, exhibit="adaptive", metric="sr_at_5", detector=detector, fit_attack=fit_attack)
    at_largest = seen[seen.eps == seen.eps.max()].sort_values("value")
    return of_row(at_largest.iloc[-1]) if len(at_largest) else None


A1 = "The detector is about 99 % accurate on FGSM, the attack that it was trained on (Carlini & Wagner, 2017)."
A1_FIGURE = partial(of_static, exhibit="naive", metric="detectability")
A2 = (
    "Of the images of their attack with zero knowledge it flags 81 %, at 28 % false positives (Carlini & Wagner, 2017)."
)
A2_MEASURED = (
    "the same detector on Carlini & Wagner's l2 attack, zero knowledge: true positives at 28 % false positives"
)
A2_FIGURE = partial(of_static, exhibit="carlini", metric="tpr_at_28_fpr", variant="zero knowledge")

CLAIMS = [
    Claim("A1", A1, "detectability of FGSM by the detector trained on it", A1_FIGURE, 0.99, (0.9, None)),
    Claim("A2", A2, A2_MEASURED, A2_FIGURE, 0.81, (0.71, 0.91)),
    *(
        Claim(
            id,
            f"Selective and orthogonal PGD evade a {kind} detector almost always (after Bryniarski et al., 2021).",
            f"SR@5 of the better of selective and orthogonal PGD at the largest eps, {kind} detector",
            partial(strongest, kind, attack),
            accept=(0.9, None),
        )
        for id, kind, attack in (("A3", "static", "fgsm"), ("A4", "dynamic", "bim"))
    ),
    *(
        Claim(
            id,
            f"Carlini & Wagner's attack with {knowledge} knowledge breaks the detector (2017).",
            f"SR@5 of Carlini & Wagner's l2 attack, {knowledge} knowledge, static detector",
            partial(of_static, exhibit="carlini", metric="sr_at_5", variant=f"{knowledge} knowledge"),
            accept=(low, None),
        )
        for id, knowledge, low in (("A5", "perfect", 0.9), ("A6", "limited", 0.5))
    ),
]
