"""What report 000 states, the targets V-a to V-e and the exhibits of ``fgsm_cifar``, from its result rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from advbench import metrics
from advbench.recipes import _cifar_defences as defences
from advbench.recipes._exhibits import histories, over_seeds, target_row
from advbench.recipes._fgsm_cifar_lab import STANDARD, Regime
from advbench.report import charts, pictures
from advbench.study.run import Run

CLEAN = 0.8487
UNDEFENDED = {0.001: 0.7432, 0.005: 0.3701, 0.01: 0.1520, 0.05: 0.0535, 0.1: 0.0891}
DEFENDED = {0.001: 0.7886, 0.005: 0.7559, 0.01: 0.7142, 0.05: 0.4271, 0.1: 0.2813}
LOSS: dict[float | None, float] = {None: 0.7658, 0.005: 3.771, 0.01: 6.874}
STATIC = ("V1", "V2", "V3")

_UNDEFENDED_BANDS = {0.001: (-0.04, 0.04), 0.005: (-0.08, 0.08), 0.01: (-0.06, 0.06)}
_UNDEFENDED_LIMITS = {0.05: 0.12, 0.1: 0.15}
_DEFENDED_BANDS = {0.001: 0.05, 0.005: 0.05, 0.01: 0.05, 0.05: 0.12, 0.1: 0.12}


def reported(regime: Regime, eps: float | None, metric: str) -> float | None:
    """The report's number for a network on clean images or on the FGSM images of the standard network."""
    if regime.model != STANDARD.model:
        return None
    if regime == STANDARD:
        if metric == "loss":
            return LOSS.get(eps)
        return CLEAN if eps is None else UNDEFENDED.get(eps)
    return DEFENDED.get(eps) if metric == "accuracy" and regime.kind == "static" and eps is not None else None


