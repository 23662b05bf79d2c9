"""The exhibits of ``bench``, from its result rows."""

from __future__ import annotations

import pandas as pd

from advbench.metrics import where
from advbench.recipes.bench.contenders import PLAIN
from advbench.recipes.bench.materials import Attacked
from advbench.report import charts
from advbench.study import Shown, exhibit

SPREAD = ("cost_lowest", "cost_highest")
MEASURED = [
    "limit",
    "cost",
    *SPREAD,
    "forward_passes",
    "backward_passes",
    "success_rate",
    "median_distance",
    "mean_distance",
    "seconds",
]


@exhibit("Cost of an attack, in plain gradients", "B1", "B2", "B3", "B4", "B5", "B6")
def attacks(rows: pd.DataFrame, made: Attacked) -> Shown:
    """``limit`` is the time over that of the bare gradients that the attack needs, of the same layers in the same precision:
    nothing can be faster than 1. Other libraries are compared with what advbench needs in exact precision. ``cost`` is the time
    over that of as many float32 gradients of the plain module as the attack has steps (DeepFool: of ten), with the lowest and
    the highest. PGD takes ten steps and has no random start. Success and distance are judged by the model itself in float32."""
    part = where(rows, exhibit="attacks")
    part = part[part.source.isna() | (part.metric == "limit") | (part.source == PLAIN)]
    table = part.pivot_table("value", ["attack", "library"], "metric", sort=False)[MEASURED].reset_index()
    chart = charts.dots(table.dropna(subset="cost"), "cost", "library", "attack", "cost, plain gradients = 1", SPREAD)
    config = made.config
    rounds = f"Median over {config.repeats} interleaved rounds, {config.deepfool_repeats} for DeepFool."
    return Shown(chart, table, note=rounds)


@exhibit("Cost of an epoch of training", "B7", "B8")
def training(rows: pd.DataFrame, made: Attacked) -> Shown:
    """Rows over columns, median over the interleaved rounds."""
    return Shown(table=_costs(rows, "training"))


@exhibit("Cost of an epoch of a detector", "B9")
def detector(rows: pd.DataFrame, made: Attacked) -> Shown:
    """Rows over columns, median over the interleaved rounds."""
    return Shown(table=_costs(rows, "detector"))


def _costs(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    costs = where(rows, exhibit=name, metric="cost")
    return costs.pivot_table("value", "library", "source", sort=False).reset_index()


EXHIBITS = (attacks, training, detector)
