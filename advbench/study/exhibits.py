"""The exhibits of a study: functions from result rows to a chart, a table or both."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Shown:
    """What an exhibit shows.

    :param chart: an Altair chart.
    :param note: what the caption says beyond the docstring, in front of it.
    :param part: what tells several exhibits of one function apart, in their names.
    :param title: in place of the exhibit's.
    """

    chart: Any = None
    table: pd.DataFrame | None = None
    note: str = ""
    part: str = ""
    title: str = ""


Drawn = Shown | Iterable[Shown] | None


@dataclass(frozen=True)
class Exhibit:
    """A function of result rows and materials whose docstring is the caption.

    :param claims: the ids of the claims that it shows.
    """

    name: str
    title: str
    caption: str
    claims: Sequence[str]
    draw: Callable[[pd.DataFrame, Any], Drawn]

    def shown(self, rows: pd.DataFrame, made: Any) -> list[Shown]:
        """All that the function shows of these rows; nothing where it returns None, or a table without rows."""
        drawn = self.draw(rows, made)
        found = [drawn] if isinstance(drawn, Shown) else list(drawn or ())
        return [shown for shown in found if shown.table is None or len(shown.table)]


def exhibit(title: str, *claims: str) -> Callable[[Callable[[pd.DataFrame, Any], Drawn]], Exhibit]:
    """Decorate a function that draws an exhibit.

    :param title: above it on the page.
    :param claims: the ids of the claims that it shows.
    """

    def declare(draw: Callable[[pd.DataFrame, Any], Drawn]) -> Exhibit:
        caption = " ".join((inspect.getdoc(draw) or "").split())
        return Exhibit(draw.__name__.replace("_", "-"), title, caption, claims, draw)

    return declare
