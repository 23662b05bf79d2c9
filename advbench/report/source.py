"""A run directory, read for its page: every reader of a finished run comes through here, for it may be someone else's."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from math import floor, isfinite, log10
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from advbench.errors import UsageError
from advbench.files import check_tree, first_line
from advbench.report import explorer
from advbench.study.config import number
from advbench.study.schema import About, Exhibit, Machine, Request, read, read_results
from advbench.study.stages import check, stage_seconds

BOUNDS = ("eps", "fit_eps")
"""The columns of results.csv that hold the bound of an attack."""

_EXHIBITS = Annotated[list[Exhibit], Field(max_length=500)]  # of someone else, who may have made more than can be shown
_LONGEST = 2000  # characters of a cell


def read_run(directory: Path) -> dict[str, Any]:
    """Config, environment, what about.json says, claims, command, results, exhibits, charts, explorer and stages of a run.

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
        exhibits = read(directory / "exhibits.json", _EXHIBITS) if (directory / "exhibits.json").is_file() else []
        about = read(directory / "about.json", About) if (directory / "about.json").is_file() else {}
        about = {**About().model_dump(), **about}
        config = read(directory / "config.json", Request)
        return {
            "config": config,
            "environment": read(directory / "environment.json", Machine),
            "about": about,
            "claims": {claim["id"]: claim["says"] for claim in about["claims"]},
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
    return f"{value:g}" if isinstance(value, float) else str(value)[:_LONGEST]


def _is_number(value: Any) -> bool:
    """Whether a cell is a number that a float can hold."""
    is_known = isinstance(value, int | float) and not isinstance(value, bool)
    return is_known and (isinstance(value, float) or abs(value) < sys.float_info.max)


def with_intervals(columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> tuple[list[Any], list[list[Any]]]:
    """The columns ``ci_low`` and ``ci_high`` of a table as one, in words."""
    if not {"ci_low", "ci_high"} <= set(columns):
        return list(columns), [list(row) for row in rows]
    low, high = columns.index("ci_low"), columns.index("ci_high")
    others = [i for i in range(len(columns)) if i not in (low, high)]
    place = sum(i < low for i in others)

    def joined(row: Sequence[Any], interval: str) -> list[Any]:
        kept = [row[i] for i in others]
        return [*kept[:place], interval, *kept[place:]]

    def text(row: Sequence[Any]) -> str:
        if not _is_number(row[low]) or row[low] != row[low]:
            return ""
        end = f"{row[high]:.3f}" if _is_number(row[high]) else "infinity"  # JSON has no infinity
        return f"{row[low]:.3f} to {end}"

    texts = [text(row) for row in rows]
    return joined(columns, "95 % interval"), [joined(row, text) for row, text in zip(rows, texts, strict=True)]


def formatted(columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> tuple[list[bool], list[list[str]]]:
    """Whether each column holds numbers, and the cells as text: the numbers of a column with one number of digits.

    Bounds in [0, 1) are written as fractions of 255.
    """
    texts, numeric = [], []
    for name, values in zip(columns, zip(*rows, strict=True) if rows else [()] * len(columns), strict=True):
        present = [value for value in values if value is not None and value == value and value != ""]
        numbers = [value for value in present if _is_number(value)]
        numeric.append(len(numbers) == len(present) > 0)
        if str(name) in BOUNDS and numeric[-1]:
            texts.append([number(float(value)) if value in present else "" for value in values])
        elif numeric[-1]:
            decimals = _decimals(numbers)
            texts.append([f"{value:,.{decimals}f}" if value in present else "" for value in values])
        else:
            texts.append([cell(value) for value in values])
    return numeric, [list(row) for row in zip(*texts, strict=True)]


def _decimals(numbers: Sequence[float]) -> int:
    """None for whole numbers; else three, more where a number would read as zero."""
    if all(float(value).is_integer() for value in numbers):
        return 0
    least = min(abs(value) for value in numbers if value and isfinite(value))
    return min(max(3, -floor(log10(least))), 6) if max(map(abs, numbers)) < 1e4 else 1


def _command(config: dict[str, Any], about: dict[str, Any]) -> str:
    """The command that computes the run again."""
    name = about.get("command") or config["recipe"]
    words = ["advbench", "recipe", name, "--preset", config["preset"], "--dataset", config["dataset"]]
    if about.get("data_dir"):
        words += ["--data-dir", about["data_dir"]]
    settings = [word for setting in config["settings"] for word in ("--set", setting)]
    return shlex.join([*words, "--seed", str(config["seed"]), *settings])
