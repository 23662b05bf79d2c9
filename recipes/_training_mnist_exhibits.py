"""What report 002 states, the targets L1-L7 and the exhibits of ``training_mnist``, from its result rows alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from advbench import evaluation
from advbench.recipes._exhibits import histories, over_seeds, target_row
from advbench.report import charts
from advbench.runs import Run

METRICS = ("accuracy", "error", "confidence", "confidence_correct", "confidence_wrong")
DEFENDED = ("mixed", "adversarial")

# percent: correct, error, confidence, of the correct, of the errors; 97.29 as the author corrected it
_CONFIDENCE = {
    ("standard", None): (98.47, 1.53, 98.59, 99.04, 69.95),
    ("standard", "fgsm"): (3.36, 96.64, 93.82, 91.67, 93.89),
    ("mixed", None): (98.21, 1.79, 97.29, 97.85, 66.91),
    ("mixed", "fgsm"): (85.28, 14.72, 86.30, 89.07, 70.22),
    ("adversarial", None): (97.97, 2.03, 96.03, 96.69, 64.23),
    ("adversarial", "fgsm"): (77.80, 22.20, 79.05, 82.55, 66.79),
}

# percent: error rate, confidence on the errors; the fractions of the report as the author corrected them
_TRANSFER = {
    ("standard", "standard"): (96.64, 93.89),
    ("standard", "adversarial"): (34.78, 75.79),
    ("standard", "mixed"): (19.75, 75.26),
    ("adversarial", "standard"): (8.85, 65.19),
    ("adversarial", "adversarial"): (22.20, 66.79),
    ("adversarial", "mixed"): (9.49, 64.49),
    ("mixed", "standard"): (7.71, 69.70),
    ("mixed", "adversarial"): (10.57, 68.05),
    ("mixed", "mixed"): (14.72, 70.22),
}


def reported_confidence(defence: str, attack: str | None, metric: str) -> float | None:
    """The report's number for a cell of the five-row table, as a fraction."""
    cells = _CONFIDENCE.get((defence, attack))
    return None if cells is None else cells[METRICS.index(metric)] / 100


def reported_transfer(defence: str, source: str, metric: str) -> float | None:
    """The report's number for a cell of a transfer table, as a fraction."""
    cells = _TRANSFER.get((defence, source))
    return None if cells is None else cells[("error", "confidence_wrong").index(metric)] / 100


