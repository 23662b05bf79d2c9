"""A run as a folder for the documentation: results.csv, charts as SVG, other tables as CSV and a short Markdown page."""

from __future__ import annotations

from operator import methodcaller
from pathlib import Path
from typing import Any

import pandas as pd

from advbench.files import read_bytes, write, write_text
from advbench.report.answer import answer, other_data
from advbench.report.paper import drawn
from advbench.report.source import cell, read_run
from advbench.report.tables import claims_table, markdown
from advbench.study.claims import Finding, summary, verdicts

NOTES = "<!-- below this line the page is written by hand and kept -->"


def write_docs(directory: Path, out: Path) -> Path:
    """Write results.csv, exhibits and README.md of a run to a folder; the text below its notes line stays.

    :raises UsageError: if it is not a run directory.
    """
    run = read_run(directory)
    out.mkdir(parents=True, exist_ok=True)
    write(out / "results.csv", methodcaller("write", read_bytes(directory / "results.csv")))
    for exhibit in run["exhibits"]:
        if "chart" in exhibit:
            name = exhibit["name"]
            picture = drawn(name, run["specs"][name], "svg")
            write(out / f"{name}.svg", methodcaller("write", picture))
        else:
            table = pd.DataFrame(exhibit["table"]["data"], columns=exhibit["table"]["columns"], dtype=object)
            write_text(out / f"{exhibit['name']}.csv", table.map(cell).to_csv(index=False))
    page = out / "README.md"
    notes = page.read_text().partition(NOTES)[2] if page.is_file() else "\n"
    write_text(page, "\n".join([*_head(run), claims(run["results"]), *_exhibits(run), NOTES]) + notes)
    return page


def claims(results: pd.DataFrame) -> str:
    """The report's claims with our numbers, as a Markdown table; empty for a study without claims."""
    found = verdicts(results)
    return markdown(claims_table(found)) if found else ""


def _head(run: dict[str, Any]) -> list[str]:
    config, machine = run["config"], run["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    minutes, found = sum(run["seconds"].values()) / 60, verdicts(run["results"])
    reason = f" ({found[0].note})" if found and found[0].note and not config["note"] else ""
    theirs = "the report's" if run["about"]["report"] else "its"
    claimed = f"Of {theirs} claims: {summary(found)}{reason}. " if found else ""
    made = f" on {machine['made']}" if machine.get("made") else ""
    return [
        f"# {config['recipe']}: preset {config['preset']} on {config['dataset']}, seed {config['seed']}",
        "",
        *([run["about"]["question"], ""] if run["about"]["question"] else []),
        *(f"- {_linked(finding)}" for finding in answer(run, found)),
        "",
        *(line for other in other_data(run) for line in (f"**{other}**", "")),
        f"`{run['command']}`",
        "",
        f"Ran{made} on {machine['device']}: {machine['processor']}, {machine['cores']} cores, {machine['system']}; "
        f"{minutes:.0f} minutes of work, peak memory {machine['peak memory']}. Python {machine['python']}, {versions}; commit {machine['commit']}.",
        "",
        f"{claimed}Every number is a row of [results.csv](results.csv).",
        "",
    ]


def _linked(finding: Finding) -> str:
    """A sentence with a link to its row."""
    return finding.text + (f" ([row {finding.line}](results.csv#L{finding.line}))" if finding.line else "")


def _exhibits(run: dict[str, Any]) -> list[str]:
    charts = [f"![{exhibit['title']}]({exhibit['name']}.svg)" for exhibit in run["exhibits"] if "chart" in exhibit]
    tables = [f"[{exhibit['title']}]({exhibit['name']}.csv)" for exhibit in run["exhibits"] if "chart" not in exhibit]
    return [*charts, *(["", f"Tables: {'; '.join(tables)}."] if tables else []), ""]
