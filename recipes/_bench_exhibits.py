"""The bounds B1-B9 and the exhibits of ``bench``, from its result rows alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from advbench.metrics import Figure
from advbench.recipes._bench_contenders import PLAIN, SETTINGS
from advbench.report import charts
from advbench.study.run import Run

GRADIENT = [name for name, setting in SETTINGS.items() if not setting.deepfool]
PEERS = (("ART", 0.25), ("torchattacks", 0.35), ("foolbox", 0.25))


def targets(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a bound: the median ratio measured and what it may be at most; NaN where it was not measured."""
    return [row for rule in (_gradients, _deepfool, _training) for row in rule(rows)]


def _cost(rows: pd.DataFrame, exhibit: str, attack: str | None, library: str, unit: str) -> Figure:
    hit = (rows.exhibit == exhibit) & (rows.metric == "cost") & (rows.library == library) & (rows.source == unit)
    part = rows[hit & (rows.attack == attack)] if attack else rows[hit]
    return Figure(float(part.value.iloc[0]), int(part.n.iloc[0])) if len(part) else Figure(float("nan"), 0)


def _value(rows: pd.DataFrame, attack: str, library: str, metric: str) -> float:
    part = rows[(rows.attack == attack) & (rows.library == library) & (rows.metric == metric)]
    return float(part.value.iloc[0]) if len(part) else float("nan")


def _at_most(target: str, metric: str, figure: Figure, high: float) -> dict[str, Any]:
    return figure.row(metric, exhibit="targets", target=target, accept_high=high)


def _gradients(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for target, precision, high in (("B1", "exact", 0.70), ("B2", "fast", 0.30)):
        for attack in GRADIENT:
            figure = _cost(rows, "attacks", attack, f"advbench, {precision}", PLAIN)
            yield _at_most(target, f"{attack} through ART's class, {precision}, against {PLAIN}", figure, high)
    for peer, high in PEERS:
        for attack in GRADIENT:
            figure = _cost(rows, "attacks", attack, "advbench, fast", peer)
            if figure.n:
                yield _at_most("B3", f"{attack}, fast, against {peer}", figure, high)
    for attack in GRADIENT:
        exact, fast = (_value(rows, attack, f"advbench, {p}", "success_rate") for p in ("exact", "fast"))
        metric = f"{attack}: success rate of fast away from exact"
        yield _at_most("B4", metric, Figure(abs(exact - fast), 0), 0.005)


def _deepfool(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    limits = (
        ("B5", "deepfool-l2", "ART", 0.025),
        ("B5", "deepfool-l2", "foolbox", 0.08),
        ("B6", "deepfool-linf", "foolbox", 0.12),
    )
    for target, attack, peer, high in limits:
        figure = _cost(rows, "attacks", attack, "advbench, exact", peer)
        yield _at_most(target, f"{attack} against {peer}", figure, high)
        ours, theirs = (_value(rows, attack, name, "median_distance") for name in ("advbench, exact", peer))
        # one per cent: the overshoot alone is two
        yield _at_most(target, f"{attack}: median distance against {peer}", Figure(ours / theirs, 0), 1.01)
    for target, attack in (("B5", "deepfool-l2"), ("B6", "deepfool-linf")):
        missed = 1 - _value(rows, attack, "advbench, exact", "success_rate")
        yield _at_most(target, f"{attack}: correct images not flipped", Figure(missed, 0), 0.0)


def _training(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    weighted = "advbench, weighted FGSM"
    clean = _cost(rows, "training", "fgsm", weighted, "clean epoch")
    yield _at_most("B7", "weighted FGSM epoch against a clean epoch", clean, 2.1)
    art = _cost(rows, "training", "fgsm", weighted, "ART AdversarialTrainer, FGSM")
    yield _at_most("B8", "weighted FGSM epoch against ART's AdversarialTrainer", art, 0.5)
    later = _cost(rows, "detector", None, "advbench, later epochs", "subnetwork alone")
    yield _at_most("B9", "later detector epochs against training its subnetwork alone", later, 1.15)


def show(run: Run, repeats: int) -> None:
    """Put the table of costs and its chart on the page."""
    rows = run.results()
    part = rows[rows.exhibit == "attacks"]
    units = part[(part.metric != "cost") | (part.source == PLAIN)]
    units = units[~units.metric.str.startswith("cost_") | (units.source == PLAIN)]
    table = units.pivot_table(index=["attack", "library"], columns="metric", values="value", sort=False).reset_index()
    table = table.reindex(
        columns=[
            "attack",
            "library",
            "cost",
            "cost_lowest",
            "cost_highest",
            "success_rate",
            "median_distance",
            "mean_distance",
            "seconds",
        ]
    )
    run.exhibit(
        "attacks",
        "Cost of an attack, in plain gradients",
        f"Median over {repeats} interleaved rounds (fewer for DeepFool) of the time over that of as many float32 gradients of the plain "
        "module as the attack needs (DeepFool: of ten), with the lowest and the highest; success and distance are judged by the model "
        "itself in float32.",
        charts.dots(
            table.dropna(subset=["cost"]),
            "cost",
            "library",
            "attack",
            "cost, plain gradients = 1",
            ("cost_lowest", "cost_highest"),
        ),
        table,
        targets=("B1", "B2", "B3", "B4", "B5", "B6"),
    )
    for exhibit, title, bounds in (
        ("training", "Cost of an epoch of training", ("B7", "B8")),
        ("detector", "Cost of an epoch of a detector", ("B9",)),
    ):
        costs = rows[(rows.exhibit == exhibit) & (rows.metric == "cost")]
        if len(costs):
            wide = costs.pivot_table(index="library", columns="source", values="value", sort=False).reset_index()
            run.exhibit(
                exhibit, title, "Rows over columns, median over the interleaved rounds.", table=wide, targets=bounds
            )
