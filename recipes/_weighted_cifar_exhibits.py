"""What report 003 states, the targets G1-G6 and the exhibits of ``weighted_cifar``, from its result rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from advbench import metrics
from advbench.metrics import Figure
from advbench.recipes import _cifar_defences as defences
from advbench.recipes._exhibits import histories, over_seeds, target_row
from advbench.report import charts
from advbench.study.run import Run

CLEAN = 0.628
_ATTACKS = {"fgsm": {0.001: 0.564, 0.01: 0.201, 0.1: 0.001}, "pga": {0.001: 0.564, 0.01: 0.126, 0.1: 0.0}}
_TARGETED = {"fgsm": {0.001: 0.08, 0.01: 0.23, 0.1: 0.59}, "pgd": {0.001: 0.08, 0.01: 0.33, 0.1: 1.0}}
_NATURAL = {0.001: 0.623, 0.01: 0.540, 0.1: 0.249}
_PERTURBED = {0.001: 0.601, 0.01: 0.818, 0.1: 0.960}
_BANDS = {"fgsm": {0.001: 0.03, 0.01: 0.06}, "pga": {0.001: 0.03, 0.01: 0.06}}
_LIMITS = {"fgsm": 0.02, "pga": 0.01}
_NATURAL_BANDS = {0.001: 0.03, 0.01: 0.05, 0.1: 0.10}
ALONE = "fgsm, alpha 0"
"""The report's defence: FGSM images alone."""


def reported_attack(attack: str | None, eps: float | None) -> float | None:
    """The report's accuracy of its undefended network."""
    if attack is None:
        return CLEAN
    return _ATTACKS.get(attack, {}).get(eps or nan)


def reported_target(attack: str | None, eps: float | None) -> float | None:
    """The report's rate of targeted attacks; of which images it is, is not said."""
    return _TARGETED.get(attack or "", {}).get(eps or nan)


def reported_defence(defence: str, eps: float, attack: str | None) -> float | None:
    """The report's natural and perturbed accuracy of a network trained at eps, and of the undefended one."""
    if defence == "standard" and eps == 0.01:
        return {None: CLEAN, "fgsm, true label": _ATTACKS["fgsm"][0.01]}.get(attack)
    if defence != ALONE:
        return None
    return {None: _NATURAL, "fgsm, true label": _PERTURBED}.get(attack, {}).get(eps)


