"""The targets M1-M9 and the exhibits of ``detector_cifar``, from its result rows alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from advbench.metrics import Figure
from advbench.report import charts
from advbench.study.run import Run

GRADIENT, DEEPFOOL = ("fgsm", "bim", "bim-l2"), ("deepfool-l2", "deepfool-linf")


def targets(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a target: our number, the report's and what is accepted; NaN where the preset does not measure it."""
    return [row for rule in (_m1, _m2_m3, _m4_m5, _m6, _m7, _m8_m9) for row in rule(rows)]


def _row(
    target: str, metric: str, figure: Figure | float, low: float | None, high: float | None, reported: float | None
) -> dict:
    figure = figure if isinstance(figure, Figure) else Figure(figure, 0)
    return figure.row(metric, exhibit="targets", target=target, accept_low=low, accept_high=high, reported=reported)


def _figure(row: pd.Series) -> Figure:
    return Figure(row.value, int(row.n), row.ci_low, row.ci_high)


def _pick(rows: pd.DataFrame, exhibit: str, metric: str) -> pd.DataFrame:
    return rows[(rows.exhibit == exhibit) & (rows.metric == metric)]


def _m1(rows: pd.DataFrame) -> Iterator[dict]:
    clean = _figure(_pick(rows, "classifier", "accuracy").iloc[0])
    yield _row("M1", "clean test accuracy", clean, 0.903, 0.930, 0.913)


def _m2_m3(rows: pd.DataFrame) -> Iterator[dict]:
    accuracy = _pick(rows, "fig2-left", "predictive_accuracy").set_index(["attack", "eps"]).value
    seen = _pick(rows, "fig2-left", "detectability").set_index(["attack", "eps"])
    for target, limit, claimed in (("M2", 0.3, 0.8), ("M3", 0.1, 0.9)):
        strong = seen[accuracy.reindex(seen.index) < limit]
        lowest = (
            _figure(strong.loc[strong.value == strong.value.min()].iloc[0]) if len(strong) else Figure(float("nan"), 0)
        )
        metric = f"lowest detectability of an adversary that leaves accuracy below {limit:.0%}"
        yield _row(target, metric, lowest, claimed - 0.03, None, claimed)


def _m4_m5(rows: pd.DataFrame) -> Iterator[dict]:
    seen = _pick(rows, "fig2-right", "detectability")
    by_depth = seen.groupby(["attack", "position"]).value.mean().unstack()
    for target, attacks, best in (("M4", GRADIENT, 2), ("M5", DEEPFOOL, 4)):
        studied = by_depth.shape[1] > 1 and best in by_depth
        gaps = [by_depth.loc[a].max() - by_depth.loc[a, best] for a in attacks if studied and a in by_depth.index]
        metric = f"largest lead of another depth over AD({best}), {' / '.join(attacks)}"
        yield _row(target, metric, max(gaps, default=float("nan")), None, 0.01, 0.0)


def _m6(rows: pd.DataFrame) -> Iterator[dict]:
    seen = _pick(rows, "fig3", "detectability")
    up, down = seen[seen.fit_eps < seen.eps].value.mean(), seen[seen.fit_eps > seen.eps].value.mean()
    yield _row(
        "M6", "mean detectability, smaller eps_fit to larger eps_test minus the reverse", up - down, 0.05, None, None
    )


def _m7(rows: pd.DataFrame) -> Iterator[dict]:
    cell = _pick(rows, "fig4", "detectability").set_index(["fit_attack", "attack"]).value
    gap = cell.get(("bim", "fgsm"), float("nan")) - cell.get(("fgsm", "bim"), float("nan"))
    yield _row("M7", "detectability, iterative to fast minus fast to iterative", gap, 0.03, None, None)


def _m8_m9(rows: pd.DataFrame) -> Iterator[dict]:
    seen = _pick(rows, "fig5", "balanced_accuracy")
    per_detector = _pick(rows, "fig5", "predictive_accuracy").groupby("detector")
    accuracy = {kind: group.set_index("sigma").value for kind, group in per_detector}
    lowest = {kind: group.loc[group.value.idxmin()] for kind, group in seen.groupby("detector")}
    yield _m8(seen[seen.detector == "static"], accuracy.get("static", pd.Series(dtype=float)))
    dynamic = _figure(lowest["dynamic"]) if "dynamic" in lowest else Figure(float("nan"), 0)
    yield _row("M9", "lowest balanced accuracy of the dynamic detector over sigma", dynamic, 0.65, None, 0.7)
    lead = dynamic.value - lowest["static"].value if "static" in lowest else float("nan")
    yield _row("M9", "its lead over the lowest of the static detector", lead, 0.1, None, None)


def _m8(static: pd.DataFrame, accuracy: pd.Series) -> dict:
    """The claim needs both at one sigma; where none has both, what is missing is measured instead."""
    static = static.set_index("sigma")
    fooled = static[accuracy.reindex(static.index) < 0.3]
    if len(fooled):
        metric = "lowest balanced accuracy of the static detector at a sigma with accuracy below 30%"
        return _row("M8", metric, _figure(fooled.loc[fooled.value.idxmin()]), None, 0.60, 0.5)
    blind = static[static.value < 0.60]
    if len(blind):
        metric = "lowest accuracy at a sigma that brings the static detector below 0.60"
        return _row("M8", metric, accuracy[blind.index].min(), None, 0.30, 0.3)
    return _row("M8", "lowest balanced accuracy of the static detector", static.value.min(), None, 0.60, 0.5)


