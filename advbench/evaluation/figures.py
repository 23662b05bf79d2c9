"""A figure is a value with its n and its 95 % confidence interval; ``row`` makes it a row of results.csv."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Z95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution

COLUMNS = [
    "recipe",
    "dataset",
    "split",
    "exhibit",
    "model",
    "defence",
    "detector",
    "position",
    "fit_attack",
    "fit_eps",
    "source",
    "attack",
    "norm",
    "eps",
    "sigma",
    "library",
    "metric",
    "value",
    "n",
    "ci_low",
    "ci_high",
    "seed",
    "reported",
    "accept_low",
    "accept_high",
    "target",
    "note",
]


@dataclass(frozen=True)
class Figure:
    """One measured number; the interval is NaN where none is known."""

    value: float
    n: int
    ci_low: float = float("nan")
    ci_high: float = float("nan")

    def row(self, metric: str, **context: object) -> dict[str, object]:
        """The figure as a row of results.csv; ``context`` fills the columns that say what it is of.

        :raises ValueError: for a column that results.csv does not have.
        """
        unknown = set(context) - set(COLUMNS)
        if unknown:
            raise ValueError(f"no such column: {', '.join(sorted(unknown))}")
        return {
            "metric": metric,
            "value": self.value,
            "n": self.n,
            "ci_low": self.ci_low,
            "ci_high": self.ci_high,
            **context,
        }


def proportion(hits: int, n: int) -> Figure:
    """hits / n with Wilson's score interval (Wilson, 1927); NaN where n is 0."""
    if n == 0:
        return Figure(float("nan"), 0)
    p = hits / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    return Figure(
        p, n, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))
    )  # p itself, whatever rounding does


def mean(values: np.ndarray) -> Figure:
    """The mean of values (N,) with Student's t interval; NaN where there are none, no interval where there is one."""
    n = len(values)
    if n == 0:
        return Figure(float("nan"), 0)
    centre = float(np.mean(values))
    if n == 1:
        return Figure(centre, 1)
    from scipy.stats import t

    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / sqrt(n))
    return Figure(centre, n, centre - half, centre + half)


def over_seeds(rows: pd.DataFrame) -> Figure:
    """The mean of rows of results.csv that differ in their seed, as :func:`mean`; a single row keeps its own interval."""
    if len(rows) == 1:
        only = rows.iloc[0]
        return Figure(float(only.value), int(only.n), float(only.ci_low), float(only.ci_high))
    return mean(rows.value.to_numpy(float))


def median(values: np.ndarray) -> Figure:
    """The median of values (N,), infinite ones included, with the interval between order statistics; NaN without values.

    The ends are the binomial 2.5 % and 97.5 % ranks (Conover, 1999, section 3.2); few values have none.
    """
    n = len(values)
    if n == 0:
        return Figure(float("nan"), 0)
    from scipy.stats import quantile_test

    interval = quantile_test(np.sort(values), p=0.5).confidence_interval(0.95)
    middle = np.sort(values)[[(n - 1) // 2, n // 2]]
    return Figure(float(middle[0] if middle[0] == middle[1] else middle.mean()), n, interval.low, interval.high)


def balanced(first: Figure, second: Figure) -> Figure:
    """The mean of two independent proportions, its interval by Newcombe's square-and-add method (1998)."""
    value = (first.value + second.value) / 2
    below = sqrt((first.value - first.ci_low) ** 2 + (second.value - second.ci_low) ** 2) / 2
    above = sqrt((first.ci_high - first.value) ** 2 + (second.ci_high - second.value) ** 2) / 2
    return Figure(value, first.n + second.n, value - below, value + above)


def difference(first: Figure, second: Figure) -> Figure:
    """first - second for two independent proportions, its interval by Newcombe's square-and-add method (1998).

    n is the smaller of both. Of the same images it is too wide, for such figures go up and down together.
    """
    value = first.value - second.value
    below = sqrt((first.value - first.ci_low) ** 2 + (second.ci_high - second.value) ** 2)
    above = sqrt((first.ci_high - first.value) ** 2 + (second.value - second.ci_low) ** 2)
    return Figure(value, min(first.n, second.n), value - below, value + above)


def accuracy(predicted: np.ndarray, y: np.ndarray) -> Figure:
    """The share of predicted labels (N,) equal to the true ones (N,).

    :raises ValueError: if the lengths differ.
    """
    if predicted.shape != y.shape:
        raise ValueError(f"predicted has shape {predicted.shape}, y {y.shape}")
    return proportion(int((predicted == y).sum()), len(y))
