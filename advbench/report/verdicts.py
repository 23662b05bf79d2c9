"""Our numbers beside the report's: which of its claims hold."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

import pandas as pd

_WORST_FIRST = ("other data", "not measured", "missed", "holds")


@dataclass(frozen=True)
class Verdict:
    """One target of the report, with what was measured; numbers are NaN where there is none.

    :param line: its line in results.csv, whose first line is the header.
    """

    target: str
    metric: str
    value: float
    ci_low: float
    ci_high: float
    reported: float
    accept_low: float
    accept_high: float
    note: str
    line: int

    @property
    def word(self) -> str:
        """``holds``, ``missed``, ``not measured``, or ``other data`` where the run was not on the report's."""
        if self.note:
            return "other data"
        if isnan(self.value):
            return "not measured"
        return "missed" if self.value < self.accept_low or self.value > self.accept_high else "holds"

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


def verdicts(results: pd.DataFrame) -> list[Verdict]:
    """The targets among the rows of results.csv, in order."""
    columns = ["target", "metric", "value", "ci_low", "ci_high", "reported", "accept_low", "accept_high"]
    rows = results[results.target.notna()]
    rows = rows.astype({column: float for column in columns[2:]}).assign(
        note=["" if note != note else str(note) for note in rows.note], line=rows.index + 2
    )
    return [Verdict(*row) for row in rows[[*columns, "note", "line"]].itertuples(index=False)]


def by_target(found: list[Verdict]) -> dict[str, str]:
    """The word of each target, which is as good as its worst part."""
    words: dict[str, str] = {}
    for verdict in found:
        words[verdict.target] = min(words.get(verdict.target, "holds"), verdict.word, key=_WORST_FIRST.index)
    return words


def summary(found: list[Verdict]) -> str:
    """One sentence: which targets hold, are missed or were not measured."""
    words = by_target(found)
    groups = {word: [target for target in words if words[target] == word] for word in reversed(_WORST_FIRST)}
    return "; ".join(f"{word}: {', '.join(ids)}" for word, ids in groups.items() if ids) or "no targets"
