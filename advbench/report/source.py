"""What a run directory says of itself."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pandas as pd

from advbench.errors import UsageError
from advbench.report import explorer
from advbench.runs import stage_seconds


def read_run(directory: Path) -> dict[str, Any]:
    """Config, environment, question, command, results, exhibits, chart specifications, explorer and stages of a run.

    :raises UsageError: if it is not a run directory, or nothing in it is finished yet.
    """
    if not (directory / "config.json").is_file():
        raise UsageError(f"{directory} is not a run directory (no config.json)")
    if not (directory / "results.csv").is_file():
        raise UsageError(f"{directory} has no results yet; run the same recipe command again to go on")
    try:
        exhibits = _json(directory / "exhibits.json", [])
        config, about = _json(directory / "config.json"), _json(directory / "about.json", {})
        return {
            "config": config,
            "environment": _json(directory / "environment.json"),
            "question": about.get("question", ""),
            "command": config.get("command") or _command(config, about),
            "results": pd.read_csv(directory / "results.csv"),
            "exhibits": exhibits,
            "specs": {e["name"]: _json(directory / e["chart"]) for e in exhibits if "chart" in e},
            "explorer": explorer.read(directory),
            "seconds": stage_seconds(directory),
        }
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{directory} cannot be read as a run: {(str(error).splitlines() or ['damaged'])[0]}"
        ) from error


def cell(value: Any) -> str:
    """A table cell: three decimals for a fraction, nothing for a missing value."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.3f}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _json(path: Path, otherwise: Any = None) -> Any:
    if otherwise is not None and not path.is_file():
        return otherwise
    return json.loads(path.read_text())


def _command(config: dict[str, Any], about: dict[str, Any]) -> str:
    """The command that computes the run again."""
    name = about.get("asked_for", config["recipe"])
    command = f"advbench recipe {shlex.quote(name)} --preset {config['preset']} --dataset {config['dataset']}"
    if about.get("data_dir"):
        command += f" --data-dir {shlex.quote(about['data_dir'])}"
    settings = "".join(f" --set {shlex.quote(setting)}" for setting in config["settings"])
    return f"{command} --seed {config['seed']}{settings}"
