"""A run directory, read for its page: every reader of a finished run comes through here, for it may be someone else's."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from advbench.errors import UsageError
from advbench.files import check_tree, first_line
from advbench.report import explorer
from advbench.study.schema import About, Exhibit, Machine, Request, read, read_results
from advbench.study.stages import check, stage_seconds


def read_run(directory: Path) -> dict[str, Any]:
    """Config, environment, question, claims, command, results, exhibits, charts, explorer and stages of a run.

    ``claims`` are the sentences by the id of the claim, ``specs`` the Vega-Lite specifications by the name of the exhibit.

    :raises UsageError: if it is not a run directory, or nothing in it is finished yet.
    """
    if not (directory / "config.json").is_file():
        raise UsageError(f"{directory} is not a run directory (no config.json)")
    if not (directory / "results.csv").is_file():
        raise UsageError(f"{directory} has no results yet; run the same recipe command again to go on")
    check_tree(directory)
    check(directory)
    try:
        exhibits = read(directory / "exhibits.json", list[Exhibit]) if (directory / "exhibits.json").is_file() else []
        about = read(directory / "about.json", About) if (directory / "about.json").is_file() else {}
        config = read(directory / "config.json", Request)
        return {
            "config": config,
            "environment": read(directory / "environment.json", Machine),
            "question": about.get("question", ""),
            "pretrained": about.get("pretrained", ""),
            "claims": {claim["id"]: claim["says"] for claim in about.get("claims", [])},
            "command": config.get("command") or _command(config, about),
            "results": read_results(directory / "results.csv"),
            "exhibits": exhibits,
            "specs": {e["name"]: read(directory / e["chart"], dict[str, Any]) for e in exhibits if "chart" in e},
            "explorer": explorer.read(directory),
            "seconds": stage_seconds(directory),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{directory} cannot be read as a run: {first_line(error)}") from error


def cell(value: Any) -> str:
    """A table cell: three decimals for a fraction, three digits for a small one, nothing for a missing value."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.3g}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _command(config: dict[str, Any], about: dict[str, Any]) -> str:
    """The command that computes the run again."""
    name = about.get("command") or config["recipe"]
    words = ["advbench", "recipe", name, "--preset", config["preset"], "--dataset", config["dataset"]]
    if about.get("data_dir"):
        words += ["--data-dir", about["data_dir"]]
    settings = [word for setting in config["settings"] for word in ("--set", setting)]
    return shlex.join([*words, "--seed", str(config["seed"]), *settings])
