"""The claims of a report as data, and the verdict on each from the rows of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, isnan, nan, sqrt

import pandas as pd

from advbench.metrics import Figure

NOT_MEASURED, MISSED, OPEN, HOLDS = WORST_FIRST = ("not measured", "missed", "open", "holds")
"""The words of a verdict."""

_TEST_IMAGES = 10_000  # of CIFAR-10 and of MNIST
_HOPELESS = 1000  # an interval that must be so many times as narrow asks for a million times as many


@dataclass(frozen=True)
class Report:
    """A published report whose claims a recipe checks.

    :param did: what was done, in two sentences.
    :param short: how a text cites it, such as "Meucci (2016)".
    :param central: the ids of the claims that say what it found.
    """

    id: str
    title: str
    authors: str
    year: str
    did: str
    short: str
    central: Sequence[str]


@dataclass(frozen=True)
class Finding:
    """One sentence of the answer of a study.

    :param line: of results.csv, whose first line is the header: the row that the sentence rests on.
    :param survives: whether it says what survives an attack that knows the defence.
    :param seeds: of how many trainings its figures are the means.
    """

    text: str
    line: int
    survives: bool = False
    seeds: int = 1

    @classmethod
    def at(cls, row: pd.Series, text: str, survives: bool = False) -> Finding:
        """A sentence that rests on a row of a table of results."""
        return cls(text, int(row.name) + 2, survives)

    @classmethod
    def over(cls, rows: pd.DataFrame, text: str, survives: bool = False) -> Finding:
        """A sentence on the mean of rows of that table which differ in their seed; it is linked to the first of them."""
        return replace(cls.at(rows.iloc[0], text, survives), seeds=len(rows))


@dataclass(frozen=True)
class Claim:
    """One claim of a report, or one part of it: parts share the id, which holds as far as its worst part.

    :param id: such as ``M1``.
    :param says: the claim in one sentence, as the report has it.
    :param measured: what a run measures for it, in words.
    :param figure: reads that figure from the rows of a run; NaN or None where the run did not measure it. A claim may be
        measured in another way where the usual one has nothing to measure: then a changed claim is returned with the figure.
    :param reported: the report's number, None where it states none.
    :param accept: the lowest and the highest figure with which the claim holds, None for no limit.
    """

    id: str
    says: str
    measured: str
    figure: Callable[[pd.DataFrame], Figure | tuple[Claim, Figure | None] | None]
    reported: float | None = None
    accept: tuple[float | None, float | None] = (None, None)

    def instead(self, **changes: object) -> Claim:
        """The claim, measured in another way."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def row(self, rows: pd.DataFrame) -> dict[str, object]:
        """The claim as a row of results.csv, with what the rows of a run say of it."""
        claim, found = self, self.figure(rows)
        if isinstance(found, tuple):
            claim, found = found
        low, high = claim.accept
        context = {"target": claim.id, "reported": claim.reported, "accept_low": low, "accept_high": high}
        return (found or Figure(nan, 0)).row(claim.measured, exhibit="claims", **context)


def band(reported: float, around: float) -> tuple[float, float]:
    """The accepted range of a number, so far to either side."""
    return round(reported - around, 4), round(reported + around, 4)


