"""The targets H1-H6 and the exhibits of ``gan_mnist``, from its result rows and the pictures that it kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt

import numpy as np
import pandas as pd

from advbench.metrics import Figure
from advbench.recipes import _gan_mnist_charts as charts
from advbench.recipes._exhibits import over_seeds, target_row
from advbench.recipes._gan_mnist_lab import VARIANTS
from advbench.study.run import Run

MODES = {"consecutive": "none", "alternating": "alternating"}
"""How C1 is trained in each of the report's modes, as the column defence has it."""


def targets(rows: pd.DataFrame) -> list[dict]:
    """One row a part of a target: our mean over seeds, the report's number and what is accepted; NaN if not measured."""
    return [row for rule in (_h1, _h2, _h3, _h4, _h5, _h6) for row in rule(rows)]


def _seeds(rows: pd.DataFrame, exhibit: str, metric: str, name: str, **columns: object) -> pd.DataFrame:
    """The rows of one model, a seed each, indexed by its number."""
    part = rows[(rows.exhibit == exhibit) & (rows.metric == metric)]
    for column, value in columns.items():
        close = np.isclose(part[column].astype(float), value) if isinstance(value, float) else part[column] == value
        part = part[close]
    named = part.model.astype(str).str.extract(r"^(?P<name>.+), seed (?P<seed>\d+)$")
    part = part.assign(model=named.name, number=named.seed)
    return part[part.model == name].set_index("number")


def _mean(values: pd.DataFrame | pd.Series) -> tuple[Figure, str]:
    """The mean over seeds with Student's 95 % interval, and its spread in words; of one seed, its own figure."""
    if isinstance(values, pd.DataFrame) and len(values) == 1:
        only = values.iloc[0]
        return Figure(only.value, int(only.n), only.ci_low, only.ci_high), ", one seed"
    numbers = values.value if isinstance(values, pd.DataFrame) else values.dropna()
    k = len(numbers)
    if k < 2:
        return Figure(numbers.mean(), k), ", one seed" if k else ""
    from scipy.stats import t

    half = float(t.ppf(0.975, k - 1)) * numbers.std() / sqrt(k)
    words = f", mean of {k} seeds, {numbers.min():.3f} to {numbers.max():.3f}"
    return Figure(numbers.mean(), k, numbers.mean() - half, numbers.mean() + half), words


def _attacked(rows: pd.DataFrame, mode: str, name: str, t: float, metric: str = "attacked_accuracy") -> pd.DataFrame:
    return _seeds(rows, "attacked", metric, name, fit_attack=mode, eps=t)


def _bounds(rows: pd.DataFrame) -> list[float]:
    return sorted(rows[rows.exhibit == "attacked"].eps.astype(float).unique())


def _h1(rows: pd.DataFrame) -> Iterator[dict]:
    for name in ("C1", "C2"):
        figure, spread = _mean(_seeds(rows, "clean", "clean_accuracy", name))
        yield target_row("H1", f"clean accuracy of {name}{spread}", figure, 0.987, None, 0.99)


def _h2(rows: pd.DataFrame) -> Iterator[dict]:
    for t, low, high, reported in ((0.04, 0.7, 0.9, 0.8), (0.08, 0.1, 0.4, 0.2)):
        figure, spread = _mean(_attacked(rows, "consecutive", "C1", t))
        yield target_row(
            "H2", f"attacked accuracy of the consecutive C1, t = {t:g}{spread}", figure, low, high, reported
        )
    large = [_mean(_attacked(rows, "consecutive", "C1", t)) for t in _bounds(rows) if t >= 0.16]
    figure, spread = max(large, key=lambda pair: pair[0].value, default=(Figure(float("nan"), 0), ""))
    yield target_row("H2", f"the largest of the same at any t of at least 0.16{spread}", figure, None, 0.2, 0.1)


def _h3(rows: pd.DataFrame) -> Iterator[dict]:
    for t, low, high, reported in ((0.04, 0.96, None, None), (0.08, 0.8, 0.97, 0.9)):
        figure, spread = _mean(_attacked(rows, "consecutive", "C2", t))
        yield target_row(
            "H3", f"attacked accuracy of the consecutive C2, t = {t:g}{spread}", figure, low, high, reported
        )
    leads = [
        _mean(_attacked(rows, "consecutive", "C2", t).value - _attacked(rows, "consecutive", "C1", t).value)
        for t in _bounds(rows)
    ]
    figure, spread = min(leads, key=lambda pair: pair[0].value, default=(Figure(float("nan"), 0), ""))
    yield target_row("H3", f"the smallest lead of C2 over C1 at any t{spread}", figure, 0.0)


