"""The claims H1 to H6 of report 004, whose numbers are those of its text: the figures are lost."""

from __future__ import annotations

from typing import Any

import pandas as pd

from advbench.metrics import Figure, lead, over_seeds, where
from advbench.study import Claim

H1 = "The classifiers are right about 99 % of the clean test images."
H2 = "The attacker of the consecutive mode brings C1 to 80 % at t = 0.04, to 20 % at 0.08 and near guessing from 0.16 on."
H3 = "It hurts C2, which it has not met, less than C1: hardly at t = 0.04, and to 90 % at 0.08."
H4 = "A C1 that learns along with its attacker is hurt far less: not at t = 0.04, and clearly less at 0.08."
H5 = "The smallest t that hurts C1 is 0.04 in the consecutive mode and 0.08 in the alternating mode."
H6 = "The alternating C1 also withstands PGD with the same bound better, so that it does not only fit its own attacker."

LEAST_LEAD = 0.1
"""By which a C1 that learned along must be right more often, to count as a defence."""

Columns = dict[str, Any]


def attacked(mode: str, model: str, metric: str = "attacked_accuracy") -> Columns:
    """A classifier under the plain attacker of a mode, at every t."""
    return {"exhibit": "attacked", "variant": None, "source": mode, "model": model, "metric": metric}


def pgd(defence: str) -> Columns:
    """A C1 under PGD, at every t."""
    return {"exhibit": "pgd", "metric": "attacked_accuracy", "defence": defence}


def _leads(rows: pd.DataFrame, first: Columns, second: Columns) -> dict[float, Figure]:
    """The lead of the first over the second, by t; of one seed with the interval of its images."""
    one, other = (where(rows, **columns).assign(seed=rows.train_seed).groupby("t") for columns in (first, second))
    seconds = dict(iter(other))
    return {t: lead(of_t, seconds[t]) for t, of_t in one if t in seconds}


def clean(model: str) -> Claim:
    def figure(rows: pd.DataFrame) -> Figure:
        return over_seeds(where(rows, exhibit="clean", model=model))

    return Claim("H1", H1, f"clean accuracy of {model}", figure, 0.99, (0.987, None))


def under_attack(
    id: str, says: str, mode: str, model: str, t: float, reported: float | None, low: float, high: float | None = None
) -> Claim:
    def figure(rows: pd.DataFrame) -> Figure:
        return over_seeds(where(rows, t=t, **attacked(mode, model)))

    return Claim(id, says, f"attacked accuracy of the {mode} {model}, t = {t:g}", figure, reported, (low, high))


def _largest(rows: pd.DataFrame) -> Figure | None:
    c1 = where(rows, **attacked("consecutive", "C1"))
    figures = (over_seeds(of_t) for _, of_t in c1[c1.t >= 0.16].groupby("t"))
    return max(figures, key=lambda figure: figure.value, default=None)


def _smallest_lead(rows: pd.DataFrame) -> Figure | None:
    leads = _leads(rows, attacked("consecutive", "C2"), attacked("consecutive", "C1"))
    return min(leads.values(), key=lambda figure: figure.value, default=None)


def alternating_leads(id: str, says: str, words: str, alternating: Columns, consecutive: Columns, t: float) -> Claim:
    """A lead of at least ``LEAST_LEAD`` at one t."""

    def figure(rows: pd.DataFrame) -> Figure | None:
        return _leads(rows, alternating, consecutive).get(t)

    measured = f"lead of the alternating C1 over the consecutive{words}, t = {t:g}"
    return Claim(id, says, measured, figure, accept=(LEAST_LEAD, None))


def threshold(mode: str, reported: float) -> Claim:
    """The smallest t of the study that costs C1 more than 5 points of accuracy; where none does, the largest drop."""

    def figure(rows: pd.DataFrame) -> Figure | tuple[Claim, Figure] | None:
        drops = _leads(rows, attacked(mode, "C1", "clean_accuracy"), attacked(mode, "C1"))
        if reported not in drops:  # of other t alone the smallest says nothing
            return None
        if large := [t for t, drop in drops.items() if drop.value > 0.05]:
            return Figure(min(large), 0)
        largest = max(drops.values(), key=lambda figure: figure.value)
        measured = f"largest drop in accuracy at any t, {mode} C1"
        return claim.instead(measured=measured, reported=None, accept=(0.05, None)), largest

    measured = f"smallest t with a mean drop of more than 5 points, {mode} C1"
    claim = Claim("H5", H5, measured, figure, reported, (reported, reported))
    return claim


CLAIMS = [
    clean("C1"),
    clean("C2"),
    under_attack("H2", H2, "consecutive", "C1", 0.04, 0.8, 0.7, 0.9),
    under_attack("H2", H2, "consecutive", "C1", 0.08, 0.2, 0.1, 0.4),
    Claim("H2", H2, "largest attacked accuracy of the consecutive C1, t >= 0.16", _largest, 0.1, (None, 0.2)),
    under_attack("H3", H3, "consecutive", "C2", 0.04, None, 0.96),
    under_attack("H3", H3, "consecutive", "C2", 0.08, 0.9, 0.8, 0.97),
    Claim("H3", H3, "smallest lead of C2 over C1 at any t", _smallest_lead, accept=(0.0, None)),
    under_attack("H4", H4, "alternating", "C1", 0.04, None, 0.96),
    *(
        alternating_leads("H4", H4, "", attacked("alternating", "C1"), attacked("consecutive", "C1"), t)
        for t in (0.04, 0.08)
    ),
    threshold("consecutive", 0.04),
    threshold("alternating", 0.08),
    # the report did not try PGD: its bound is that of H4, and so is the lead
    *(alternating_leads("H6", H6, " under PGD", pgd("alternating"), pgd("none"), t) for t in (0.04, 0.08)),
]
