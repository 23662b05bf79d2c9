"""The target M10 and the exhibits of ``detector_imagenet10``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from advbench.metrics import Figure
from advbench.recipes._detector_cifar_lab import Adversary
from advbench.report import charts
from advbench.report.pictures import grid
from advbench.study.run import Run

ATTACKS = ("fgsm", "bim", "bim-l2", "deepfool-l2", "deepfool-linf")
TRANSFER = pd.DataFrame(
    [
        [0.89, 0.88, 0.63, 0.84, 0.89],
        [0.84, 0.87, 0.61, 0.81, 0.89],
        [0.66, 0.74, 0.90, 0.88, 0.87],
        [0.61, 0.66, 0.78, 0.85, 0.81],
        [0.80, 0.83, 0.69, 0.83, 0.91],
    ],
    index=ATTACKS,
    columns=ATTACKS,
)
"""The report's table; its axis labels are damaged. Read with a row for each adversary met, a column for each trained on."""

TOLERANCE = 0.06
_READING = (
    "Columns: the adversary that the detector was trained on; rows: the one that it meets. The report's labels are damaged; read "
    "the other way round, detectors trained on DeepFool would see DeepFool at 0.61, against its text, which finds them the most general."
)


def reported(exhibit: str, fit: Adversary, test: Adversary) -> float | None:
    """The report's detectability of a pair, where it states one."""
    if exhibit == "adversary-transfer":
        return float(TRANSFER.loc[test.attack, fit.attack])
    if fit.attack != "bim-l2" or test.attack != "bim-l2":
        return None
    return {(400, 400): 0.5, (1200, 400): 0.78}.get((round((fit.eps or 0) * 255), round((test.eps or 0) * 255)))