def _h4(rows: pd.DataFrame) -> Iterator[dict]:
    figure, spread = _mean(_attacked(rows, "alternating", "C1", 0.04))
    yield target_row("H4", f"attacked accuracy of the alternating C1, t = 0.04{spread}", figure, 0.96)
    for t in (0.04, 0.08):
        lead = _attacked(rows, "alternating", "C1", t).value - _attacked(rows, "consecutive", "C1", t).value
        figure, spread = _mean(lead)
        yield target_row("H4", f"its lead over the consecutive C1, t = {t:g}{spread}", figure, 0.1)


def _h5(rows: pd.DataFrame) -> Iterator[dict]:
    grid = _bounds(rows)
    for mode, claimed in (("consecutive", 0.04), ("alternating", 0.08)):
        drops = {}
        for t in grid:
            clean, under = (
                _attacked(rows, mode, "C1", t, metric) for metric in ("clean_accuracy", "attacked_accuracy")
            )
            drops[t] = float((clean.value - under.value).mean())
        of = f"t of {', '.join(f'{t:g}' for t in grid)}"
        if grid and max(drops.values()) <= 0.05:
            metric = f"the largest drop in accuracy of the {mode} C1 at any {of}"
            yield target_row("H5", metric, Figure(max(drops.values()), 0), 0.05)
        else:
            metric = f"smallest {of} with a mean drop of more than 5 points, {mode} C1"
            first = next((t for t in grid if drops[t] > 0.05), float("nan"))
            yield target_row("H5", metric, Figure(first, 0), claimed, claimed, claimed)


def _h6(rows: pd.DataFrame) -> Iterator[dict]:
    """The report has no number; the lead is asked to be that of H4, since PGD is the same bound."""
    for t in (0.04, 0.08):
        under = {m: _seeds(rows, "pgd", "attacked_accuracy", "C1", defence=d, eps=t) for m, d in MODES.items()}
        figure, spread = _mean(under["alternating"].value - under["consecutive"].value)
        yield target_row(
            "H6", f"lead of the alternating C1 over the consecutive under PGD, t = {t:g}{spread}", figure, 0.1
        )


def show(run: Run, grid: tuple[float, ...], picture: Mapping[str, np.ndarray]) -> None:
    """Put every exhibit that was measured on the page."""
    rows = run.results()
    _perturbations(run, grid, picture)
    _curves(run, rows)
    _against_t(run, rows)
    _compared(run, rows)
    _pgd(run, rows)
    _crossed(run, rows)
    _variants(run, rows)