def targets(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a part of a target: the mean over the seeds, the report's number and what is accepted; NaN if not measured."""
    cells = _Cells(rows)
    best = best_reading(rows)
    return [*_v_a(cells), *_v_b(cells), *_v_c(cells, best), *_v_d(cells, best), *_v_e(cells, best)]


def best_reading(rows: pd.DataFrame) -> str:
    """The static reading whose transfer column is nearest to the report's; empty where none was trained."""
    distances = _distances(rows)
    return min(distances, key=lambda name: distances[name]) if distances else ""


def _distances(rows: pd.DataFrame) -> dict[str, float]:
    """Mean absolute difference between a reading's transfer column, mean over the seeds, and the report's."""
    cells = _Cells(rows)
    found = {}
    for name in STATIC:
        gaps = [abs(values.mean() - said) for eps, said in DEFENDED.items() if (values := cells.moved(name, eps)).size]
        if gaps:
            found[name] = float(np.mean(gaps))
    return found


class _Cells:
    """Accuracies, an array over the seeds each; empty where it was not measured."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows = rows[(rows.metric == "accuracy") & (rows.model == STANDARD.model)].sort_values("seed")

    def clean(self, defence: str) -> pd.DataFrame:
        return self._of("clean", defence)

    def moved(self, defence: str, eps: float) -> np.ndarray:
        return self._of("transfer", defence, eps).value.to_numpy(float)

    def moved_rows(self, defence: str, eps: float) -> pd.DataFrame:
        return self._of("transfer", defence, eps)

    def under_pgd(self, defence: str, eps: float) -> pd.DataFrame:
        part = self._of("strong", defence, eps)
        return part[part.attack.astype(str).str.startswith("pgd")]

    def _of(self, exhibit: str, defence: str, eps: float | None = None) -> pd.DataFrame:
        part = self._rows[(self._rows.exhibit == exhibit) & (self._rows.defence == defence)]
        return part if eps is None else part[np.isclose(part.eps.astype(float), eps)]


def _v_a(cells: _Cells) -> Iterator[dict[str, Any]]:
    yield target_row("V-a", "clean accuracy, undefended", metrics.over_seeds(cells.clean("none")), 0.829, 0.869, CLEAN)


def _v_b(cells: _Cells) -> Iterator[dict[str, Any]]:
    for eps, said in UNDEFENDED.items():
        below, above = _UNDEFENDED_BANDS.get(eps, (nan, nan))
        low = None if eps in _UNDEFENDED_LIMITS else round(said + below, 4)
        high = _UNDEFENDED_LIMITS.get(eps, round(said + above, 4))
        figure = metrics.over_seeds(cells.moved_rows("none", eps))
        yield target_row("V-b", f"accuracy under FGSM-MSE, undefended, eps = {eps:g}", figure, low, high, said)


def _v_c(cells: _Cells, best: str) -> Iterator[dict[str, Any]]:
    for eps, said in DEFENDED.items():
        band = _DEFENDED_BANDS[eps]
        figure = metrics.over_seeds(cells.moved_rows(best, eps))
        metric = f"accuracy on the standard network's images, {best or 'no reading'} (nearest reading), eps = {eps:g}"
        yield target_row("V-c", metric, figure, round(said - band, 4), round(said + band, 4), said)


def _v_d(cells: _Cells, best: str) -> Iterator[dict[str, Any]]:
    grid = [eps for eps in DEFENDED if cells.moved(best, eps).size]
    leads = [cells.moved(best, eps) - cells.moved("none", eps) for eps in grid]
    said = min(DEFENDED[eps] - UNDEFENDED[eps] for eps in DEFENDED)
    lead = np.min(leads, axis=0) if leads else np.array([])
    yield target_row(
        "V-d", "smallest lead of the defended over the undefended", metrics.mean(lead), 0.0, None, round(said, 4)
    )
    column = np.stack([cells.moved(best, eps) for eps in grid]) if grid else np.empty((0, 0))
    rises = np.diff(column, axis=0).max(0) if len(grid) > 1 else np.array([])
    said = max(np.diff(list(DEFENDED.values())))
    metric = "largest rise of the defended from one eps to the next"
    yield target_row("V-d", metric, metrics.mean(rises), None, 0.0, round(float(said), 4))


def _v_e(cells: _Cells, best: str) -> Iterator[dict[str, Any]]:
    """ "Well below" is ten points."""
    for eps in (eps for eps in DEFENDED if eps >= 0.01):
        moved, own = cells.moved_rows(best, eps), cells.under_pgd(best, eps)
        moved = moved[moved.seed.isin(own.seed)]
        metric = f"transfer column minus accuracy under PGD on the network itself, eps = {eps:g}"
        yield target_row("V-e", metric, metrics.difference(metrics.over_seeds(moved), metrics.over_seeds(own)), 0.1)


def show(run: Run, picture: Mapping[str, np.ndarray], eps: float) -> None:
    """Put every exhibit that was measured on the page."""
    rows = run.results()
    _show_table(run, rows)
    _show_readings(run, rows)
    _show_columns(run, rows)
    _show_zero(run, rows)
    _show_picture(run, picture, eps)
    _show_pooling(run, rows)
    _show_autoattack(run, rows)
    defences.show(run, rows)
    _show_curves(run)


def _show_table(run: Run, rows: pd.DataFrame) -> None:
    part = rows[(rows.exhibit == "transfer") & (rows.metric == "accuracy")]
    long = over_seeds(part, ["defence", "eps"]).assign(eps=lambda table: table.eps.map("{:g}".format))
    losses = rows[(rows.metric == "loss") & (rows.defence == STANDARD.name) & (rows.model == STANDARD.model)]
    said = over_seeds(losses, ["exhibit", "eps"]).dropna(subset=["reported"])
    told = "; ".join(
        f"{'clean' if row.exhibit == 'clean' else f'eps {row.eps:g}'} {row.mean:.3f} (report {row.reported:g})"
        for row in said.itertuples()
    )
    run.exhibit(
        "table",
        "The report's table: accuracy on the FGSM images of the undefended network",
        "FGSM through the squared error, not clipped, made on the undefended network (defence none) and shown to every network: "
        "for the defended ones this is transfer, and so, by the author's code, is the report's second column (the line across each "
        "bar). Mean over the seeds with the lowest and the highest. Loss with its penalty of the undefended network: "
        + told
        + ".",
        charts.bars(long, "eps", "mean", "defence", "accuracy", error=("lowest", "highest"), mark="reported"),
        long,
        targets=("V-a", "V-b", "V-c", "V-d"),
    )


def _show_readings(run: Run, rows: pd.DataFrame) -> None:
    distances = _distances(rows)
    if not distances:
        return
    clean = over_seeds(rows[(rows.exhibit == "clean") & (rows.metric == "accuracy")], ["model", "defence"])
    clean = clean[clean.model == STANDARD.model].set_index("defence")["mean"]
    meaning = {
        "V1": "an eps for each image, as the report says; images made on the trained network",
        "V2": "one eps drawn for all, as the code does; on the trained network",
        "V3": "one eps for all; images made on an untrained network, as a stored block of the code does",
    }
    table = pd.DataFrame(
        [
            {"reading": name, "means": meaning[name], "clean accuracy": clean[name], "mean distance": distance}
            for name, distance in sorted(distances.items(), key=lambda item: item[1])
        ]
    )
    run.exhibit(
        "readings",
        "Which reading of the defence fits the report?",
        "Mean absolute distance of the transfer column to the report's, nearest first. What was run is not known; V-c to V-e "
        "are judged on the nearest, which was chosen for that, so they show what the report can be and not what it was.",
        table=table,
        targets=("V-c",),
    )


def _show_columns(run: Run, rows: pd.DataFrame) -> None:
    part = rows[(rows.metric == "accuracy") & rows.exhibit.isin(["transfer", "white box", "strong"])]
    part = part[part.attack.notna() & (part.model == STANDARD.model)]
    part = part[~((part.exhibit == "strong") & (part.attack == "fgsm-ce"))]
    named = part.assign(
        column=np.where(part.exhibit == "transfer", "transfer, fgsm-mse", "own, " + part.attack),
        eps=part.eps.map("{:g}".format),
    )
    long = over_seeds(named, ["defence", "eps", "column"])
    wide = long.pivot_table(index=["defence", "eps"], columns="column", values="mean", sort=False).reset_index()
    best = best_reading(rows)
    run.exhibit(
        "columns",
        "Transfer beside white box",
        f"The defended network {best or '(none was trained)'}, the reading nearest to the report, under images made on the undefended "
        "network and under attacks on itself; in the table every network. FGSM is not clipped, as in the report; PGD, with "
        "restarts and after FGSM, is confined to [0, 1] and counts images that nothing beat, of the first seed.",
        charts.bars(
            long[long.defence == (best or STANDARD.name)],
            "eps",
            "mean",
            "column",
            "accuracy",
            error=("lowest", "highest"),
        ),
        wide,
        targets=("V-e",),
    )


def _show_zero(run: Run, rows: pd.DataFrame) -> None:
    table = over_seeds(rows[rows.metric == "zero_gradient"], ["model", "defence", "attack"])
    run.exhibit(
        "zero-gradient",
        "Images that FGSM does not move",
        "Share of the test images at which the gradient of the loss is exactly zero in float32, where sgn leaves the image as it "
        "is: the squared error of a saturated softmax underflows, cross-entropy hardly does.",
        table=table.drop(columns="reported"),
    )


def _show_picture(run: Run, picture: Mapping[str, np.ndarray], eps: float) -> None:
    cells = []
    for i, x in enumerate(picture["x"]):
        direction = picture["direction"][i].astype(np.float32)
        row = f"{i + 1}: class {picture['y'][i]} -> {picture['predicted'][i]}"
        cells += [
            (row, "original", x),
            (row, "noise", 0.5 + direction / 2),
            (row, "attacked", np.clip(x + eps * direction, 0, 1)),
        ]
    run.exhibit(
        "picture",
        "Original + noise = attacked image",
        f"FGSM through the squared error on the undefended network at eps = {eps:g}; each row says what it predicts before and "
        "after. The noise is drawn from -eps (black) to eps (white), the attacked image clipped to [0, 1] for display only.",
        pictures.grid(cells),
    )


def _show_pooling(run: Run, rows: pd.DataFrame) -> None:
    part = rows[
        (rows.defence == STANDARD.name) & (rows.metric == "accuracy") & rows.exhibit.isin(["clean", "white box"])
    ]
    if part.model.nunique() < 2:
        return
    named = part.assign(
        under=part.attack.fillna("clean") + part.eps.map(lambda eps: "" if eps != eps else f", {eps:g}")
    )
    table = over_seeds(named, ["model", "under"])
    run.exhibit(
        "pooling",
        "Maximum or average pooling",
        "The undefended network with either, clean and under FGSM on itself. The report found maximum pooling slightly better.",
        table=table.pivot_table(index="model", columns="under", values="mean", sort=False).reset_index(),
    )


def _show_autoattack(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "autoattack"].assign(attack=lambda table: table.attack.fillna("clean"))
    if part.empty:
        return
    run.exhibit(
        "autoattack",
        "What AutoAttack leaves",
        f"Accuracy after each attack and all before it, on the same {int(part.n.iloc[0])} images, confined to [0, 1], "
        f"eps = {part.eps.iloc[0]:g}; first seed.",
        charts.bars(part, "defence", "value", "attack", "accuracy", error=("ci_low", "ci_high")),
        part[["defence", "attack", "value", "n", "ci_low", "ci_high"]],
    )


def _show_curves(run: Run) -> None:
    mean = histories(run, ["loss", "watched_accuracy"])
    run.exhibit(
        "curves",
        "Training curves",
        "Accuracy on the first test images after each epoch, mean over the seeds; nothing is selected by it. An epoch of a defended "
        "network holds every image twice, clean and adversarial. The table also holds the training loss.",
        charts.curves(mean, "epoch", "watched_accuracy", "training", "accuracy"),
        mean,
    )