@dataclass(frozen=True)
class Verdict:
    """One claim beside what was measured; numbers are NaN where there is none.

    :param n: on how many units the figure rests; the units are images, seeds or rounds of a timing.
    :param note: why the run decides nothing, empty where it does.
    :param line: its line in results.csv, whose first line is the header.
    """

    target: str
    metric: str
    value: float
    n: float
    unit: str
    ci_low: float
    ci_high: float
    reported: float
    accept_low: float
    accept_high: float
    note: str
    line: int

    @property
    def _range(self) -> tuple[float, float]:
        return (
            -inf if isnan(self.accept_low) else self.accept_low,
            inf if isnan(self.accept_high) else self.accept_high,
        )

    @property
    def word(self) -> str:
        """``holds``, ``missed``, ``open`` or ``not measured``.

        With a 95 % interval: missed where it lies outside of the accepted range; holds where it lies inside, or where
        the range has two ends, the figure lies inside and the interval is no wider than the range; else open. Without
        an interval the figure decides.
        """
        low, high = self._range
        if self.note or isnan(self.value):
            return NOT_MEASURED
        if isnan(self.ci_low):
            return HOLDS if low <= self.value <= high else MISSED
        if self.ci_high < low or self.ci_low > high:
            return MISSED
        narrow = low <= self.value <= high and -inf < low and self.ci_high - self.ci_low <= high - low < inf
        return HOLDS if narrow or (low <= self.ci_low and self.ci_high <= high) else OPEN

    @property
    def needs(self) -> str:
        """How many more images or seeds would decide an open claim, if figure and spread stay as they are.

        A test set has no more than 10,000 images; where they are too few, only further networks can decide it.
        """
        if self.word != OPEN or not self.n > 0:
            return ""
        low, high = self._range
        # by how much the interval must shrink: until it leaves a bound that it crosses, or fits into the range
        shrink = max(
            ((self.ci_high if self.value < bound else self.ci_low) - self.value) / (bound - self.value)
            if bound != self.value
            else inf
            for bound in (low, high)
            if self.ci_low < bound < self.ci_high
        )
        if low <= self.value <= high and high - low < inf:
            shrink = min(shrink, (self.ci_high - self.ci_low) / (high - low))
        if shrink > _HOPELESS:
            return "no number of images or seeds would decide it: the figure lies on the bound"
        enough = _narrower(int(self.n), shrink) if self.unit == "seeds" else ceil(self.n * shrink**2)
        more = max(enough - int(self.n), 1)
        if self.unit == "images" and self.n + more > _TEST_IMAGES:
            return f"{_TEST_IMAGES:,} images would not decide it; more seeds may"
        units = self.unit if more > 1 else self.unit.removesuffix("s")
        return f"about {more:,} more{units and f' {units}'} would decide it"

    @property
    def accepted(self) -> str:
        """The accepted range in words."""
        if isnan(self.accept_low):
            return f"at most {self.accept_high:g}"
        if isnan(self.accept_high):
            return f"at least {self.accept_low:g}"
        return f"{self.accept_low:g} to {self.accept_high:g}"

    @property
    def interval(self) -> str:
        """The 95 % interval, empty where none is known."""
        return "" if isnan(self.ci_low) else f"{self.ci_low:.3f} to {self.ci_high:.3f}"


def _narrower(n: int, shrink: float) -> int:
    """The least number of values whose Student's interval of the mean is this many times as narrow as that of n values."""
    from scipy.stats import norm, t

    def width(m: int) -> float:
        return float(t.ppf(0.975, m - 1)) / sqrt(m)

    wanted = width(n) / shrink
    m = max(ceil((norm.ppf(0.975) / wanted) ** 2), n)  # the normal distribution has the narrower interval
    while width(m) > wanted:
        m += 1
    return m


def verdicts(results: pd.DataFrame) -> list[Verdict]:
    """The verdicts on the claims among the rows of results.csv, in order."""
    columns = ["target", "metric", "value", "n", "unit", "ci_low", "ci_high", "reported", "accept_low", "accept_high"]
    rows = results.assign(line=range(2, len(results) + 2)).reindex(columns=[*columns, "note", "line"])
    rows = rows[rows.target.notna()]
    numbers = [column for column in columns if column not in ("target", "metric", "unit")]
    words = rows[["unit", "note"]].astype(object).fillna("")
    rows = rows.astype(dict.fromkeys(numbers, float)).assign(unit=words.unit, note=words.note)
    return [Verdict(*row) for row in rows.itertuples(index=False)]


def judged(claims: Sequence[Claim], rows: pd.DataFrame) -> list[Verdict]:
    """The verdicts on claims that the rows of a run give."""
    table = pd.DataFrame([claim.row(rows) for claim in claims])
    return verdicts(table.assign(note=table.get("note", "")))


def by_claim(found: Iterable[Verdict]) -> dict[str, str]:
    """The word of each claim, which is as good as its worst part."""
    words: dict[str, str] = {}
    for verdict in found:
        words[verdict.target] = min(words.get(verdict.target, HOLDS), verdict.word, key=WORST_FIRST.index)
    return words


def summary(found: Iterable[Verdict]) -> str:
    """One line: which claims hold, are open, are missed or were not measured."""
    words = by_claim(found)
    groups = {word: [claim for claim in words if words[claim] == word] for word in reversed(WORST_FIRST)}
    return "; ".join(f"{word}: {', '.join(ids)}" for word, ids in groups.items() if ids) or "no claims"
