"""Several runs side by side: differences of the same figures with their intervals, and the settings that differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from advbench.errors import UsageError
from advbench.files import write_text
from advbench.metrics import COLUMNS, Figure, difference
from advbench.report.charts import differences
from advbench.report.page import render
from advbench.report.source import BOUNDS, cell, read_run
from advbench.study.config import number

_FIGURE = ("value", "n", "ci_low", "ci_high")
_IDENTITY = [
    column
    for column in COLUMNS
    if column not in {*_FIGURE, "unit", "reported", "accept_low", "accept_high", "note", "recipe", "dataset", "seed"}
]
"""The columns that tell which figure a row is."""

_DIFFERENCE = ("metric", "first", "other", "difference", "low", "high", "apart")
_NAMES = ("run", "target", "exhibit", "model", "defence", "detector", "variant", "library")
_WORDS = {"fit_attack": "fitted on", "fit_eps": "eps", "attack": "against", "source": "made on"}
_DRAWN = 25


def compare(directories: Sequence[Path]) -> dict[str, Any]:
    """The differences between the first run and each of the others.

    A difference has the interval of :func:`advbench.metrics.difference`, which takes the two figures as independent. A
    figure without an interval has a difference without.

    :returns: ``runs``, their names; ``config``, one row a setting that is not the same in all; ``figures``, one row a
        figure and later run, first those whose interval leaves out zero (``apart`` is yes), then the largest; ``apart``,
        how many these are; ``unmatched``, how many figures only one of two runs has.
    :raises UsageError: for fewer than two runs, one twice, or a directory that is none.
    """
    if len(directories) < 2:
        raise UsageError("compare takes two runs or more")
    if len({directory.resolve() for directory in directories}) < len(directories):
        raise UsageError("compare was given the same run twice")
    runs = [read_run(directory) for directory in directories]
    names = [directory.resolve().name for directory in directories]
    if len(set(names)) < len(names):
        names = [str(directory) for directory in directories]
    first, *others = (_numbered(run["results"]) for run in runs)
    matched = [
        first.merge(other, on="_key", suffixes=("", "_other")).assign(run=n) for n, other in zip(names[1:], others)
    ]
    rows = [_difference(row) for table in matched for row in table.to_dict("records")]
    figures = pd.DataFrame(rows, columns=["run", *_IDENTITY, *_DIFFERENCE[1:]])
    order = figures.assign(size=figures.difference.abs()).sort_values(["apart", "size"], ascending=False, kind="stable")
    return {
        "runs": names,
        "config": _different_settings(names, runs),
        "figures": figures.loc[order.index].reset_index(drop=True),
        "apart": int((figures.apart == "yes").sum()),
        "unmatched": sum(len(first) + len(other) for other in others) - 2 * len(figures),
    }


def write_comparison(directories: Sequence[Path], out: Path) -> Path:
    """Write the comparison of runs as one self-contained page.

    :raises UsageError: as ``compare`` does.
    """
    found = compare(directories)
    figures = found["figures"]
    further = [column for column in _varying(figures) if column not in _DIFFERENCE]
    table = figures[[*_DIFFERENCE, *further]].assign(metric=labels(figures)).rename(columns={"metric": "figure"})
    drawn = table[table.apart != ""].head(_DRAWN)
    tables = {"config": found["config"], "figures": table}
    context = {key: json.loads(table.to_json(orient="split", index=False)) for key, table in tables.items()}
    specs = {"differences": differences(drawn).to_dict()} if len(drawn) else {}
    path = out / "compare.html" if out.is_dir() else out
    write_text(path, render("compare.html", data={"specs": specs}, drawn=len(drawn), **{**found, **context}))
    return path


def labels(figures: pd.DataFrame) -> list[str]:
    """One line for each row that tells its figure from the others: the metric, and the columns that vary."""
    columns = [column for column in _varying(figures) if column in {"run", "seed", *_IDENTITY} - {"metric"}]
    return [f"{row['metric']}: {', '.join(_named(row, columns))}" for row in figures.to_dict("records")]


def _named(row: dict[str, Any], columns: Sequence[str]) -> list[str]:
    texts = {column: _text(column, row[column]) for column in columns}
    words = {column: "" if column in _NAMES else _WORDS.get(column, column.replace("_", " ")) for column in columns}
    return [f"{words[column]} {text}".strip() for column, text in texts.items() if text]


def _text(column: str, value: Any) -> str:
    return number(float(value)) if column in BOUNDS and value == value else cell(value)


def _varying(figures: pd.DataFrame) -> list[str]:
    return [column for column in figures if figures[column].nunique() > 1]


def _numbered(results: pd.DataFrame) -> pd.DataFrame:
    """The rows with a key for their figure; the same figure twice is numbered in the order of the rows."""
    key = results[_IDENTITY].map(_plain).agg("|".join, axis=1)
    return results[[*_IDENTITY, *_FIGURE]].assign(_key=key + "|" + key.groupby(key).cumcount().astype(str))


def _plain(value: Any) -> str:
    """A value as text, whatever type its column was read as: 2 and 2.0 are one."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _difference(row: dict[str, Any]) -> dict[str, Any]:
    first, other = (Figure(*(row[f"{column}{suffix}"] for column in _FIGURE)) for suffix in ("", "_other"))
    found = difference(other, first)
    low, high = found.ci_low, found.ci_high
    apart = "" if low != low else "yes" if low > 0 or high < 0 else "no"
    numbers = (first.value, other.value, found.value, low, high, apart)
    return {**row, **dict(zip(_DIFFERENCE[1:], numbers, strict=True))}


def _different_settings(names: list[str], runs: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a setting, version or machine that is not the same in all runs, one column a run."""
    settings = pd.DataFrame([_settings(run["config"], run["environment"]) for run in runs], index=names)
    table = settings.fillna("").T
    return table[table.nunique(axis=1) > 1].rename_axis("setting").reset_index()


def _settings(config: dict[str, Any], environment: dict[str, Any]) -> dict[str, str]:
    outer = {key: value for key, value in config.items() if key not in ("config", "settings")}
    machine = {key: environment[key] for key in ("commit", "python", "device", "processor")}
    found = {**outer, **config["config"], **machine, **environment["versions"]}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items()}
