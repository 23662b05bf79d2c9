"""What the exhibits of several recipes share: verdict rows, means over seeds, training histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from advbench.metrics import Figure
from advbench.study.run import Run


def target_row(
    target: str,
    metric: str,
    figure: Figure,
    low: float | None = None,
    high: float | None = None,
    reported: float | None = None,
) -> dict[str, Any]:
    """One part of a target as a result row: what was measured, what is accepted (None: no limit), what the report says."""
    return figure.row(metric, exhibit="targets", target=target, accept_low=low, accept_high=high, reported=reported)


def over_seeds(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean, lowest and highest value of each group, the report's number and n; images without attack are ``clean``."""
    filled = rows.assign(attack=rows.attack.fillna("clean"))
    table = filled.groupby(list(by), sort=False, dropna=False).agg(
        mean=("value", "mean"),
        lowest=("value", "min"),
        highest=("value", "max"),
        reported=("reported", "first"),
        n=("n", "first"),
    )
    return table.reset_index()


def histories(run: Run, columns: Sequence[str]) -> pd.DataFrame:
    """One row an epoch of every training that was repeated over seeds, the mean of these columns over them."""
    found = []
    for path in sorted((run.directory / "models").glob("*-seed*.csv")):
        name, _, seed = path.stem.rpartition("-seed")
        found.append(pd.read_csv(path).assign(training=name, seed=int(seed)))
    return pd.concat(found, ignore_index=True).groupby(["training", "epoch"], as_index=False)[list(columns)].mean()