def targets(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a part of a target: the mean over the seeds, the report's number and what is accepted; NaN if not measured."""
    return [row for rule in (_g1_g2_g3, _g4, _g5, _g6) for row in rule(_Cells(rows))]


class _Cells:
    """Figures over the seeds, and arrays of their values; empty where a cell was not measured."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows = rows.assign(attack=rows.attack.fillna("clean")).sort_values("seed")

    def of(
        self, exhibit: str, attack: str, eps: float | None, metric: str = "accuracy", defence: str = "standard"
    ) -> pd.DataFrame:
        part = self._rows[(self._rows.exhibit == exhibit) & (self._rows.metric == metric)]
        part = part[part.attack.str.startswith(attack) if attack == "pgd," else part.attack == attack]
        part = part[part.defence == defence]
        return part if eps is None else part[np.isclose(part.eps.astype(float), eps)]

    def values(self, *cell: Any, **of: Any) -> np.ndarray:
        return self.of(*cell, **of).value.to_numpy(float)


def _extreme(differences: list[np.ndarray], highest: bool) -> Figure:
    """The largest or smallest of several differences in each seed, mean over the seeds; NaN if one was not measured."""
    if not differences or not all(values.size for values in differences):
        return Figure(nan, 0)
    stacked = np.stack(differences)
    return metrics.mean(stacked.max(0) if highest else stacked.min(0))


def _g1_g2_g3(cells: _Cells) -> Iterator[dict[str, Any]]:
    clean = cells.of("attacks", "clean", None)
    yield target_row("G1", "clean accuracy, undefended", metrics.over_seeds(clean), 0.608, 0.648, CLEAN)
    for target, attack, name in (("G2", "fgsm", "FGSM"), ("G3", "pga", "PGA")):
        for eps, said in _ATTACKS[attack].items():
            band = _BANDS[attack].get(eps)
            low = None if band is None else round(said - band, 4)
            high = _LIMITS[attack] if band is None else round(said + band, 4)
            figure = metrics.over_seeds(cells.of("attacks", attack, eps))
            yield target_row(target, f"accuracy under {name}, eps = {eps:g}", figure, low, high, said)
    gaps = [cells.values("attacks", "pga", eps) - cells.values("attacks", "fgsm", eps) for eps in _ATTACKS["pga"]]
    metric = "largest lead of accuracy under PGA over that under FGSM, at any eps"
    yield target_row("G3", metric, _extreme(gaps, highest=True), None, 0.0, 0.0)


def _g4(cells: _Cells) -> Iterator[dict[str, Any]]:
    rate = "target_rate_all"
    leads = [
        cells.values("targeted", "pgd", eps, metric=rate) - cells.values("targeted", "fgsm", eps, metric=rate)
        for eps in _TARGETED["pgd"]
    ]
    metric = "smallest lead of targeted PGD over targeted FGSM, at any eps"
    yield target_row("G4", metric, _extreme(leads, highest=False), 0.0, None, 0.0)
    for attack, low, high in (("pgd", 0.97, None), ("fgsm", 0.45, 0.75)):
        figure = metrics.over_seeds(cells.of("targeted", attack, 0.1, metric=rate))
        yield target_row(
            "G4",
            f"share called deer under targeted {attack.upper()}, eps = 0.1",
            figure,
            low,
            high,
            _TARGETED[attack][0.1],
        )


def _g5(cells: _Cells) -> Iterator[dict[str, Any]]:
    natural = {eps: cells.of("defence", "clean", eps, defence=ALONE) for eps in _NATURAL}
    for eps, said in _NATURAL.items():
        band = _NATURAL_BANDS[eps]
        figure = metrics.over_seeds(natural[eps])
        metric = f"clean accuracy, trained on FGSM alone, eps = {eps:g}"
        yield target_row("G5", metric, figure, round(said - band, 4), round(said + band, 4), said)
    values = [natural[eps].value.to_numpy(float) for eps in _NATURAL]
    steps = [b - a for a, b in pairwise(values) if a.size == b.size]
    figure = _extreme(steps if len(steps) == len(values) - 1 else [], highest=True)
    yield target_row("G5", "largest rise of it from one eps to the next", figure, None, 0.0, -0.083)


def _g6(cells: _Cells) -> Iterator[dict[str, Any]]:
    """The signature of label leaking: FGSM with the true label helps, an attack that cannot write the label does not."""
    for eps in (0.01, 0.1):
        natural = metrics.over_seeds(cells.of("defence", "clean", eps, defence=ALONE))
        perturbed = metrics.over_seeds(cells.of("defence", "fgsm, true label", eps, defence=ALONE))
        said = round(_PERTURBED[eps] - _NATURAL[eps], 4)
        metric = f"accuracy under true-label FGSM minus clean accuracy, trained on FGSM alone, eps = {eps:g}"
        yield target_row("G6", metric, metrics.difference(perturbed, natural), 0.0, None, said)
        natural = metrics.over_seeds(cells.of("strong", "clean", eps, defence=ALONE))
        perturbed = metrics.over_seeds(cells.of("strong", "pgd,", eps, defence=ALONE))
        metric = f"the same under PGD, eps = {eps:g}"
        yield target_row("G6", metric, metrics.difference(perturbed, natural), None, 0.0)


def show(run: Run, confusion: Mapping[str, np.ndarray], classes: Sequence[str]) -> None:
    """Put every exhibit that was measured on the page."""
    rows = run.results()
    _show_attacks(run, rows)
    _show_targeted(run, rows)
    _show_confusion(run, confusion, classes)
    _show_defence(run, rows)
    _show_alpha(run, rows)
    _show_leak(run, rows)
    _show_autoattack(run, rows)
    defences.show(run, rows)
    _show_overfitting(run)


def _text(values: pd.Series) -> pd.Series:
    return values.map(lambda value: "" if value != value else f"{value:g}")


def _show_attacks(run: Run, rows: pd.DataFrame) -> None:
    part = rows[(rows.exhibit == "attacks") & rows.attack.notna()]
    table = over_seeds(part, ["attack", "eps"]).assign(eps=lambda table: _text(table.eps))
    clean = rows[(rows.exhibit == "attacks") & rows.attack.isna()].value.mean()
    main = table[table.attack.isin(["fgsm", "pga"])]
    run.exhibit(
        "attacks",
        "The undefended network under FGSM and PGA",
        f"Clean accuracy {clean:.3f} (report {CLEAN:g}). Mean over the seeds with the lowest and the highest; the line is the report's. "
        "The report prints the step of PGA once as eps/4 and once with a stray digit, eps/40, and does not say whether images are "
        "clipped: the table has each.",
        charts.bars(main, "eps", "mean", "attack", "accuracy", error=("lowest", "highest"), mark="reported"),
        table,
        targets=("G1", "G2", "G3"),
    )


def _show_targeted(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "targeted"].assign(base=lambda table: table.metric.str.removeprefix("target_rate_"))
    table = over_seeds(part, ["attack", "eps", "base"]).assign(eps=lambda table: _text(table.eps))
    main = table[(table.base == "all") & (table.attack != "clean")]
    run.exhibit(
        "targeted",
        "How often an image is called a deer",
        "Targeted FGSM and PGD with 30 steps of eps/4 on the undefended network. Base all: every test image; other: those that are no "
        "deer; moved: of these, those that were not called a deer before. The report does not say which it counts; its numbers "
        "stand beside the first. Without attack (clean) the rate is not zero.",
        charts.bars(main, "eps", "mean", "attack", "share called deer", error=("lowest", "highest"), mark="reported"),
        table.pivot_table(index=["attack", "eps"], columns="base", values="mean", sort=False).reset_index(),
        targets=("G4",),
    )


def _show_confusion(run: Run, confusion: Mapping[str, np.ndarray], classes: Sequence[str]) -> None:
    titles = {"clean": "clean images", "fgsm": "FGSM", "pga": "PGA", "targeted-pga": "PGD towards deer"}
    for name, title in titles.items():
        counts = confusion[name]
        cells = pd.DataFrame(
            [
                {"true": classes[i], "predicted": classes[j], "value": counts[i, j] / max(counts[i].sum(), 1)}
                for i in range(len(classes))
                for j in range(len(classes))
            ]
        )
        run.exhibit(
            f"confusion-{name}",
            f"Confusion of the undefended network: {title}",
            f"Share of each true class, {int(counts.sum())} test images, at the reference eps, first seed.",
            charts.heat_map(cells, "predicted", "true", (0, 1), "share of the true class"),
        )


def _show_defence(run: Run, rows: pd.DataFrame) -> None:
    part = rows[(rows.exhibit == "defence") & rows.defence.isin(["standard", ALONE])]
    table = over_seeds(part, ["defence", "eps", "attack"])
    table = table.assign(trained=np.where(table.defence == "standard", "standard", "eps " + _text(table.eps)))
    order = {"standard": 0}
    table = table.sort_values("eps", key=lambda eps: eps, kind="stable").sort_values(
        "trained", key=lambda names: names.map(order).fillna(1), kind="stable"
    )
    run.exhibit(
        "defence",
        "Trained on FGSM images alone (alpha = 0)",
        "One network for each eps, attacked at the eps of its training; the undefended one at the reference eps. Accuracy under "
        "true-label FGSM above the clean one is no robustness: the perturbation carries the label.",
        charts.bars(table, "trained", "mean", "attack", "accuracy", error=("lowest", "highest"), mark="reported"),
        table.drop(columns="trained"),
        targets=("G5",),
    )


def _show_alpha(run: Run, rows: pd.DataFrame) -> None:
    usual = rows[rows.exhibit.isin(["defence", "strong"]) & rows.defence.str.startswith("fgsm, alpha").fillna(False)]
    usual = usual[(usual.exhibit == "defence") | usual.attack.fillna("").str.startswith("worst")]
    table = over_seeds(usual, ["defence", "eps", "attack"])
    table["alpha"] = table.defence.str.removeprefix("fgsm, alpha ").astype(float)
    several = table.groupby("eps").alpha.nunique()
    shown = table[table.eps.isin(several[several > 1].index)]
    shown = shown.assign(line="eps " + _text(shown.eps) + ", " + shown.attack).sort_values("alpha")
    everything = over_seeds(rows[rows.exhibit.isin(["defence", "strong"])], ["defence", "eps", "attack"])
    run.exhibit(
        "alpha",
        "The whole weighted loss",
        "alpha J(x) + (1 - alpha) J(p(x)) over alpha, p FGSM at the eps at which it is attacked. In the table every network: pgd has PGD "
        "in place of FGSM, several has FGSM at every eps in one loss.",
        charts.curves(shown, "alpha", "mean", "line", "accuracy") if len(shown) else None,
        everything.pivot_table(index=["defence", "eps"], columns="attack", values="mean", sort=False).reset_index(),
    )


def _show_leak(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit.isin(["defence", "strong"]) & (rows.defence == ALONE)]
    part = part[~((part.exhibit == "strong") & part.attack.isna())]
    table = over_seeds(part, ["eps", "attack"]).assign(eps=lambda table: "eps " + _text(table.eps))
    run.exhibit(
        "leak",
        "The leaked label, and the same networks without it",
        "Trained on FGSM images alone. FGSM of the true label tells the network what to say; of the predicted label it cannot. PGD is "
        "one start on every image, on the first images of the first seed; the worst case counts an image as right only if "
        "nothing beat it.",
        charts.bars(table, "eps", "mean", "attack", "accuracy", error=("lowest", "highest")),
        table,
        targets=("G6",),
    )


def _show_autoattack(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "autoattack"].assign(attack=lambda table: table.attack.fillna("clean"))
    if part.empty:
        return
    part = part.assign(network=part.defence + ", eps " + _text(part.eps))
    run.exhibit(
        "autoattack",
        "What AutoAttack leaves",
        f"Accuracy after each attack and all before it, on the same {int(part.n.iloc[0])} images; first seed.",
        charts.bars(part, "network", "value", "attack", "accuracy", error=("ci_low", "ci_high")),
        part[["network", "attack", "value", "n", "ci_low", "ci_high"]],
    )


def _show_overfitting(run: Run) -> None:
    watched = ["watched_clean", "watched_fgsm", "watched_pgd"]
    table = histories(run, ["loss", *watched])
    alone = table[table.training.str.fullmatch(r"fgsm-eps[^-]+-alpha0")]
    long = alone.melt(["training", "epoch"], watched[1:], "attack", "accuracy")
    long["line"] = long.training.str.removesuffix("-alpha0") + ", " + long.attack.str.removeprefix("watched_")
    run.exhibit(
        "overfitting",
        "Is the overfitting catastrophic?",
        "Accuracy on validation images under FGSM and PGD after each epoch of the networks trained on FGSM alone, mean over the seeds. "
        "Where FGSM rises while PGD falls, the network learns to spoil the one step that it is trained on. The table has every "
        "training.",
        charts.curves(long, "epoch", "accuracy", "line", "accuracy"),
        table,
    )
