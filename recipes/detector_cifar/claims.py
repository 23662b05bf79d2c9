"""The claims M1 to M9 of report 001."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from advbench.metrics import Figure, difference, lead, lowest, over_seeds, where
from advbench.study import Claim

GRADIENT, DEEPFOOL = ("fgsm", "bim", "bim-l2"), ("deepfool-l2", "deepfool-linf")


def clean(rows: pd.DataFrame) -> Figure | None:
    return lowest(where(rows, exhibit="clean accuracy", metric="accuracy"))


def of_strong(limit: float, rows: pd.DataFrame) -> Figure | None:
    """The lowest detectability of an adversary that leaves accuracy below a limit.

    None where one has no detector, or where the run left out one of the five.
    """
    part = where(rows, exhibit="detection")
    under = where(part, metric="predictive_accuracy")[["attack", "eps", "value"]]
    if set(under.attack) < {*GRADIENT, *DEEPFOOL}:
        return None
    strong = under[under.value < limit].drop(columns="value")
    seen = where(part, metric="detectability").merge(strong, on=["attack", "eps"])
    return lowest(seen) if len(seen) == len(strong) else None


def lead_over(best: int, attacks: Sequence[str], rows: pd.DataFrame) -> Figure | None:
    """The largest lead of another depth over the one that is best in the report, of means over the seeds."""
    depths = where(rows, exhibit="depth", attack=tuple(attacks)).groupby(["attack", "position"])
    found = {(attack, position): over_seeds(part) for (attack, position), part in depths}
    leads = [
        difference(figure, found[attack, best])
        for (attack, position), figure in found.items()
        if position != best and (attack, best) in found
    ]
    return max(leads, key=lambda lead: lead.value, default=None)


def up_less_down(rows: pd.DataFrame) -> Figure:
    seen = where(rows, exhibit="between eps")
    return Figure(seen[seen.fit_eps < seen.eps].value.mean() - seen[seen.fit_eps > seen.eps].value.mean(), 0)


def iterative_to_fast(rows: pd.DataFrame) -> Figure:
    seen = where(rows, exhibit="between adversaries")
    return lead(where(seen, fit_attack="bim", attack="fgsm"), where(seen, fit_attack="fgsm", attack="bim"))


def under_dynamic(metric: str, detector: str, rows: pd.DataFrame) -> pd.DataFrame:
    return where(rows, exhibit="dynamic adversary", metric=metric, detector=detector).set_index("sigma", drop=False)


def near_chance(rows: pd.DataFrame) -> Figure | tuple[Claim, Figure | None] | None:
    """The claim needs both at one sigma; where no sigma has both, what is missing is measured instead."""
    seen = under_dynamic("balanced_accuracy", "static", rows)
    under = under_dynamic("predictive_accuracy", "static", rows).reindex(seen.index)
    if (under.value < 0.3).any():
        return lowest(seen[under.value < 0.3])
    if (seen.value < 0.6).any():
        measured = "lowest accuracy at a sigma that brings the static detector below 0.60"
        return M8.instead(measured=measured, reported=0.3, accept=(None, 0.3)), lowest(under[seen.value < 0.6])
    return M8.instead(measured="lowest balanced accuracy of the static detector"), lowest(seen)


def dynamic(rows: pd.DataFrame) -> Figure | None:
    return lowest(under_dynamic("balanced_accuracy", "dynamic", rows))


def dynamic_lead(rows: pd.DataFrame) -> Figure | None:
    found, static = dynamic(rows), lowest(under_dynamic("balanced_accuracy", "static", rows))
    return difference(found, static) if found and static else None


M1 = "ResNet-32 classifies 91.3 % of the clean test images correctly."
M6 = "A detector that is trained at a small eps works at a larger one, but not the other way round."
M6_MEASURED = "mean detectability, smaller eps_fit to larger eps_test minus the reverse"
M7 = "A detector of the iterative method works on FGSM, but not the other way round."
M7_MEASURED = "detectability, iterative to fast minus fast to iterative"
M8 = Claim(
    "M8",
    "Under the dynamic adversary the static detector is close to chance while accuracy is below 30 %.",
    "lowest balanced accuracy of the static detector at a sigma with accuracy below 30%",
    near_chance,
    0.5,
    (None, 0.60),
)
M9 = "Under the dynamic adversary the dynamic detector is more than 70 % accurate, whatever sigma is."

CLAIMS = [
    Claim("M1", M1, "clean test accuracy", clean, 0.913, (0.903, 0.930)),
    *(
        Claim(
            id,
            f"Every adversary that leaves accuracy below {limit:.0%} is detected with more than {reported:.0%} accuracy.",
            f"lowest detectability of an adversary that leaves accuracy below {limit:.0%}",
            partial(of_strong, limit),
            reported,
            (reported - 0.03, None),
        )
        for id, limit, reported in (("M2", 0.3, 0.8), ("M3", 0.1, 0.9))
    ),
    *(
        Claim(
            id,
            f"A detector of {attacks} works best at AD({best}).",
            f"largest lead of another depth over AD({best}), {' / '.join(names)}",
            partial(lead_over, best, names),
            0.0,
            (None, 0.01),
        )
        for id, attacks, best, names in (
            ("M4", "FGSM or an iterative method", 2, GRADIENT),
            ("M5", "DeepFool", 4, DEEPFOOL),
        )
    ),
    Claim("M6", M6, M6_MEASURED, up_less_down, accept=(0.05, None)),
    Claim("M7", M7, M7_MEASURED, iterative_to_fast, accept=(0.03, None)),
    M8,
    Claim("M9", M9, "lowest balanced accuracy of the dynamic detector over sigma", dynamic, 0.7, (0.65, None)),
    Claim("M9", M9, "its lead over the lowest of the static detector", dynamic_lead, accept=(0.1, None)),
]