def show(run: Run) -> None:
    """Put every exhibit that was measured on the page."""
    rows = run.results()
    for exhibit in (_figure_2_left, _figure_2_right, _figure_3, _figure_4, _figure_5, _check):
        exhibit(run, rows)


def _named(rows: pd.DataFrame) -> pd.Series:
    """The adversary with its eps in 0..255 units, as the paper writes it."""
    eps = (rows.eps * 255).round(2).map("{:g}".format)
    return rows.attack.where(rows.eps.isna(), rows.attack + ", eps " + eps)


def _figure_2_left(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "fig2-left"].assign(adversary=_named)
    table = part.pivot_table(index="adversary", columns="metric", values="value", sort=False).reset_index()
    table = table.merge(part[["adversary", "attack"]].drop_duplicates())
    first = ["adversary", "predictive_accuracy", "detectability", "detectability_successful", "auc", "tpr_at_5_fpr"]
    table = table[[*first, *(column for column in table if column not in first)]]
    chart = charts.scatter(table, "predictive_accuracy", "detectability", "attack", ["adversary", "auc"])
    run.exhibit(
        "fig2-left",
        "Detectability against predictive accuracy (figure 2, left)",
        "One mark an adversary: the classifier's accuracy under it, and the accuracy of a static detector trained on it, on "
        "clean and adversarial test images in equal weight. The report: above 80 % where accuracy falls below 30 %, above "
        "90 % where it falls below 10 %. Columns that end in successful leave out images that are still classified right; "
        "thresholds of the true-positive rates were fixed on clean validation images.",
        chart,
        table.drop(columns="attack"),
        targets=("M2", "M3"),
    )


def _figure_2_right(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "fig2-right"].assign(adversary=_named)
    if part.empty:
        return
    mean = part.groupby(["adversary", "position"], as_index=False).value.agg(["mean", "min", "max"])
    run.exhibit(
        "fig2-right",
        "Detectability by depth of the detector (figure 2, right)",
        "Mean over detector seeds, with the smallest and the largest. The report: AD(2) is best for the fast and the "
        "iterative methods, AD(4) for DeepFool.",
        charts.lines(
            mean, "position", "mean", "adversary", x_title="AD(k)", y_title="detectability", band=("min", "max")
        ),
        mean,
        targets=("M4", "M5"),
    )


def _figure_3(run: Run, rows: pd.DataFrame) -> None:
    part = rows[(rows.exhibit == "fig3") & rows.eps.notna()]
    for attack, group in part.groupby("attack", sort=False):
        cells = group.assign(eps_fit=(group.fit_eps * 255).round(2), eps_test=(group.eps * 255).round(2))
        run.exhibit(
            f"fig3-{attack}",
            f"Transfer between eps, {attack} (figure 3)",
            "Detectability of a detector trained at eps_fit on adversarial images of eps_test, in units of 1/255.",
            charts.heat_map(cells, "eps_fit", "eps_test"),
            cells.pivot_table(index="eps_test", columns="eps_fit", values="value").reset_index(),
            targets=("M6",),
        )


def _figure_4(run: Run, rows: pd.DataFrame) -> None:
    cells = rows[rows.exhibit == "fig4"]
    run.exhibit(
        "fig4",
        "Transfer between adversaries (figure 4)",
        "Detectability of a detector trained on one adversary (columns) on the images of another (rows), each at the "
        "smallest eps measured that leaves the classifier below 30 % accuracy.",
        charts.heat_map(cells, "fit_attack", "attack"),
        cells.pivot_table(index="attack", columns="fit_attack", values="value", sort=False).reset_index(),
        targets=("M7",),
    )


def _figure_5(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "fig5"]
    wide = part.pivot_table(index=["detector", "sigma"], columns="metric", values="value").reset_index()
    chart = charts.scatter(
        wide, "predictive_accuracy", "balanced_accuracy", "detector", ["sigma", "successes"], connect="sigma"
    )
    run.exhibit(
        "fig5",
        "Static and dynamic detector under the dynamic adversary (figure 5)",
        "Along each line sigma grows: the adversary cares less for the classifier and more for the detector. Detector "
        "accuracy is on clean against successful adversarial images, in equal weight; a sigma with too few successes has none.",
        chart,
        wide,
        targets=("M8", "M9"),
    )


def _check(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "check"]
    if part.empty:
        return
    wide = part.pivot_table(index=["detector", "sigma", "attack"], columns="metric", values="value").reset_index()
    run.exhibit(
        "check",
        "Which attack would break this? A finer step",
        "The dynamic adversary of the report takes steps as large as its bound. Here each detector meets it again at its "
        "worst sigma, with a quarter of that step and more iterations.",
        table=wide,
    )
