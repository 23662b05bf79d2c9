"""``report.html``: one self-contained page that opens from disk, made from a run directory alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from advbench.errors import UsageError
from advbench.report.verdicts import summary, verdicts
from advbench.runs import stage_seconds, write_text


def read_run(directory: Path) -> dict[str, Any]:
    """What a run directory says of itself: config, environment, results, exhibits, stages.

    :raises UsageError: if it is not a run directory, or nothing in it is finished yet.
    """
    if not (directory / "config.json").is_file():
        raise UsageError(f"{directory} is not a run directory (no config.json)")
    if not (directory / "results.csv").is_file():
        raise UsageError(f"{directory} has no results yet; run the same recipe command again to go on")
    try:
        exhibits = directory / "exhibits.json"
        return {
            "config": json.loads((directory / "config.json").read_text()),
            "environment": json.loads((directory / "environment.json").read_text()),
            "results": pd.read_csv(directory / "results.csv"),
            "exhibits": json.loads(exhibits.read_text()) if exhibits.is_file() else [],
            "seconds": stage_seconds(directory),
        }
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{directory} cannot be read as a run: {(str(error).splitlines() or ['damaged'])[0]}"
        ) from error


def write_report(directory: Path) -> Path:
    """Write report.html into a run directory and return its path.

    :raises UsageError: if it is not a run directory.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from vl_convert import javascript_bundle

    run = read_run(directory)
    found = verdicts(run["results"])
    specs = {
        exhibit["name"]: json.loads((directory / exhibit["chart"]).read_text())
        for exhibit in run["exhibits"]
        if "chart" in exhibit
    }
    bundle = javascript_bundle(None)  # type: ignore[arg-type]  # the stub forgets that None is the whole of vega-embed
    environment = Environment(loader=PackageLoader("advbench.report", "."), autoescape=True, undefined=StrictUndefined)
    environment.filters["cell"] = cell
    page = environment.get_template("page.html").render(
        **run,
        verdicts=found,
        summary=summary(found),
        command=command_of(run["config"]),
        vega=_library(bundle),
        specs=_json(specs),
    )
    path = directory / "report.html"
    write_text(path, page)
    return path


def command_of(config: dict[str, Any]) -> str:
    """The command that computes the run again."""
    command = f"advbench recipe {config['recipe']} --preset {config['preset']} --dataset {config['dataset']} --seed {config['seed']}"
    return command + "".join(f" --set {setting}" for setting in config["settings"])


def _library(code: str) -> Markup:
    """JavaScript that cannot end the script element it stands in; outside of strings the sequence does not occur."""
    return Markup(re.sub(r"</(?=script)", r"<\\/", code, flags=re.IGNORECASE))


def _json(value: Any) -> Markup:
    """JSON that may stand in a script element, whatever names it holds."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))


def cell(value: Any) -> str:
    """A table cell: three decimals for a fraction, nothing for a missing value."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.3f}"
    return f"{value:g}" if isinstance(value, float) else str(value)