def targets(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """M10: each cell of the diagonal within 0.06 of the report's; NaN where the run does not measure it."""
    return list(_diagonal(rows[rows.exhibit == "adversary-transfer"]))


def _diagonal(cells: pd.DataFrame) -> Iterator[dict[str, Any]]:
    own = cells[cells.attack == cells.fit_attack].set_index("attack")
    for attack in ATTACKS:
        figure = Figure(float("nan"), 0)
        if attack in own.index:
            row = own.loc[attack]
            figure = Figure(float(row.value), int(row.n), row.ci_low, row.ci_high)
        claimed = float(TRANSFER.loc[attack, attack])
        yield figure.row(
            f"detectability of {attack} by the detector trained on it",
            model=cells.model.iloc[0],
            exhibit="targets",
            target="M10",
            reported=claimed,
            accept_low=round(claimed - TOLERANCE, 2),
            accept_high=round(claimed + TOLERANCE, 2),
        )


def show(run: Run, scale: float) -> None:
    """Put every exhibit that was measured on the page.

    :param scale: side of the images over 224, by which the bounds of l2 were multiplied.
    """
    rows = run.results()
    l2 = rows.norm == "l2"
    # as the report writes them: in 0..255 units for images of 224 pixels
    rows["eps"] = (rows.eps * 255 / np.where(l2, scale, 1)).round(2)
    rows["fit_eps"] = (rows.fit_eps * 255 / np.where(l2, scale, 1)).round(2)
    _adversaries(run, rows[rows.exhibit == "adversaries"])
    _between_eps(run, rows[rows.exhibit == "eps-transfer"])
    _between_adversaries(run, rows[rows.exhibit == "adversary-transfer"])
    _chance(run, rows[rows.exhibit == "chance"])


def _adversaries(run: Run, rows: pd.DataFrame) -> None:
    named = rows.attack.where(rows.eps.isna(), rows.attack + ", eps " + rows.eps.map("{:g}".format))
    rows = rows.assign(adversary=named)
    table = rows.pivot_table(index=["adversary", "attack"], columns="metric", values="value", sort=False).reset_index()
    first = ["adversary", "predictive_accuracy", "detectability", "detectability_successful", "auc", "tpr_at_5_fpr"]
    table = table[[*first, *(column for column in table if column not in first)]]
    run.exhibit(
        "adversaries",
        "Detectability against predictive accuracy",
        "One mark an adversary: the classifier's accuracy under it, and the accuracy of a static detector trained on it, on "
        "clean and adversarial test images in equal weight. The report: no adversary brings accuracy below 10 %, and each is "
        "detected in 85 % or more but the iterative l2 method at eps 400. eps is in units of 1/255, of l2 for images of 224 "
        "pixels: for others it was scaled with the side, which keeps the mean change of a pixel. Columns that end in "
        "successful leave out images that are still classified right; thresholds of the true-positive rates were fixed on "
        "clean validation images.",
        charts.scatter(table, "predictive_accuracy", "detectability", "attack", ["adversary", "auc"]),
        table.drop(columns="attack"),
        targets=("M10",),
    )


def _between_eps(run: Run, rows: pd.DataFrame) -> None:
    for attack, group in rows.groupby("attack", sort=False):
        if group.eps.nunique() < 2:
            continue
        cells = group.assign(eps_fit=group.fit_eps, eps_test=group.eps)
        run.exhibit(
            f"eps-transfer-{attack}",
            f"Transfer between eps, {attack}",
            "Detectability of a detector trained at eps_fit on adversarial images of eps_test, in units of 1/255. The report "
            "prints no numbers here but two for the iterative l2 method: chance at 400, and 0.78 there for a detector trained "
            "at 1200.",
            charts.heat_map(cells, "eps_fit", "eps_test"),
            cells[["eps_fit", "eps_test", "value", "ci_low", "ci_high", "reported"]],
        )


def _between_adversaries(run: Run, rows: pd.DataFrame) -> None:
    run.exhibit(
        "adversary-transfer",
        "Transfer between adversaries: ours",
        f"Detectability, each attack at the smallest eps measured that leaves the classifier below 30 % accuracy. {_READING}",
        charts.heat_map(rows, "fit_attack", "attack"),
        rows.pivot_table(index="attack", columns="fit_attack", values="value", sort=False).reset_index(),
        targets=("M10",),
    )
    beside = rows.assign(difference=rows.value - rows.reported)
    beside["within 0.06"] = np.where(beside.difference.abs() <= TOLERANCE, "yes", "no")
    columns = ["attack", "fit_attack", "value", "ci_low", "ci_high", "reported", "difference", "within 0.06"]
    run.exhibit(
        "adversary-transfer-report",
        "Transfer between adversaries: the report's",
        f"The report's numbers as a chart, and in the table ours (value) beside them. {_READING}",
        charts.heat_map(rows.assign(value=rows.reported), "fit_attack", "attack"),
        beside[columns],
        targets=("M10",),
    )


def _chance(run: Run, rows: pd.DataFrame) -> None:
    if rows.empty:
        return
    run.exhibit(
        "chance",
        "Iterative l2 at eps 400: the cell at chance level",
        "The report's detector did not learn to see this adversary, though one trained at eps 1200 saw it in 78 %: a failure of the "
        "training, it says, not of the features. Here the training starts from several initial weights.",
        table=rows[["detector", "value", "ci_low", "ci_high", "n", "reported"]],
    )


def pictures(run: Run, clean: np.ndarray, attacked: Mapping[str, np.ndarray]) -> None:
    """One image, clean and under each adversary, with its perturbation.

    :param clean: (C, H, W) in [0, 1].
    :param attacked: the same image under each adversary, by name.
    """
    cells, table = [("clean", "image", clean)], []
    for name, image in attacked.items():
        largest = max(float(np.abs(image - clean).max()), 1e-9)
        cells += [(name, "image", image), (name, "perturbation", 0.5 + (image - clean) / (2 * largest))]
        table.append(
            {"adversary": name, "largest change of a pixel, of 255": largest * 255, "amplified": 0.5 / largest}
        )
    run.exhibit(
        "pictures",
        "One image under each adversary",
        "A test image, clean and adversarial, and the perturbation, amplified until its largest change is black or white; grey "
        "is no change.",
        grid(cells, cell=128),
        pd.DataFrame(table),
    )