def _over_seeds(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean, lowest and highest value over the seeds of each group, whose models are named with their seed."""
    return over_seeds(rows.assign(model=rows.model.str.partition(",")[0]), by).drop(columns="reported")


def _perturbations(run: Run, grid: tuple[float, ...], picture: Mapping[str, np.ndarray]) -> None:
    run.exhibit(
        "perturbations",
        "Originals, perturbations and attacks",
        "Two digits and the attackers of the consecutive mode, first seed. A perturbation is drawn from -t (black) to t "
        "(white), an attack clipped to [0, 1].",
        charts.pictures(picture["images"], picture["perturbations"], grid),
    )


def _curves(run: Run, rows: pd.DataFrame) -> None:
    part = rows[(rows.exhibit == "curves") & (rows.attack == "gan")].rename(columns={"position": "epoch", "eps": "t"})
    for mode in MODES:
        for metric, title in (
            ("attacked_accuracy", "Attacked accuracy"),
            ("attacked_loss", "Attacked loss, log scale"),
        ):
            mine = part[(part.fit_attack == mode) & (part.metric == metric)]
            table = _over_seeds(mine, ["model", "t", "epoch"])
            run.exhibit(
                f"{mode}-{metric.removeprefix('attacked_')}",
                f"{title}, {mode} mode",
                f"After each epoch of the attacker, on {int(mine.n.iloc[0])} test images; mean over the seeds with the lowest "
                "and the highest. The attacker is trained on C1; C2 has never met it and has finished its training.",
                charts.curves(table, log=metric == "attacked_loss", title=title),
                table,
            )


def _against_t(run: Run, rows: pd.DataFrame) -> None:
    part = rows[(rows.exhibit == "attacked") & rows.metric.str.contains("accuracy")].rename(columns={"eps": "t"})
    mean = _over_seeds(part, ["fit_attack", "model", "t", "metric"])
    wide = mean.pivot_table(
        index=["fit_attack", "model", "t"], columns="metric", values="mean", sort=False
    ).reset_index()
    main = mean[mean.metric == "attacked_accuracy"].assign(classifier=mean.model + ", " + mean.fit_attack)
    run.exhibit(
        "accuracy",
        "Attacked accuracy against t",
        "At the end of training, mean over the seeds with the lowest and the highest. In the table the same with x + A(x) "
        "clipped to [0, 1], and with the attacker's batch norm on batch statistics, as the report's prototype has it.",
        charts.against_t(main, "classifier", "attacked accuracy"),
        wide,
        targets=("H1", "H2", "H3", "H5"),
    )


def _compared(run: Run, rows: pd.DataFrame) -> None:
    part = rows[(rows.exhibit == "curves") & (rows.attack == "gan") & rows.model.str.startswith("C1")]
    part = part[(part.metric == "attacked_accuracy") & part.eps.isin([0.04, 0.08])]
    if part.empty:
        return
    part = part.rename(columns={"position": "epoch", "eps": "t", "fit_attack": "mode"})
    table = _over_seeds(part, ["mode", "t", "epoch"])
    run.exhibit(
        "compared",
        "Consecutive against alternating",
        "Attacked accuracy of C1 at t = 0.04 and 0.08. The report: a C1 that learns along with its attacker is hurt far less.",
        charts.curves(table.assign(model=table["mode"]), log=False, title="Attacked accuracy"),
        table,
        targets=("H4",),
    )


def _pgd(run: Run, rows: pd.DataFrame) -> None:
    part = rows[(rows.exhibit == "pgd")].rename(columns={"eps": "t"})
    mean = _over_seeds(part, ["defence", "attack", "t"])
    run.exhibit(
        "pgd",
        "Which attack would break this? PGD on both C1's",
        "The bound is the attacker's t. The worst case counts an image as right only if PGD, the C1's own attacker and that "
        "of the other mode, clipped to [0, 1], all left it so.",
        charts.against_t(mean.assign(classifier=mean.defence + ", " + mean.attack), "classifier", "accuracy"),
        mean,
        targets=("H6",),
    )


def _crossed(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "crossed"].rename(columns={"eps": "t", "fit_attack": "attacker"})
    table = _over_seeds(part, ["defence", "attacker", "t"])
    run.exhibit(
        "crossed",
        "Attackers of one mode on the C1 of the other",
        "An attacker that was trained on another classifier, the consecutive C1, against the alternating C1, and the reverse.",
        charts.against_t(
            table.assign(pair=table.attacker + " A on C1 of " + table.defence), "pair", "attacked accuracy"
        ),
        table,
    )


def _variants(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "variants"]
    if part.empty:
        return
    plain = rows[(rows.exhibit == "attacked") & rows.eps.isin(part.eps) & rows.model.isin(part.model)]
    both = pd.concat([plain, part])
    both = both[
        both.metric.isin(["attacked_accuracy", "attacked_accuracy_clipped", "attacked_accuracy_batch_statistics"])
    ]
    mean = _over_seeds(both.rename(columns={"eps": "t"}), ["fit_attack", "attack", "model", "t", "metric"])
    index = ["attack", "fit_attack", "t", "model"]
    told = "; ".join(f"{name}: {VARIANTS[name]}" for name in VARIANTS if f"gan-{name}" in set(part.attack))
    run.exhibit(
        "variants",
        "Other attackers and other defences at one t",
        f"Against the plain attacker (gan) of each mode, in the same seeds. {told}. C2 is in no attacker's training.",
        table=mean.pivot_table(index=index, columns="metric", values="mean", sort=False).reset_index(),
    )
