"""The tables and charts of an evaluation, from its result rows alone."""

from __future__ import annotations

import pandas as pd

from advbench.evaluation.options import number
from advbench.metrics import Figure
from advbench.metrics.sanity import Check
from advbench.report import charts
from advbench.study.run import Run

_SCALE = {"linf": (255, " in 1/255"), "l2": (1, "")}
"""What a distance is multiplied by to be read, and the unit that it then has."""


def show(run: Run, norm: str, notes: list[str]) -> None:
    """Add every exhibit to the run."""
    rows = run.results()
    _robustness(run, rows[rows.exhibit == "robustness"], norm)
    _detector(run, rows[rows.exhibit == "detector"])
    _checks(run, rows)
    _distance(run, rows[rows.exhibit == "distance"])
    if notes:
        table = pd.DataFrame({"note": notes})
        run.exhibit(
            "notes", "What was found and handled", "Of the model and the data, before the first attack.", table=table
        )


def figures(run: Run) -> dict[str, float]:
    """The figures that a floor can be set for: at the largest eps, all in 0..1."""
    rows = run.results()
    headline = rows[rows.exhibit == "headline"].sort_values("eps")
    found = {str(row.metric): float(row.value) for row in headline.itertuples()}
    joint = rows[rows.metric == "joint_accuracy"]
    if len(joint):
        found["joint_accuracy"] = float(joint.value.iloc[-1])
    return {**found, "checks_passed": sum(check.passed for check in checks(rows)) / max(1, len(checks(rows)))}


def checks(rows: pd.DataFrame) -> list[Check]:
    """The checks among the rows of results.csv."""
    part = rows[rows.exhibit == "check"]
    return [
        Check(
            row.metric,
            Figure(row.value, int(row.n), row.ci_low, row.ci_high),
            "" if pd.isna(row.source) else row.source,
        )
        for row in part.itertuples()
    ]


def _robustness(run: Run, rows: pd.DataFrame, norm: str) -> None:
    worst = rows.groupby("eps", as_index=False).last().assign(attack="worst case")
    single = rows[(rows.eps == 0) | (rows.groupby("eps").cumcount() == 0)].assign(
        attack=rows[rows.eps > 0].attack.iloc[0]
    )
    scale, unit = _SCALE[norm]
    x = f"eps{unit}"
    curve = pd.concat([worst, single]).assign(**{x: lambda table: table.eps * scale})
    table = rows.assign(eps=rows.eps.map(lambda eps: number(eps) if eps else "0")).pivot_table(
        index="attack", columns="eps", values="value", sort=False
    )
    n = int(rows.n.iloc[0])
    run.exhibit(
        "robustness",
        "Accuracy that is left",
        f"Of {n} images, within eps in the {'l-inf' if norm == 'linf' else 'l2'} norm. Each line of the table is the worst "
        "case an image over its attack and all above it; an image that was beaten, at this eps or a smaller one, is not attacked again. "
        "Attacks know the true label; every adversarial image is judged by the model in float32.",
        charts.curves(curve, x, "value", "attack", "accuracy"),
        table.reset_index(),
    )


def _detector(run: Run, rows: pd.DataFrame) -> None:
    if rows.empty:
        return
    joint = rows[rows.metric == "joint_accuracy"]
    table = joint.assign(eps=joint.eps.map(lambda eps: number(eps) if eps else "0")).pivot_table(
        index="attack", columns="eps", values="value", sort=False
    )
    flagged = rows[rows.metric == "false_positives"].iloc[0]
    run.exhibit(
        "detector",
        "With the detector: right, or flagged",
        f"Of {int(joint.n.iloc[0])} images, every second one; the others, clean, fixed the detector's threshold at 5 % false "
        f"positives, and it flags {flagged.value:.1%} of these when they are clean. Each line of the table is the worst case an "
        "image over its attack and all above it. PGD does not know the detector; SelectivePGD and OrthogonalPGD "
        "(Bryniarski et al., 2021) do.",
        table=table.reset_index(),
    )


def _checks(run: Run, rows: pd.DataFrame) -> None:
    made = checks(rows)
    failed = [check.name for check in made if not check.passed]
    table = pd.DataFrame(
        {
            "check": [check.name for check in made],
            "result": ["passed" if check.passed else "FAILED" for check in made],
            "measured": [check.measured for check in made],
            "so": ["" if check.passed else f"{check.means}; {check.do}" for check in made],
        }
    )
    verdict = f"FAILED: {', '.join(failed)}. The figures above are not to be trusted." if failed else "All passed."
    run.exhibit("checks", "Did the attacks work?", f"{verdict} Made with PGD at the largest eps.", table=table)


def _distance(run: Run, rows: pd.DataFrame) -> None:
    medians = rows[rows.metric == "median_distance"]
    for row in medians.itertuples():
        scale, unit = _SCALE[row.norm]
        x = f"distance{unit}"
        curve = rows[(rows.attack == row.attack) & (rows.metric == "accuracy")].assign(
            **{x: lambda table, scale=scale: table.eps * scale}
        )
        median = medians[medians.attack == row.attack][["attack", "norm", "value", "ci_low", "ci_high", "n"]]
        median[["value", "ci_low", "ci_high"]] *= scale
        run.exhibit(
            row.attack,
            f"Distance to the nearest boundary, {'l-inf' if row.norm == 'linf' else 'l2'}",
            "DeepFool: the share of images that are right and stay so within a distance. The median is over the images that "
            "were right; it is infinite where most were not flipped within 50 steps.",
            charts.curves(curve, x, "value", "attack", "accuracy"),
            median.rename(columns={"value": f"median{unit}"}),
        )
