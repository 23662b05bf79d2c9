"""The answer of a run in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from advbench.report.answer import answer
from advbench.report.comparison import compare, label
from advbench.report.source import cell, read_run
from advbench.study.claims import verdicts

_DIFFERENCES = 25  # the page has all
_COLUMNS, _ROWS = 7, 24  # of a table, the page has the rest
_STYLE = {"holds": "green", "missed": "red", "not measured": "dim", "other data": "dim"}


def show_comparison(directories: Sequence[Path]) -> None:
    """Print what differs between runs: settings first, then the largest differences.

    :raises UsageError: as ``compare`` does.
    """
    found, console = compare(directories), Console()
    first, *others = (escape(name) for name in found["runs"])
    console.print(f"[bold]{', '.join(others)}[/] against [bold]{first}[/]")
    table = Table(*(escape(column) for column in found["config"].columns), title="What was asked differently")
    for row in found["config"].itertuples(index=False):
        table.add_row(*(escape(value) for value in row))
    console.print(table)
    table = Table("figure", "first", "other", "difference", "95 % interval")
    for row in found["figures"].head(_DIFFERENCES).to_dict("records"):
        interval = f"{row['low']:.3f} to {row['high']:.3f}" if row["apart"] else ""
        numbers = (cell(row["first"]), cell(row["other"]), f"{row['difference']:+.3f}", interval)
        table.add_row(escape(label(row, found["figures"])), *numbers, style="bold" if row["apart"] == "yes" else "")
    console.print(table)
    console.print(
        f"{found['apart']} of {len(found['figures'])} differences have an interval without zero (bold); "
        f"{found['unmatched']} figures are in one run alone"
    )


def show(directory: Path) -> None:
    """Print what a run found: the report's claims with verdicts, then each exhibit's table.

    :raises UsageError: if it is not a run directory.
    """
    run = read_run(directory)
    config, console = run["config"], Console()
    console.print(
        f"[bold]{escape(config['recipe'])}[/], preset {config['preset']}, {config['dataset']}, seed {config['seed']}"
    )
    if config["note"]:
        console.print(f"[red]Other data: {escape(config['note'])}[/]")
    found = verdicts(run["results"])
    for sentence in [run["question"], *answer(config, found)]:
        console.print(escape(sentence))
    if found:
        table = Table("target", "measured", "ours", "report", "accepted", "verdict")
        for v in found:
            style = _STYLE[v.word]
            table.add_row(
                v.target, escape(v.metric), cell(v.value), cell(v.reported), v.accepted, f"[{style}]{v.word}[/]"
            )
        console.print(table)
    for exhibit in run["exhibits"]:
        if "table" in exhibit:
            rows, table = exhibit["table"]["data"], Table(title=escape(exhibit["title"]))
            for column in exhibit["table"]["columns"][:_COLUMNS]:
                table.add_column(escape(str(column).replace("_", " ")), overflow="fold")  # half a name may be another's
            for row in rows[:_ROWS]:
                table.add_row(*(escape(cell(value)) for value in row[:_COLUMNS]))
            if len(rows) > _ROWS:
                table.caption = f"{_ROWS} of {len(rows)} rows; the page has all"
            console.print(table)
    console.print(f"page: {directory / 'report.html'}", soft_wrap=True)
