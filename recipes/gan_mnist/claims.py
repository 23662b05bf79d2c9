"""The claims H1 to H6 of report 004, whose numbers are those of its text: the figures are lost."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from advbench.metrics import Figure, mean, over_seeds, where
from advbench.study import Claim

Read = Callable[[pd.DataFrame], pd.DataFrame]


def attacked(mode: str, model: str, t: float, metric: str = "attacked_accuracy") -> Read:
    """The rows of a classifier under the plain attacker of a mode."""
    columns = {"exhibit": "attacked", "variant": None, "source": mode, "model": model, "t": t, "metric": metric}
    return lambda rows: where(rows, **columns)


def under_pgd(defence: str, t: float) -> Read:
    """The rows of a C1 under PGD."""
    return lambda rows: where(rows, exhibit="pgd", metric="attacked_accuracy", defence=defence, t=t)


def lead(first: Read, second: Read) -> Callable[[pd.DataFrame], Figure]:
    """The difference in each seed, mean over the seeds."""
    return lambda rows: mean(_differences(first(rows), second(rows)), unit="seeds")


def _differences(first: pd.DataFrame, second: pd.DataFrame) -> pd.Series:
    return (first.set_index("train_seed").value - second.set_index("train_seed").value).dropna()


def _bounds(rows: pd.DataFrame) -> list[float]:
    """Every t of the plain attackers."""
    return sorted(where(rows, exhibit="attacked", variant=None).t.unique())


def _largest(rows: pd.DataFrame) -> Figure | None:
    """The largest attacked accuracy of the consecutive C1 at a t of at least 0.16."""
    figures = [over_seeds(attacked("consecutive", "C1", t)(rows)) for t in _bounds(rows) if t >= 0.16]
    return max(figures, key=lambda each: each.value, default=None)


def _smallest_lead(rows: pd.DataFrame) -> Figure | None:
    """The smallest lead of C2 over C1 under the consecutive attacker, of all t."""
    leads = (lead(attacked("consecutive", "C2", t), attacked("consecutive", "C1", t))(rows) for t in _bounds(rows))
    return min(leads, key=lambda each: each.value, default=None)


H1 = "The classifiers are right about 99 % of the clean test images."
H2 = "The attacker of the consecutive mode brings C1 to 80 % at t = 0.04, to 20 % at 0.08 and near guessing from 0.16 on."
H3 = "It hurts C2, which it has not met, less than C1: hardly at t = 0.04, and to 90 % at 0.08."
H4 = "A C1 that learns along with its attacker is hurt far less: not at t = 0.04, and clearly less at 0.08."
H5 = "The smallest t that hurts C1 is 0.04 in the consecutive mode and 0.08 in the alternating mode."
H6 = "The alternating C1 also withstands PGD with the same bound better, so that it does not only fit its own attacker."


def clean(name: str) -> Claim:
    def figure(rows: pd.DataFrame) -> Figure:
        return over_seeds(where(rows, exhibit="clean", model=name))

    return Claim("H1", H1, f"clean accuracy of {name}", figure, 0.99, (0.987, None))


def under_attack(
    id: str, says: str, mode: str, model: str, t: float, reported: float | None, low: float, high: float | None
) -> Claim:
    """A claim on the attacked accuracy of a classifier at one t."""
    read = attacked(mode, model, t)
    measured = f"attacked accuracy of the {mode} {model}, t = {t:g}"
    return Claim(id, says, measured, lambda rows: over_seeds(read(rows)), reported, (low, high))


def alternating_leads(t: float) -> Claim:
    figure = lead(attacked("alternating", "C1", t), attacked("consecutive", "C1", t))
    return Claim("H4", H4, f"lead of the alternating C1 over the consecutive, t = {t:g}", figure, accept=(0.1, None))


def threshold(mode: str, reported: float) -> Claim:
    """The smallest t of the study that costs C1 more than 5 points of accuracy; where none does, the largest drop."""

    def first_drop(rows: pd.DataFrame) -> Figure | tuple[Claim, Figure] | None:
        drops = {
            t: _differences(attacked(mode, "C1", t, "clean_accuracy")(rows), attacked(mode, "C1", t)(rows)).mean()
            for t in _bounds(rows)
        }
        if drops and (largest := max(drops.values())) <= 0.05:
            measured = f"largest drop in accuracy at any t, {mode} C1"
            return claim.instead(measured=measured, reported=None, accept=(0.05, None)), Figure(largest, 0)
        return next((Figure(t, 0) for t, drop in drops.items() if drop > 0.05), None)

    measured = f"smallest t with a mean drop of more than 5 points, {mode} C1"
    claim = Claim("H5", H5, measured, first_drop, reported, (reported, reported))
    return claim


def alternating_leads_under_pgd(t: float) -> Claim:
    """The report did not try PGD; its bound is that of H4, and so is the lead that is asked for."""
    measured = f"lead of the alternating C1 over the consecutive under PGD, t = {t:g}"
    return Claim("H6", H6, measured, lead(under_pgd("alternating", t), under_pgd("none", t)), accept=(0.1, None))


CLAIMS = [
    clean("C1"),
    clean("C2"),
    under_attack("H2", H2, "consecutive", "C1", 0.04, 0.8, 0.7, 0.9),
    under_attack("H2", H2, "consecutive", "C1", 0.08, 0.2, 0.1, 0.4),
    Claim("H2", H2, "largest attacked accuracy of the consecutive C1, t >= 0.16", _largest, 0.1, (None, 0.2)),
    under_attack("H3", H3, "consecutive", "C2", 0.04, None, 0.96, None),
    under_attack("H3", H3, "consecutive", "C2", 0.08, 0.9, 0.8, 0.97),
    Claim("H3", H3, "smallest lead of C2 over C1 at any t", _smallest_lead, accept=(0.0, None)),
    under_attack("H4", H4, "alternating", "C1", 0.04, None, 0.96, None),
    alternating_leads(0.04),
    alternating_leads(0.08),
    threshold("consecutive", 0.04),
    threshold("alternating", 0.08),
    alternating_leads_under_pgd(0.04),
    alternating_leads_under_pgd(0.08),
]
