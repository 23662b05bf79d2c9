"""A figure is a value with its n and its 95 % confidence interval; ``row`` makes it a row of results.csv."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan, sqrt
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Unit = Literal["images", "seeds", "rounds"]

Z95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution

_TEXT, _WHOLE, _NUMBER = "object", "Int64", "float64"
COLUMNS = {
    "recipe": _TEXT,
    "dataset": _TEXT,
    "split": _TEXT,
    "exhibit": _TEXT,
    "model": _TEXT,
    "defence": _TEXT,
    "detector": _TEXT,
    "position": _WHOLE,
    "fit_attack": _TEXT,
    "fit_eps": _NUMBER,
    "source": _TEXT,
    "attack": _TEXT,
    "variant": _TEXT,
    "norm": _TEXT,
    "eps": _NUMBER,
    "t": _NUMBER,
    "steps": _WHOLE,
    "restarts": _WHOLE,
    "sigma": _NUMBER,
    "alpha": _NUMBER,
    "epoch": _WHOLE,
    "severity": _WHOLE,
    "library": _TEXT,
    "metric": _TEXT,
    "value": _NUMBER,
    "n": _NUMBER,
    "unit": _TEXT,
    "ci_low": _NUMBER,
    "ci_high": _NUMBER,
    "seed": _WHOLE,
    "train_seed": _WHOLE,
    "reported": _NUMBER,
    "accept_low": _NUMBER,
    "accept_high": _NUMBER,
    "target": _TEXT,
    "note": _TEXT,
}
"""The columns of results.csv and their pandas types."""


@dataclass(frozen=True)
class Figure:
    """One measured number.

    :param n: the number of images, seeds or rounds of a timing behind it.
    :param ci_low: the lower end of its 95 % interval, NaN where none is known.
    :param ci_high: the upper end.
    :param unit: of n.
    """

    value: float
    n: int
    ci_low: float = nan
    ci_high: float = nan
    unit: Unit = "images"

    def row(self, metric: str, **context: object) -> dict[str, object]:
        """The figure as a row of results.csv; ``context`` fills the columns that identify it.

        :raises ValueError: for a column that results.csv does not have.
        """
        unknown = set(context) - set(COLUMNS)
        if unknown:
            raise ValueError(f"no such column: {', '.join(sorted(unknown))}")
        return {
            "metric": metric,
            "value": self.value,
            "n": self.n,
            "unit": self.unit,
            "ci_low": self.ci_low,
            "ci_high": self.ci_high,
            **context,
        }


def proportion(hits: int, n: int) -> Figure:
    """hits / n with Wilson's score interval (Wilson, 1927); NaN where n is 0."""
    if n == 0:
        return Figure(nan, 0)
    from scipy.stats import binomtest

    p, interval = hits / n, binomtest(hits, n).proportion_ci(method="wilson")
    return Figure(p, n, min(p, interval.low), max(p, interval.high))  # p itself lies inside, whatever rounding does


def percent(value: float) -> str:
    """A share as a person writes it: 93.1 % for 0.931."""
    return f"{100 * value:.1f} %"


def share(figure: Figure | pd.Series) -> str:
    """A figure, or a row of results.csv, as a share with its 95 % interval where it has one: 93.1 % (92.6 to 93.6).

    Of Student's interval only what lies between 0 and 100 % is said.
    """
    if isnan(figure.ci_low):
        return percent(figure.value)
    return f"{percent(figure.value)} ({100 * max(figure.ci_low, 0):.1f} to {100 * min(figure.ci_high, 1):.1f})"


def mean(values: np.ndarray, unit: Unit = "images") -> Figure:
    """The mean of values (N,) with Student's t interval; NaN where there are none, no interval where there is one."""
    n = len(values)
    if n == 0:
        return Figure(nan, 0, unit=unit)
    centre = float(np.mean(values))
    if n == 1:
        return Figure(centre, 1, unit=unit)
    from scipy.stats import t

    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / sqrt(n))
    return Figure(centre, n, centre - half, centre + half, unit)


def of_row(row: pd.Series) -> Figure:
    """The figure of a row of results.csv."""
    unit: Unit = row.unit if row.unit in get_args(Unit) else "images"
    return Figure(float(row.value), int(row.n), float(row.ci_low), float(row.ci_high), unit)


def median(values: np.ndarray) -> Figure:
    """The median of values (N,), infinite ones included, with the interval between order statistics; NaN without values.

    The ends are the binomial 2.5 % and 97.5 % ranks (Conover, 1999, section 3.2); few values have none.
    """
    n = len(values)
    if n == 0:
        return Figure(nan, 0)
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
    return Figure(value, min(first.n, second.n), value - below, value + above, first.unit)


def paired_difference(first: np.ndarray, second: np.ndarray) -> Figure:
    """The share of images that are right in the first less that in the second, from bool arrays (N,) on the same images.

    The interval is Newcombe's for paired proportions (1998, Statistics in Medicine 17, 2635-2650, method 10).

    :raises ValueError: if the lengths differ, or are 0.
    """
    if first.shape != second.shape or not len(first):
        raise ValueError(f"first has shape {first.shape}, second {second.shape}")
    n = len(first)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    a, b = proportion(int(first.sum()), n), proportion(int(second.sum()), n)
    determinant = float(both * neither - only_first * only_second)
    if determinant > 0:
        determinant = max(determinant - n / 2, 0.0)
    margins = a.value * (1 - a.value) * b.value * (1 - b.value)
    phi = determinant / (n**2 * sqrt(margins)) if margins else 0.0

    def half(one: float, other: float) -> float:
        return sqrt(max(one**2 - 2 * phi * one * other + other**2, 0))

    value = a.value - b.value
    low = value - half(a.value - a.ci_low, b.ci_high - b.value)
    high = value + half(a.ci_high - a.value, b.value - b.ci_low)
    return Figure(value, n, low, high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """The p value of McNemar's exact test of whether as many images are right in the first alone as in the second alone.

    :param first: bool (N,): the images that are right; ``second`` on the same images.
    """
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    changed = only_first + only_second
    return float(binomtest(only_first, changed).pvalue) if changed else 1.0


def accuracy(predicted: np.ndarray, y: np.ndarray) -> Figure:
    """The share of predicted labels (N,) equal to the true ones (N,).

    :raises ValueError: if the lengths differ.
    """
    if predicted.shape != y.shape:
        raise ValueError(f"predicted has shape {predicted.shape}, y {y.shape}")
    return proportion(int((predicted == y).sum()), len(y))
