"""Figures and tables of a run for a paper: vector or pixel charts, and every table as CSV, Markdown and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any

import pandas as pd

from advbench.errors import UsageError
from advbench.files import write
from advbench.report.source import read_run
from advbench.report.tables import claims_table, latex, markdown
from advbench.study.claims import verdicts

FORMATS = ("svg", "pdf", "png")
_PIXELS = 3.0  # of a PNG for each point of the chart


def write_figures(directory: Path, out: Path, form: str = "svg") -> list[Path]:
    """Write each chart of a run in one format, and each table as CSV (all digits), Markdown and LaTeX (as on the page).

    :returns: the written paths.
    :raises UsageError: if it is not a run directory or the format is not one of svg, pdf and png.
    """
    if form not in FORMATS:
        raise UsageError(f"no format {form!r}; choose one of {', '.join(FORMATS)}")
    run = read_run(directory)
    contents = {f"{name}.{form}": _drawn(spec, form) for name, spec in run["specs"].items()}
    for name, table in _tables(run):
        contents[f"{name}.csv"] = table.to_csv(index=False).encode()
        contents[f"{name}.md"] = markdown(table).encode()
        contents[f"{name}.tex"] = latex(table).encode()
    for name, content in contents.items():
        write(out / name, methodcaller("write", content))
    return [out / name for name in contents]


def _drawn(spec: dict[str, Any], form: str) -> bytes:
    import vl_convert

    text = json.dumps(spec)
    if form == "svg":
        return vl_convert.vegalite_to_svg(text).encode()
    return vl_convert.vegalite_to_pdf(text) if form == "pdf" else vl_convert.vegalite_to_png(text, scale=_PIXELS)


def _tables(run: dict[str, Any]) -> Iterator[tuple[str, pd.DataFrame]]:
    found = verdicts(run["results"])
    if found:
        yield "claims", claims_table(found)
    for exhibit in run["exhibits"]:
        if "table" in exhibit:
            yield exhibit["name"], pd.DataFrame(exhibit["table"]["data"], columns=exhibit["table"]["columns"])