def targets(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a part of a target: the mean over the seeds with its interval, the report's number and what is accepted."""
    return [row for rule in (_l1_l2_l3, _l4, _l5, _l6, _l7) for row in rule(_Cells(rows))]


class _Cells:
    """Values by seed, so that what is compared was trained from the same weights in the same order."""

    def __init__(self, rows: pd.DataFrame) -> None:
        own = rows[rows.exhibit == "confidence"].assign(attack=lambda table: table.attack.fillna("clean"))
        self._own = own.set_index(["defence", "attack", "metric", "seed"]).value.sort_index()
        moved = rows[rows.exhibit == "transfer"]
        self._moved = moved.set_index(["defence", "source", "metric", "seed"]).value.sort_index()

    def own(self, defence: str, attack: str, metric: str) -> np.ndarray:
        return self._own.loc[defence, attack, metric].to_numpy()

    def moved(self, defence: str, source: str, metric: str = "error") -> np.ndarray:
        return self._moved.loc[defence, source, metric].to_numpy()


def _row(
    target: str,
    metric: str,
    values: np.ndarray,
    low: float | None = None,
    high: float | None = None,
    reported: float | None = None,
) -> dict[str, Any]:
    return target_row(target, metric, evaluation.mean(values), low, high, reported)


def _l1_l2_l3(cells: _Cells) -> Iterator[dict[str, Any]]:
    for defence in ("standard", *DEFENDED):
        said = _CONFIDENCE[defence, None][1] / 100
        clean = cells.own(defence, "clean", "error")
        yield _row("L1", f"clean error, {defence}", clean, round(said - 0.006, 4), round(said + 0.006, 4), said)
    yield _row("L2", "error under FGSM, standard", cells.own("standard", "fgsm", "error"), 0.9, None, 0.9664)
    for defence in DEFENDED:
        said = _CONFIDENCE[defence, "fgsm"][1] / 100
        under = cells.own(defence, "fgsm", "error")
        yield _row("L3", f"error under FGSM, {defence}", under, round(said - 0.05, 4), round(said + 0.05, 4), said)


def _l4(cells: _Cells) -> Iterator[dict[str, Any]]:
    under = {name: cells.own(name, "fgsm", "accuracy") for name in ("standard", *DEFENDED)}
    clean = {name: cells.own(name, "clean", "accuracy") for name in ("standard", *DEFENDED)}
    lead = under["mixed"] - under["adversarial"]
    yield _row("L4", "accuracy under FGSM, mixed minus adversarial", lead, 0.0, None, 0.0748)
    lead = under["adversarial"] - under["standard"]
    yield _row("L4", "accuracy under FGSM, adversarial minus standard", lead, 0.3, None, 0.7444)
    for first, second in (("standard", "mixed"), ("mixed", "adversarial")):
        said = (_CONFIDENCE[first, None][0] - _CONFIDENCE[second, None][0]) / 100
        gap = clean[first] - clean[second]
        # two standard errors of a difference of 1.5 % errors on 10,000 images
        yield _row("L4", f"clean accuracy, {first} minus {second}", gap, -0.003, None, round(said, 4))


def _l5(cells: _Cells) -> Iterator[dict[str, Any]]:
    pairs = [(d, s) for d in DEFENDED for s in ("standard", *DEFENDED) if d != s]
    errors = np.stack([cells.moved(d, s) for d, s in pairs])
    own = np.stack([cells.moved(d, d) for d, _ in pairs])
    yield _row("L5", "lowest error of a defended model on another's FGSM images", errors.min(0), 0.04, None, 0.0771)
    yield _row("L5", "highest of these", errors.max(0), None, 0.15, 0.1057)
    gap = (errors - own).max(0)
    yield _row("L5", "largest excess of these over the model's own white-box error", gap, None, 0.0, -0.0415)


def _l6(cells: _Cells) -> Iterator[dict[str, Any]]:
    found = {source: cells.moved("standard", source) for source in DEFENDED}
    for source in DEFENDED:
        said = _TRANSFER["standard", source][0] / 100
        metric = f"error of standard on images from {source}"
        yield _row("L6", metric, found[source], round(said - 0.1, 4), round(said + 0.1, 4), said)
    gap = found["adversarial"] - found["mixed"]
    yield _row("L6", "error of standard, images from adversarial minus from mixed", gap, 0.0, None, 0.1503)


def _l7(cells: _Cells) -> Iterator[dict[str, Any]]:
    sure = {name: cells.own(name, "fgsm", "confidence_wrong") for name in ("standard", *DEFENDED)}
    gap = sure["standard"] - np.maximum(sure["mixed"], sure["adversarial"])
    yield _row(
        "L7", "confidence on errors under FGSM, standard minus the surer of the defended", gap, 0.15, None, 0.2367
    )


def show(run: Run) -> None:
    """Put every exhibit that was measured on the page."""
    rows = run.results()
    _show_confidence(run, rows)
    _show_transfer(run, rows)
    _show_ablation(run, rows)
    _show_stronger(run, rows)
    _show_curves(run)


def _show_confidence(run: Run, rows: pd.DataFrame) -> None:
    table = over_seeds(rows[(rows.exhibit == "confidence") & rows.reported.notna()], ["defence", "attack", "metric"])
    bars = table[table.metric == "accuracy"]
    run.exhibit(
        "confidence",
        "Accuracy and confidence, clean and under FGSM on the model itself",
        "Mean over the seeds with the lowest and the highest, beside the report's number. Confidence is the largest "
        "softmax probability, over all, the correct and the wrong test images.",
        charts.bars(bars, "defence", "mean", "attack", "accuracy", error=("lowest", "highest"), mark="reported"),
        table,
        targets=("L1", "L2", "L3", "L4", "L7"),
    )


def _show_transfer(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "transfer"]
    for metric, title in (("error", "error rate"), ("confidence_wrong", "confidence on the errors")):
        table = over_seeds(part[part.metric == metric], ["defence", "source"])
        run.exhibit(
            f"transfer-{metric.replace('_', '-')}",
            f"Transfer between the models: {title}",
            "Rows are the evaluated model, columns the model on which the FGSM images were made; mean over the seeds.",
            charts.heat_map(table.assign(value=table["mean"]), "source", "defence", (0, 1), title),
            table,
            targets=("L5", "L6") if metric == "error" else (),
        )


def _show_ablation(run: Run, rows: pd.DataFrame) -> None:
    part = rows[(rows.exhibit == "confidence") & (rows.metric == "accuracy")]
    if part.defence.nunique() < 4:
        return
    first = part[part.seed == part.seed.min()].assign(attack=lambda table: table.attack.fillna("clean"))
    run.exhibit(
        "ablation",
        'Is "mixed beats adversarial" only the double step?',
        "The report sums the gradients of its mixed batch of 200 and divides by 100. Divided by 200, mixed training is adversarial "
        "training at alpha = 1/2 (no layer of this network couples the images of a batch). Here adversarial training takes the "
        "double step too; first seed.",
        table=first.pivot_table(index="defence", columns="attack", values="value", sort=False).reset_index(),
    )


def _show_stronger(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "stronger"].assign(attack=lambda table: table.attack.fillna("clean"))
    run.exhibit(
        "stronger",
        "Which attack would break this? PGD and AutoAttack",
        "Accuracy that is left after each attack and all before it, at the report's eps, confined to [0, 1]; first seed.",
        charts.bars(part, "defence", "value", "attack", "accuracy", error=("ci_low", "ci_high")),
        part.pivot_table(index="defence", columns="attack", values="value", sort=False).reset_index(),
    )


def _show_curves(run: Run) -> None:
    mean = histories(run, ["loss", "validation_objective", "validation_top1_error", "validation_top5_error"])
    run.exhibit(
        "curves",
        "Training curves",
        "Validation top-1 error an epoch, mean over the seeds. The table also holds the training loss (of a mixed batch or a weighted "
        "sum where the regime has one), the validation objective and the top-5 error.",
        charts.curves(mean, "epoch", "validation_top1_error", "training", "top-1 error, validation"),
        mean,
    )
