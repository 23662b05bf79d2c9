"""Result rows as tables: selected rows, their values by seed, their means over seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from advbench.metrics.figures import Figure, difference, mean, of_row, proportion


def where(rows: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    """The rows with these values: None for an empty cell, a number up to rounding, a tuple for any of several."""
    for column, value in columns.items():
        cells = rows[column]
        if value is None:
            rows = rows[cells.isna()]
        elif isinstance(value, tuple):
            rows = rows[cells.isin(value)]
        elif isinstance(value, float):
            rows = rows[np.isclose(cells.astype(float), value)]
        else:
            rows = rows[(cells == value).fillna(False).astype(bool)]
    return rows


def over_seeds(rows: pd.DataFrame) -> Figure:
    """The mean of rows that differ in their seed, with Student's interval; a single row keeps its own interval."""
    return of_row(rows.iloc[0]) if len(rows) == 1 else mean(rows.value.to_numpy(float), unit="seeds")


def lowest(rows: pd.DataFrame) -> Figure | None:
    """The figure of the row with the smallest value, None where no row has one."""
    row = lowest_row(rows)
    return None if row is None else of_row(row)


def lowest_row(rows: pd.DataFrame) -> pd.Series | None:
    """The row with the smallest value, None where no row has one."""
    rows = rows.dropna(subset=["value"])
    return rows.loc[rows.value.idxmin()] if len(rows) else None


def highest_row(rows: pd.DataFrame) -> pd.Series | None:
    """The row with the largest value, None where no row has one."""
    rows = rows.dropna(subset=["value"])
    return rows.loc[rows.value.idxmax()] if len(rows) else None


def above(row: pd.Series, other: pd.Series) -> bool:
    """Whether the first of two shares is larger beyond chance: the 95 % interval of their difference leaves out zero."""
    return difference(of_row(row), of_row(other)).ci_low > 0


def gained(row: pd.Series, other: pd.Series, least: float = 0.05) -> bool | None:
    """Whether the first of two shares is larger beyond chance; None where the 95 % interval leaves that open.

    :param least: a gain that is for certain smaller than this is none.
    """
    gain = difference(of_row(row), of_row(other))
    return True if gain.ci_low > 0 else False if gain.ci_high < least else None


def lead(first: pd.DataFrame, second: pd.DataFrame) -> Figure:
    """The value of the first rows less that of the second: in each seed, mean over the seeds; of one seed with its interval."""
    if len(first) == len(second) == 1:
        return difference(of_row(first.iloc[0]), of_row(second.iloc[0]))
    return mean((by_seed(first) - by_seed(second)).dropna().to_numpy(float), unit="seeds")


def by_seed(rows: pd.DataFrame) -> pd.Series:
    """The values by seed: a difference is then between trainings from the same weights in the same order."""
    return rows.set_index("seed").value.sort_index()


def of_epochs(histories: pd.DataFrame, metric: str, n: int) -> pd.DataFrame:
    """The rows of a share of n images that trainings measured after each epoch, each with its 95 % interval.

    :param histories: one row an epoch of each training, as ``Run.histories`` gives them; those that did not measure it are
        left out.
    """
    histories = histories.dropna(subset=[metric])
    figures = [proportion(round(value * n), n) for value in histories[metric]]
    return histories.assign(
        value=histories[metric],
        ci_low=[figure.ci_low for figure in figures],
        ci_high=[figure.ci_high for figure in figures],
        n=n,
        reported=np.nan,
        attack=None,
    )


def spread(rows: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Mean, lowest and highest value of each group, the report's number and n; images without attack are ``clean``.

    Of a single row lowest and highest are the ends of its 95 % interval, where it has one.
    """
    single = rows.groupby(list(by), sort=False, dropna=False).value.transform("size") == 1
    ends = {name: rows[name].where(single & rows[name].notna(), rows.value) for name in ("ci_low", "ci_high")}
    filled = rows.assign(attack=rows.attack.fillna("clean"), **ends)
    table = filled.groupby(list(by), sort=False, dropna=False).agg(
        mean=("value", "mean"),
        lowest=("ci_low", "min"),
        highest=("ci_high", "max"),
        reported=("reported", "first"),
        n=("n", "first"),
    )
    return table.reset_index()
