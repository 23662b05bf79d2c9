"""The answer of a run in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from advbench.report.answer import answer
from advbench.report.source import cell, read_run
from advbench.report.verdicts import verdicts

_COLUMNS = 7  # of a table, the page has the rest
_STYLE = {"holds": "green", "missed": "red", "not measured": "dim", "other data": "dim"}


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
            columns = exhibit["table"]["columns"][:_COLUMNS]
            table = Table(*(str(column).replace("_", " ") for column in columns), title=escape(exhibit["title"]))
            for row in exhibit["table"]["data"]:
                table.add_row(*(escape(cell(value)) for value in row[:_COLUMNS]))
            console.print(table)
    console.print(f"page: {directory / 'report.html'}", soft_wrap=True)
