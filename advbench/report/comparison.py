"""Several runs side by side: differences of the same figures with their intervals, and the settings that differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import pandas as pd

from advbench.errors import UsageError
from advbench.files import write_text
from advbench.metrics import COLUMNS
from advbench.report.charts import differences
from advbench.report.page import render
from advbench.report.source import cell, read_run

_MEASURED = {"value", "n", "ci_low", "ci_high", "reported", "accept_low", "accept_high", "note"}
_OF_THE_RUN = {"recipe", "dataset", "seed"}
_INTERVAL = ("value", "ci_low", "ci_high")
_FIGURES = ("metric", "first", "other", "difference", "low", "high", "apart")
_NAMING = {
    "run": "",
    "target": "",
    "exhibit": "",
    "model": "",
    "defence": "",
    "detector": "",
    "position": "position ",
    "fit_attack": "fitted on ",
    "fit_eps": "eps ",
    "attack": "against ",
    "eps": "eps ",
    "sigma": "sigma ",
    "source": "made on ",
    "seed": "seed ",
}
_DRAWN = 25
_WHAT = [column for column in COLUMNS if column not in _MEASURED | _OF_THE_RUN]


def compare(directories: Sequence[Path]) -> dict[str, Any]:
    """What differs between the first run and each of the others.

    A difference of two figures has Newcombe's interval (1998, method 10: square-and-add over the intervals of both), which
    takes them as independent. A figure without an interval has a difference without.

    :returns: ``runs``, their names; ``config``, one row a setting that is not the same in all; ``figures``, one row a figure
        and later run, those apart first and of these the largest; ``apart``, how many of these have an interval without zero; ``unmatched``, how many figures only one of two runs has.
    :raises UsageError: for fewer than two runs, one twice, or a directory that is none.
    """
    if len(directories) < 2:
        raise UsageError("compare takes two runs or more")
    if len({directory.resolve() for directory in directories}) < len(directories):
        raise UsageError("compare was given the same run twice")
    runs = [read_run(directory) for directory in directories]
    named = _names(directories)
    tables = [_figures(run["results"]) for run in runs]
    parts, unmatched = [], 0
    for name, table in zip(named[1:], tables[1:], strict=True):
        both = tables[0].merge(table, on="_key", suffixes=("", "_other"))
        unmatched += len(tables[0]) + len(table) - 2 * len(both)
        parts.append(_differences(both).assign(run=name))
    figures = pd.concat(parts, ignore_index=True)
    order = figures.assign(size=figures.difference.abs()).sort_values(["apart", "size"], ascending=False, kind="stable")
    figures = figures.loc[order.index]
    return {
        "runs": named,
        "config": _changed(named, runs),
        "figures": figures.reset_index(drop=True),
        "apart": int((figures.apart == "yes").sum()),
        "unmatched": unmatched,
    }


def write_comparison(directories: Sequence[Path], out: Path) -> Path:
    """Write the comparison of runs as one self-contained page.

    :raises UsageError: as ``compare`` does.
    """
    found = compare(directories)
    figures = found["figures"]
    telling = [column for column in varying(figures) if column not in _FIGURES]
    names = [label(row, figures) for row in figures.to_dict("records")]
    table = figures[[*_FIGURES, *telling]].assign(metric=names).rename(columns={"metric": "figure"})
    drawn = table[table.apart != ""].head(_DRAWN)
    tables = {"config": found["config"], "figures": table}
    context = {key: json.loads(table.to_json(orient="split", index=False)) for key, table in tables.items()}
    specs = {"differences": differences(drawn).to_dict()} if len(drawn) else {}
    path = out / "compare.html" if out.is_dir() else out
    write_text(path, render("compare.html", data={"specs": specs}, drawn=len(drawn), **{**found, **context}))
    return path


def varying(figures: pd.DataFrame) -> list[str]:
    """The columns that tell one figure from another."""
    return [column for column in figures if figures[column].nunique() > 1]


def label(row: dict[str, Any], figures: pd.DataFrame) -> str:
    """What a figure is of, in one line: the metric, and what else tells it from others."""
    columns = [column for column in _NAMING if column in varying(figures) and cell(row[column])]
    return f"{row['metric']}: " + ", ".join(f"{_NAMING[column]}{cell(row[column])}" for column in columns)


def _names(directories: Sequence[Path]) -> list[str]:
    """The last part of each path, or the whole of it where two end alike."""
    short = [directory.resolve().name for directory in directories]
    return short if len(set(short)) == len(short) else [str(directory) for directory in directories]


def _figures(results: pd.DataFrame) -> pd.DataFrame:
    """The rows by what they are of; the same figure twice is numbered in the order of the rows."""
    results = results.reindex(columns=COLUMNS)
    key = results[_WHAT].map(_plain).agg("|".join, axis=1)
    numbered = key + "|" + key.groupby(key).cumcount().astype(str)
    return results[[*_WHAT, "value", "n", "ci_low", "ci_high"]].assign(_key=numbered)


def _plain(value: Any) -> str:
    """A value as text, whatever type its column was read as: 2 and 2.0 are one."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _differences(both: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for row in both.to_dict("records"):
        low, high = _newcombe(*(row[f"{column}{suffix}"] for suffix in ("_other", "") for column in _INTERVAL))
        rows.append(
            {
                **{column: row[column] for column in _WHAT},
                "first": row["value"],
                "other": row["value_other"],
                "difference": row["value_other"] - row["value"],
                "low": low,
                "high": high,
                "apart": "yes" if low > 0 or high < 0 else "no" if low == low else "",
            }
        )
    return pd.DataFrame(rows, columns=["run", *_WHAT, "first", "other", "difference", "low", "high", "apart"])


def _newcombe(a: float, a_low: float, a_high: float, b: float, b_low: float, b_high: float) -> tuple[float, float]:
    """The interval of a - b from those of a and b; NaN where one of them has none."""
    return a - b - sqrt((a - a_low) ** 2 + (b_high - b) ** 2), a - b + sqrt((a_high - a) ** 2 + (b - b_low) ** 2)


def _changed(named: list[str], runs: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a setting, version or machine that is not the same in all runs, one column a run."""
    asked = [_flat(run["config"], run["environment"]) for run in runs]
    settings = dict.fromkeys(key for each in asked for key in each)
    rows = [[key, *(each.get(key, "") for each in asked)] for key in settings]
    return pd.DataFrame([row for row in rows if len(set(row[1:])) > 1], columns=["setting", *named])


def _flat(config: dict[str, Any], environment: dict[str, Any]) -> dict[str, str]:
    outer = {key: value for key, value in config.items() if key not in ("config", "settings")}
    versions = environment["versions"]
    machine = {key: environment[key] for key in ("commit", "python", "device", "processor")}
    return {key: _text(value) for key, value in {**outer, **config["config"], **machine, **versions}.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
