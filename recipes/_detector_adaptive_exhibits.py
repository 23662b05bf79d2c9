"""The targets A1-A6 and the exhibits of ``detector_adaptive``, from its result rows alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from advbench.metrics import Figure
from advbench.report import charts
from advbench.study.run import Run

_STATIC, _DYNAMIC = "static, fgsm", "dynamic"


def targets(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a target: our number, the published one and what is accepted; NaN where the run does not measure it."""
    return list(_targets(rows))


def _targets(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    naive = _pick(rows, "naive", "detectability", _STATIC)
    yield _row("A1", "detectability of FGSM by the detector trained on it", _lowest(naive), 0.9, None, 0.99)
    blind = _pick(rows, "carlini", "tpr_at_28_fpr", _STATIC)
    metric = "the same detector on Carlini & Wagner's l2 attack, zero knowledge: true positives at 28 % false positives"
    yield _row("A2", metric, _lowest(blind[blind.source == "zero knowledge"]), 0.71, 0.91, 0.81)
    for target, detector in (("A3", _STATIC), ("A4", _DYNAMIC)):
        seen = _pick(rows, "adaptive", "sr_at_5", detector)
        strongest = seen[seen.eps == seen.eps.max()].sort_values("value").tail(1)
        metric = f"SR@5 of the better of selective and orthogonal PGD at the largest eps, detector {detector}"
        yield _row(target, metric, _lowest(strongest), 0.9, None, None)
    known = _pick(rows, "carlini", "sr_at_5", _STATIC)
    for target, knowledge, low in (("A5", "perfect", 0.9), ("A6", "limited", 0.5)):
        metric = f"SR@5 of Carlini & Wagner's l2 attack, {knowledge} knowledge, detector {_STATIC}"
        yield _row(target, metric, _lowest(known[known.source == f"{knowledge} knowledge"]), low, None, None)


def _pick(rows: pd.DataFrame, exhibit: str, metric: str, detector: str) -> pd.DataFrame:
    return rows[(rows.exhibit == exhibit) & (rows.metric == metric) & (rows.detector == detector)]


def _lowest(rows: pd.DataFrame) -> Figure:
    rows = rows.dropna(subset=["value"])
    if rows.empty:
        return Figure(float("nan"), 0)
    row = rows.loc[rows.value.idxmin()]
    return Figure(row.value, int(row.n), row.ci_low, row.ci_high)


def _row(
    target: str, metric: str, figure: Figure, low: float | None, high: float | None, reported: float | None
) -> dict[str, Any]:
    return figure.row(metric, exhibit="targets", target=target, accept_low=low, accept_high=high, reported=reported)


def show(run: Run) -> None:
    """Put every exhibit on the page."""
    rows = run.results()
    _naive(run, rows)
    _adaptive(run, rows)
    _carlini(run, rows)


def _naive(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "naive"].assign(fitted=lambda r: r.fit_attack + ", eps " + _units(r.fit_eps))
    run.exhibit(
        "naive",
        "Before: each detector on the attack that it was trained on",
        "Adversarial test images that were made without any knowledge of the detector: how such detectors are usually judged.",
        table=part.pivot_table(
            index=["detector", "fitted"], columns="metric", values="value", sort=False
        ).reset_index(),
        targets=("A1",),
    )


def _adaptive(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "adaptive"]
    part = part.assign(eps=(part.eps * 255).round(2), attacked=part.detector + ": " + part.attack)
    chart = charts.curves(part[part.metric == "sr_at_5"], "eps", "value", "attacked", "SR@5")
    run.exhibit(
        "adaptive",
        "After: attacks that know the detector",
        "By eps in units of 1/255: the share of test images, all classified right before, that are misclassified and not flagged, with the detector's "
        "threshold at 5 % (SR@5), 28 % or 50 % false positives on clean validation images; error counts the misclassified. "
        "1 means that the detector stops nothing.",
        chart,
        part.pivot_table(
            index=["detector", "attack", "eps"], columns="metric", values="value", sort=False
        ).reset_index(),
        targets=("A3", "A4"),
    )


def _carlini(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "carlini"].rename(columns={"source": "attacker"})
    first = ["error", "sr_at_5", "sr_at_28", "sr_at_50", "tpr_at_28_fpr", "auc", "mean_l2"]
    table = part.pivot_table(index=["detector", "attacker"], columns="metric", values="value", sort=False)
    run.exhibit(
        "carlini",
        "Carlini & Wagner's l2 attack at three levels of knowledge",
        "Zero knowledge attacks the classifier alone, limited knowledge a detector of the same kind and another seed, perfect "
        "knowledge the detector itself; the last two see classifier and detector as one network with a class for flagged "
        "images. The true-positive rate at 28 % false positives and the AUC are over misclassified images; published for zero "
        "knowledge: 81 % true positives. mean_l2 is the distance of misclassified images in [0, 1] units.",
        table=table.reindex(columns=first).reset_index(),
        targets=("A2", "A5", "A6"),
    )


def _units(eps: pd.Series) -> pd.Series:
    return (eps * 255).round(2).map("{:g}/255".format)
