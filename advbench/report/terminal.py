"""The answer of a run in the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advbench.errors import printable
from advbench.report.answer import answer, other_data
from advbench.report.comparison import compare, labels
from advbench.report.source import cell, formatted, read_run, with_intervals
from advbench.study.claims import NOT_MEASURED, Verdict, by_claim, verdicts

_DIFFERENCES = 25  # the page has all
_COLUMNS, _ROWS = 7, 24  # of a table, the page has the rest
_SCREEN = 10  # rows of the one table that is on the first screen
_STYLE = {"holds": "green", "open": "yellow", "missed": "red", "not measured": "default"}


class _PlainConsole(Console):
    """Shows text as text, whoever wrote it: no markup, no emoji codes, no control characters."""

    def on_broken_pipe(self) -> None:
        raise

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


def show(directory: Path, out: TextIO | None = None, whole: bool = True) -> None:
    """Print the result of a run: the answer, the report's claims with verdicts, and each exhibit's table.

    :param out: in place of standard output.
    :param whole: or else one screen: the answer, the claims or the first table, and where the page lies.
    :raises UsageError: if it is not a run directory.
    """
    run = read_run(directory)
    config, console, about = run["config"], _PlainConsole(file=out), run["about"]
    found = verdicts(run["results"])
    made = f"; made {run['environment']['made']}" if run["environment"].get("made") else ""
    rest = f", preset {config['preset']}, {config['dataset']}, seed {config['seed']}{made}"
    console.print(_line((config["recipe"], "bold"), (rest, "")))
    if about["report"]:
        console.print(f"It judges the claims of {about['report']}, {about['report_title']}.")
    if about["question"]:
        console.print(_line((about["question"], "italic")))
    console.print()
    for finding in answer(run, found):
        console.print(finding.text)
    if about["pretrained"]:
        console.print(about["pretrained"])
    for other in other_data(run):
        console.print(other, style="red")
    console.print()
    _print_claims(console, run, found)
    tables = [exhibit for exhibit in run["exhibits"] if "table" in exhibit]
    if whole and found:
        console.print(_table(_claims(found), styles=[_STYLE[verdict.word] for verdict in found]))
    for exhibit in tables if whole else tables[: not found]:
        console.print(_exhibit(exhibit, _ROWS if whole else _SCREEN))
    console.print(f"page: {directory / 'report.html'}", soft_wrap=True)
    if not whole:
        console.print(f"all tables: {shlex.join(['advbench', 'show', str(directory)])}", soft_wrap=True)


def summary(directory: Path) -> dict[str, Any]:
    """The answer of a run as one JSON-serialisable object, without its rows.

    :raises UsageError: if it is not a run directory.
    """
    run = read_run(directory)
    found, config = verdicts(run["results"]), run["config"]
    return {
        **{key: config[key] for key in ("recipe", "preset", "dataset", "seed", "note")},
        "made": run["environment"].get("made", ""),
        "report": run["about"]["report"],
        "question": run["about"]["question"],
        "answer": [finding.text for finding in answer(run, found)],
        "claims": by_claim(found),
        "directory": str(directory),
        "page": str(directory / "report.html"),
    }


def _print_claims(console: Console, run: dict[str, Any], found: Sequence[Verdict]) -> None:
    """A line a claim, those that were not measured in one."""
    words = by_claim(found)
    for claim, word in words.items():
        if word != NOT_MEASURED:
            console.print(_line((f"{claim} ", "bold"), (f"{word} ", _STYLE[word]), (run["claims"].get(claim, ""), "")))
    if missing := [claim for claim, word in words.items() if word == NOT_MEASURED]:
        console.print(f"Claims {NOT_MEASURED}: {', '.join(missing)}.")


def _exhibit(exhibit: dict[str, Any], rows: int) -> Table:
    columns, data = with_intervals(exhibit["table"]["columns"], exhibit["table"]["data"])
    whole = pd.DataFrame(data, columns=columns, dtype=object)
    table = _table(whole.iloc[:rows, :_COLUMNS], exhibit["title"])
    if len(whole) > rows:
        table.caption = f"{rows} of {len(whole)} rows; the page has all"
    return table


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
    numeric, cells = formatted(list(rows.columns), rows.values.tolist())
    for column, is_number in zip(rows.columns, numeric, strict=True):
        name = str(column).replace("_", " ")
        table.add_column(
            name, overflow="fold", justify="right" if is_number else "left"
        )  # half a name may be another's
    for i, row in enumerate(cells):
        table.add_row(*row, style=styles[i] if styles else None)
    return table
