"""The answer of a run in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advbench.errors import printable
from advbench.report.answer import answer
from advbench.report.comparison import compare, labels
from advbench.report.source import cell, read_run
from advbench.study.claims import Verdict, by_claim, verdicts

_DIFFERENCES = 25  # the page has all
_COLUMNS, _ROWS = 7, 24  # of a table, the page has the rest
_STYLE = {"holds": "green", "open": "yellow", "missed": "red", "not measured": "default"}


class _PlainConsole(Console):
    """Shows text as text, whoever wrote it: no markup, no emoji codes, no control characters."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


def show_comparison(directories: Sequence[Path]) -> None:
    """Print the differences between runs: settings first, then the largest differences of figures.

    :raises UsageError: as ``compare`` does.
    """
    found, console = compare(directories), _PlainConsole()
    first, *others = found["runs"]
    console.print(f"{', '.join(others)} against {first}", style="bold")
    console.print(_table(found["config"], "Different settings"))
    figures = found["figures"].head(_DIFFERENCES)
    shown = pd.DataFrame(
        {
            "figure": labels(found["figures"])[:_DIFFERENCES],
            "first": figures["first"],
            "other": figures.other,
            "difference": figures.difference.map("{:+.3f}".format),
            "95 % interval": [f"{r.low:.3f} to {r.high:.3f}" if r.apart else "" for r in figures.itertuples()],
        }
    )
    console.print(_table(shown, styles=["bold" if apart == "yes" else "" for apart in figures.apart]))
    console.print(
        f"{found['apart']} of {len(found['figures'])} differences have an interval without zero (bold); "
        f"{found['unmatched']} figures are in one run alone"
    )


def show(directory: Path, out: TextIO | None = None) -> None:
    """Print the result of a run: the report's claims with verdicts, then each exhibit's table.

    :param out: in place of standard output.
    :raises UsageError: if it is not a run directory.
    """
    run = read_run(directory)
    config, console = run["config"], _PlainConsole(file=out)
    rest = f", preset {config['preset']}, {config['dataset']}, seed {config['seed']}"
    console.print(_line((config["recipe"], "bold"), (rest, "")))
    if config["note"]:
        console.print(f"Other data: {config['note']}", style="red")
    if run["pretrained"]:
        console.print(run["pretrained"])
    found = verdicts(run["results"])
    for sentence in [run["question"], *answer(config, found)]:
        console.print(sentence)
    if found:
        for claim, word in by_claim(found).items():
            console.print(_line((f"{claim} ", "bold"), (f"{word} ", _STYLE[word]), (run["claims"].get(claim, ""), "")))
        console.print(_table(_claims(found), styles=[_STYLE[verdict.word] for verdict in found]))
    for exhibit in run["exhibits"]:
        if "table" in exhibit:
            whole = pd.DataFrame(exhibit["table"]["data"], columns=exhibit["table"]["columns"], dtype=object)
            table = _table(whole.iloc[:_ROWS, :_COLUMNS], exhibit["title"])
            if len(whole) > _ROWS:
                table.caption = f"{_ROWS} of {len(whole)} rows; the page has all"
            console.print(table)
    console.print(f"page: {directory / 'report.html'}", soft_wrap=True)


def _claims(found: Sequence[Verdict]) -> pd.DataFrame:
    """The parts of the claims, narrow enough for a terminal; the page also has the accepted ranges."""
    ours = [cell(v.value) + (f" ({v.interval})" if v.interval else "") for v in found]
    columns = {"claim": [v.target for v in found], "measured": [v.metric for v in found], "ours (95 % interval)": ours}
    return pd.DataFrame({**columns, "report": [v.reported for v in found], "verdict": [v.word for v in found]})


def _line(*parts: tuple[str, str]) -> Text:
    """Texts with a style each."""
    return Text.assemble(*((printable(text), style) for text, style in parts))


def _table(rows: pd.DataFrame, title: str = "", styles: Sequence[str] = ()) -> Table:
    """A table for the terminal, with a style a row."""
    table = Table(title=title)
    for column in rows.columns:
        table.add_column(str(column).replace("_", " "), overflow="fold")  # half a name may be another's
    for i, row in enumerate(rows.map(cell).itertuples(index=False, name=None)):
        table.add_row(*row, style=styles[i] if styles else None)
    return table
