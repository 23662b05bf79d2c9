"""An evaluation as a test: floors for its figures, JUnit XML for a CI system, Markdown for the page of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan
from typing import Literal
from xml.etree import ElementTree

import pandas as pd

from advbench.errors import printable
from advbench.evaluation import exhibits
from advbench.evaluation.options import number
from advbench.files import read_json
from advbench.metrics import percent, where
from advbench.report import summary
from advbench.report.tables import markdown as table
from advbench.study.run import Run


@dataclass(frozen=True)
class Case:
    """A figure of the table, a check or a floor.

    :param group: which of the three.
    :param measured: in words.
    :param problem: the reason of a failure; empty where it passes.
    :param excused: whether the failure is allowed.
    """

    group: Literal["robust accuracy", "checks", "floors"]
    name: str
    measured: str
    problem: str = ""
    excused: bool = False


def cases(run: Run, floors: Mapping[str, float], despite_checks: bool = False) -> list[Case]:
    """Each figure of the table, each check and each floor of a finished evaluation."""
    rows = run.results()
    return [*_figures(rows), *_checks(rows, despite_checks), *_floors(exhibits.figures(run), floors)]


def _figures(rows: pd.DataFrame) -> Iterator[Case]:
    for norm, row in _rows(rows):
        interval = f" ({percent(row.ci_low)} to {percent(row.ci_high)})" if row.ci_low == row.ci_low else ""
        eps = f" at eps = {number(row.eps)}" if row.eps > 0 else ""
        yield Case(
            "robust accuracy", f"{row.attack}{eps}{norm}", f"{percent(row.value)}{interval} of {row.n:,.0f} images"
        )


def _rows(rows: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """The rows of the tables of all norms, each with what tells its norm where there are several."""
    norms = where(rows, metric="robust_accuracy").norm.unique()
    for norm in norms:
        for _, row in exhibits.tabled(rows, norm).iterrows():
            yield f" in {norm}" if len(norms) > 1 else "", row
    for _, row in exhibits.unattacked(rows).iterrows():
        yield "", row


def _checks(rows: pd.DataFrame, despite_checks: bool) -> Iterator[Case]:
    for check in exhibits.checks(rows):
        problem = "" if check.passed else f"{check.measured}: {check.means}. {check.do}"
        yield Case("checks", check.name, check.measured, problem, despite_checks)


def _floors(found: Mapping[str, float], floors: Mapping[str, float]) -> Iterator[Case]:
    for name, floor in floors.items():
        value = found.get(name, nan)
        problem = "" if value >= floor else f"{name} is {value:.4f}, below {floor:g}"  # nor is NaN above a floor
        yield Case("floors", f"{name} of at least {floor:g}", f"{value:.4f}", problem)


def problems(found: list[Case]) -> list[str]:
    """Why the gate is closed: figures below their floors, and failed checks beside a floor for any other figure."""
    told = [case.problem for case in found if case.group == "floors" and case.problem]
    failed = [case.name for case in found if case.group == "checks" and case.problem and not case.excused]
    if failed and any(case.group == "floors" and not case.name.startswith("checks_passed") for case in found):
        told.append(
            f"{', '.join(failed)} failed: the figures are not to be trusted, see the checks (--despite-checks lets them pass)"
        )
    return told


def junit(run: Run, found: list[Case]) -> bytes:
    """The cases as JUnit XML, a test suite a group, as GitHub, GitLab and Jenkins read it."""
    config = read_json(run.directory / "config.json")["config"]
    root = ElementTree.Element("testsuites", name=f"advbench evaluate {printable(config['model'])}")
    for group in dict.fromkeys(case.group for case in found):
        part = [case for case in found if case.group == group]
        counts = {
            "tests": len(part),
            "failures": sum(bool(case.problem) and not case.excused for case in part),
            "skipped": sum(bool(case.problem) and case.excused for case in part),
        }
        suite = ElementTree.SubElement(root, "testsuite", {"name": group, **{key: str(n) for key, n in counts.items()}})
        for case in part:
            element = ElementTree.SubElement(
                suite, "testcase", classname=f"advbench.{group}", name=printable(case.name)
            )
            if case.problem:
                kind = "skipped" if case.excused else "failure"
                ElementTree.SubElement(element, kind, message=printable(case.problem))
            ElementTree.SubElement(element, "system-out").text = printable(case.measured)
    ElementTree.indent(root)
    return ElementTree.tostring(root, "utf-8", xml_declaration=True)


def _by_eps(rows: pd.DataFrame) -> pd.DataFrame:
    """A line an attack, a column an eps, in their order."""
    shares = rows.assign(value=rows.value.map(percent), eps=rows.eps.map(number))
    wide = shares.pivot(index="attack", columns="eps", values="value")
    return wide.loc[shares.attack.drop_duplicates(), shares.eps.drop_duplicates()].reset_index().fillna("")


def markdown(run: Run, found: list[Case]) -> str:
    """The answer, the floors, the table and the checks, short enough for the summary of a step."""
    config = read_json(run.directory / "config.json")
    options = config["config"]
    checks = [case for case in found if case.group == "checks"]
    failed = [case for case in checks if case.problem]
    floors = [case for case in found if case.group == "floors"]
    parts = [
        f"## How robust is {options['model']} on {config['dataset']}?".replace("\n", " "),
        " ".join(summary(run.directory)["answer"]),
    ]
    if floors:
        verdicts = ["FAILED" if case.problem else "passed" for case in floors]
        columns = {"Floor": [case.name for case in floors], "Measured": [case.measured for case in floors]}
        parts.append(table(pd.DataFrame({**columns, "Result": verdicts})))
    rows = run.results()
    for norm in where(rows, metric="robust_accuracy").norm.unique():
        parts += [f"Robust accuracy by eps, {norm}:", table(_by_eps(exhibits.tabled(rows, norm)))]
    if failed:
        what = [case.problem for case in failed]
        parts.append(f"{len(failed)} of {len(checks)} checks failed: the figures are not to be trusted.")
        parts.append(table(pd.DataFrame({"Check": [case.name for case in failed], "What it means": what})))
    elif checks:
        parts.append(f"All {len(checks)} checks passed.")
    parts.append(f"`{config['command']}`")
    return "\n\n".join(part.strip() for part in parts) + "\n"
