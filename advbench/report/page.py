"""``report.html``: one self-contained page that opens from disk, made from a run directory alone."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from advbench.files import write_text
from advbench.report.answer import answer, other_data
from advbench.report.source import cell, formatted, read_run, with_intervals
from advbench.study.claims import by_claim, verdicts

_ROWS = 5000  # of a table: 300,000 rows of results.csv would be a page of 73 MB
_SCRIPTS = ("charts.js", "tables.js", "explorer.js", "links.js")


def write_report(directory: Path) -> Path:
    """Write report.html into a run directory and return its path.

    :raises UsageError: if it is not a run directory.
    """
    run = read_run(directory)
    found = verdicts(run["results"])
    path = directory / "report.html"
    page = render(
        "report.html",
        data={"specs": run.pop("specs"), "explorer": run["explorer"]},
        **run,
        rows=_rows(run["results"]),
        verdicts=found,
        words=by_claim(found),
        numbers=formatted(["ours", "report"], [[v.value, v.reported] for v in found])[1],
        answer=answer(run, found),
        other_data=other_data(run),
        shows={claim: e for e in reversed(run["exhibits"]) for claim in e.get("claims", ())},
    )
    write_text(path, page)
    return path


def render(template: str, data: dict[str, Any], **context: Any) -> str:
    """A template of the folder ``web`` as one page that asks no host for anything.

    :param data: of the scripts; ``specs`` are Vega-Lite specifications by name.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("advbench.report", "web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    environment.globals |= {"formatted": formatted, "with_intervals": with_intervals}
    environment.globals["most_rows"] = _ROWS
    scripts = [_unbreakable(code) for code in ([_vega()] if data["specs"] else [])]
    scripts += [_unbreakable(_file(name)) for name in _SCRIPTS]
    return environment.get_template(template).render(
        style=Markup(_file("page.css")),  # noqa: S704 our own file
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
        data=Markup(json.dumps(data).replace("<", "\\u003c")),  # noqa: S704 no tag can begin in it
        **context,
    )


def _rows(results: Any) -> Any:
    """The rows of results.csv as a table, its empty columns and those that are the same in every run left out."""
    table = results.dropna(axis=1, how="all").drop(columns=["recipe", "dataset", "seed", "note"], errors="ignore")
    return json.loads(table.to_json(orient="split", index=False, double_precision=6))


def _vega() -> str:
    from vl_convert import javascript_bundle

    return javascript_bundle(None)  # type: ignore[arg-type]  # the stub forgets that None is the whole of vega-embed


def _file(name: str) -> str:
    return (files("advbench.report") / "web" / name).read_text()


def _unbreakable(code: str) -> Markup:
    """JavaScript that cannot end the script element it stands in; outside of strings the sequence does not occur."""
    return Markup(re.sub(r"</(?=script)", r"<\\/", code, flags=re.IGNORECASE))  # noqa: S704 our own files


def _hash(script: str) -> str:
    """The source expression by which the page allows this script and no other."""
    return "sha256-" + b64encode(hashlib.sha256(script.encode()).digest()).decode()
