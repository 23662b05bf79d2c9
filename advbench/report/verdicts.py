"""Our numbers beside the report's: which of its claims hold."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

import pandas as pd


@dataclass(frozen=True)
class Verdict:
    """One target of the report, with what was measured; numbers are NaN where there is none."""

    target: str
    metric: str
    value: float
    ci_low: float
    ci_high: float
    reported: float
    accept_low: float
    accept_high: float

    @property
    def word(self) -> str:
        """``holds``, ``missed`` or ``not measured``."""
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
    return [Verdict(*row) for row in results.loc[results.target.notna(), columns].itertuples(index=False)]


def summary(found: list[Verdict]) -> str:
    """One sentence: how many targets hold, which are missed, which were not measured."""
    by_word: dict[str, list[str]] = {"holds": [], "missed": [], "not measured": []}
    for target in dict.fromkeys(verdict.target for verdict in found):
        words = {verdict.word for verdict in found if verdict.target == target}
        by_word["not measured" if "not measured" in words else "missed" if "missed" in words else "holds"].append(
            target
        )
    parts = [f"{word}: {', '.join(ids)}" for word, ids in by_word.items() if ids]
    return "; ".join(parts) or "no targets"
