"""Figures and tables of a run for a paper: vector or pixel charts, and every table as CSV, Markdown and LaTeX."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any

import pandas as pd

from advbench.errors import UsageError, printable_json
from advbench.files import write
from advbench.report.source import read_run
from advbench.report.tables import claims_table, latex, markdown
from advbench.study.claims import verdicts

FORMATS = ("svg", "pdf", "png")
_RAISED = re.compile(r"^\w+: (.+)", re.MULTILINE | re.DOTALL)  # the end of a traceback
_ADDRESS = re.compile(r"""(?:href|src)=["'](?!data:|#)([^"']*)""")  # in an SVG
_DRAWINGS = {
    "svg": "vegalite_to_svg(text, allowed_base_urls=[])",
    "pdf": "svg_to_pdf(text)",
    "png": "svg_to_png(text, scale=3.0)",  # three pixels for each point of the chart
}
_PROGRAM = """
import sys
import vl_convert
text = sys.stdin.buffer.read().decode()
made = vl_convert.{}
sys.stdout.buffer.write(made if isinstance(made, bytes) else made.encode())
"""
_SECONDS = 120  # a chart of ours takes one or two
_ROOM = {"left": 20, "right": 30, "top": 5, "bottom": 5}  # a viewer's font may be wider than the one that was measured


def write_figures(directory: Path, out: Path, form: str = "svg") -> list[Path]:
    """Write each chart of a run in one format, and each table as CSV (all digits), Markdown and LaTeX (as on the page).

    :returns: the written paths.
    :raises UsageError: if it is not a run directory or the format is not one of svg, pdf and png.
    """
    if form not in FORMATS:
        raise UsageError(f"no format {form!r}; choose one of {', '.join(FORMATS)}")
    run = read_run(directory)
    contents = {f"{name}.{form}": drawn(name, spec, form) for name, spec in run["specs"].items()}
    for name, table in _tables(run):
        contents[f"{name}.csv"] = table.to_csv(index=False).encode()
        contents[f"{name}.md"] = markdown(table).encode()
        contents[f"{name}.tex"] = latex(table).encode()
    for name, content in contents.items():
        write(out / name, methodcaller("write", content))
    return [out / name for name in contents]


def drawn(name: str, spec: dict[str, Any], form: str) -> bytes:
    """A chart in one of the formats, from its own data alone: nothing is fetched, now or by whoever looks at it.

    :raises UsageError: if it cannot be drawn, or names data or images elsewhere; the line names it.
    """
    svg, address = b"", _data_elsewhere(spec)
    if address is None:
        roomy = {"padding": _ROOM, **spec} if form == "svg" else spec
        svg = _made(name, "svg", json.dumps(printable_json(roomy)).encode())
        address = next(iter(_ADDRESS.findall(svg.decode())), None)
    if address is not None:
        raise UsageError(f"the chart {name} names {address[:100]}; only a chart that holds all its data is drawn")
    return svg if form == "svg" else _made(name, form, svg)


def _made(name: str, form: str, text: bytes) -> bytes:
    """A chart, or its SVG in another format, made in a process of its own.

    A chart of someone else may ask for a sequence of 1e12 rows, and what draws it ends the process that has no more memory.
    """
    try:
        command = [sys.executable, "-P", "-c", _PROGRAM.format(_DRAWINGS[form])]
        done = subprocess.run(command, input=text, capture_output=True, timeout=_SECONDS)  # noqa: S603 words of our own
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"the chart {name} cannot be drawn in {_SECONDS} seconds") from error
    if done.returncode:
        found = _RAISED.search(done.stderr.decode(errors="replace"))
        reason = " ".join(found[1].split())[:200] if found else "there is not enough memory for it"
        raise UsageError(f"the chart {name} cannot be drawn: {reason}")
    return done.stdout


def _data_elsewhere(part: Any) -> str | None:
    """The first address of data in a specification."""
    inside = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in inside:
        if key == "url" and isinstance(value, str) and not value.startswith("data:"):
            return value
        if key not in ("values", "datasets") and (found := _data_elsewhere(value)) is not None:
            return found
    return None


def _tables(run: dict[str, Any]) -> Iterator[tuple[str, pd.DataFrame]]:
    found = verdicts(run["results"])
    if found:
        yield "claims", claims_table(found)
    for exhibit in run["exhibits"]:
        if "table" in exhibit:
            yield exhibit["name"], pd.DataFrame(exhibit["table"]["data"], columns=exhibit["table"]["columns"])
