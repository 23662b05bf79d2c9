"""The exhibits of ``bench``, from its result rows."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from advbench.metrics import where
from advbench.recipes.bench.claims import EXACT, FAST
from advbench.recipes.bench.contenders import LIMITS, PLAIN
from advbench.recipes.bench.materials import Attacked
from advbench.report import charts
from advbench.study import Finding, Shown, exhibit
from advbench.study.config import number

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


@exhibit("Cost of an attack, in plain gradients", "B1", "B2", "B3", "B4", "B5", "B6", "B10")
def attacks(rows: pd.DataFrame, made: Attacked) -> Shown:
    """``limit`` is the time over that of the bare gradients that the attack needs, of the same layers in the same precision:
    nothing can be faster than 1. Other libraries are compared with what advbench needs in exact precision. ``cost`` is the time
    over that of as many float32 gradients of the plain module as the attack has steps (DeepFool and AutoAttack: of ten), with the lowest and
    the highest. PGD takes ten steps and has no random start. Success and distance are judged by the model itself in float32."""
    part = where(rows, exhibit="attacks")
    part = part[~part.library.isin(LIMITS.values())]
    part = part[part.source.isna() | (part.metric == "limit") | (part.source == PLAIN)]
    table = part.pivot_table("value", ["attack", "library"], "metric", sort=False)[MEASURED].reset_index()
    chart = charts.dots(table.dropna(subset="cost"), "cost", "library", "attack", "cost, plain gradients = 1", SPREAD)
    config = made.config
    rounds = f"Median over {config.repeats} interleaved rounds, {config.long_repeats} for DeepFool and AutoAttack."
    return Shown(chart, table, note=rounds)


@exhibit("Cost of a whole evaluation", "B11")
def evaluation(rows: pd.DataFrame, made: Attacked) -> Shown:
    """``advbench.evaluate`` makes its checks, FGSM, PGD with restarts, AutoAttack and a minimum-norm attack; beside it the
    authors of AutoAttack run that alone at the same bounds. One round; the accuracy that each leaves, by bound."""
    part = where(rows, exhibit="evaluation")
    left = part[part.metric == "robust_accuracy"].pivot_table("value", "library", "eps", sort=False)
    left.columns = pd.Index([f"left at {number(eps)}" for eps in left.columns])
    seconds = part[part.metric == "seconds"].set_index("library").value.rename("seconds")
    return Shown(table=left.join(seconds).reset_index())


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


EXHIBITS = (attacks, evaluation, training, detector)


def answer(rows: pd.DataFrame) -> Iterator[Finding]:
    """What ten steps of PGD cost here and in the other libraries."""
    cost = where(rows, exhibit="attacks", metric="cost", attack="pgd", source=PLAIN).set_index("library", drop=False)
    ours = cost[cost.index.isin([EXACT, FAST])].dropna(subset="value").sort_values("value")
    others = cost[cost.index.isin(["ART", "foolbox", "torchattacks"])]
    if ours.empty or others.empty:
        return
    best = ours.iloc[0]
    words = ", ".join(f"{row.library} {row.value:.2f}" for row in others.itertuples())
    row = where(rows, exhibit="attacks", metric="cost", attack="pgd", source=PLAIN, library=best.library).iloc[0]
    yield Finding.at(
        row,
        f"Ten steps of PGD cost {best.value:.2f} of as many plain gradients with {best.library}, in other libraries: {words}.",
    )
