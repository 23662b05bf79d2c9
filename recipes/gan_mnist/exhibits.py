"""The exhibits of ``gan-mnist``, from its result rows; the first one shows images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from advbench.metrics import lead, over_seeds, share, spread, where
from advbench.recipes.gan_mnist.claims import LEAST_LEAD
from advbench.recipes.gan_mnist.materials import MODES, Game, Networks
from advbench.report import charts, pictures
from advbench.study import Finding, Shown, exhibit

ATTACKED = ("attacked_accuracy", "attacked_accuracy_clipped", "attacked_accuracy_batch_statistics")
ACCURACIES = ("clean_accuracy", *ATTACKED, "attacked_accuracy_batch_statistics_clipped")

VARIANTS = {
    "clamp": "the attacker's tanh is clamped to [-t, t], not scaled by t",
    "output-batch-norm": "batch norm before the attacker's tanh",
    "ensemble": "the attacker is trained on the average loss of several classifiers",
    "fresh": "a new attacker is trained on the frozen C1 of the alternating mode",
    "half-clean": "half of each batch of the alternating C1 is clean",
    "five-steps": "the attacker of the alternating mode takes five steps for each of C1",
}


def _over_seeds(rows: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Mean, lowest and highest value of each group; an attacker is named by the mode in which it was trained."""
    return spread(rows.rename(columns={"source": "attacker"}), *by).drop(columns="reported")


def _lines(
    table: pd.DataFrame, x: str, colour: str, title: str, scale: charts.Scale = "share", panel: str | None = None
) -> Any:
    table = table.assign(t=table.t.map("{:g}".format))
    return charts.lines(table, x, "mean", colour, x, title, ("lowest", "highest"), scale, panel)


@exhibit("Originals, perturbations and attacks")
def perturbations(rows: pd.DataFrame, made: Networks) -> Shown:
    """Two digits and the attackers of the consecutive mode, first seed. A perturbation is drawn from -t (black) to t
    (white), an attack clipped to [0, 1]."""
    other = int(np.flatnonzero(made.test.y != made.test.y[0])[0])
    x, cells = made.test.x[[0, other]], []
    for t in made.t:
        deltas = made.perturbed(Game("consecutive", t, 0), x)
        for digit, (image, delta) in enumerate(zip(x, deltas, strict=True), 1):
            shown = {"original": image, "perturbation": 0.5 + delta / (2 * t), "attack": np.clip(image + delta, 0, 1)}
            cells += [(f"digit {digit}, {kind}", f"t = {t:g}", each) for kind, each in shown.items()]
    return Shown(pictures.grid(cells, 56))


@exhibit("Attacked accuracy and loss, epoch by epoch")
def curves(rows: pd.DataFrame, made: Networks) -> Iterator[Shown]:
    """After each epoch of the attacker; mean over the seeds with the lowest and the highest. The attacker is trained on
    C1; C2 has never met it and has finished its training."""
    forms: tuple[tuple[str, str, charts.Scale], ...] = (
        ("accuracy", "Attacked accuracy", "share"),
        ("loss", "Attacked loss, log scale", "log"),
    )
    for mode in MODES:
        for name, title, scale in forms:
            part = where(rows, exhibit="curves", variant=None, source=mode, metric=f"attacked_{name}")
            table = _over_seeds(part, "model", "t", "epoch")
            chart = _lines(table, "epoch", "t", title, scale, "model")
            note = f"On {len(made.watched.x)} test images."
            yield Shown(chart, table, note, part=f"{mode}-{name}", title=f"{title}, {mode} mode")


@exhibit("Attacked accuracy against t", "H1", "H2", "H3", "H5")
def accuracy(rows: pd.DataFrame, made: Networks) -> Shown:
    """At the end of training, mean over the seeds with the lowest and the highest. In the table the same with x + A(x)
    clipped to [0, 1], and with the attacker's batch norm on batch statistics, as the report's prototype has it."""
    part = where(rows, exhibit="attacked", variant=None, metric=ACCURACIES)
    table = _over_seeds(part, "attacker", "model", "t", "metric")
    main = where(table, metric="attacked_accuracy")
    chart = _lines(main.assign(classifier=main.model + ", " + main.attacker), "t", "classifier", "attacked accuracy")
    return Shown(chart, table.pivot_table("mean", ["attacker", "model", "t"], "metric", sort=False).reset_index())


@exhibit("Consecutive against alternating", "H4")
def compared(rows: pd.DataFrame, made: Networks) -> Shown | None:
    """Attacked accuracy of C1 at t = 0.04 and 0.08. The report: a C1 that learns along with its attacker is hurt far
    less."""
    part = where(rows, exhibit="curves", variant=None, model="C1", metric="attacked_accuracy", t=(0.04, 0.08))
    if part.empty:
        return None
    table = _over_seeds(part, "attacker", "t", "epoch")
    return Shown(_lines(table, "epoch", "t", "Attacked accuracy", panel="attacker"), table)


@exhibit("Which attack would break this? PGD on both C1's", "H6")
def pgd(rows: pd.DataFrame, made: Networks) -> Shown:
    """The bound is the attacker's t. The worst case counts an image as right only if PGD, the C1's own attacker and that
    of the other mode, clipped to [0, 1], all left it so. pgd: a C1 that learned from PGD of five steps in place of the
    alternating attacker."""
    table = _over_seeds(where(rows, exhibit="pgd"), "defence", "attack", "t")
    chart = _lines(table.assign(classifier=table.defence + ", " + table.attack), "t", "classifier", "accuracy")
    return Shown(chart, table)


@exhibit("Attackers of one mode on the C1 of the other")
def crossed(rows: pd.DataFrame, made: Networks) -> Shown:
    """An attacker that was trained on another classifier, the consecutive C1, against the alternating C1, and the
    reverse."""
    table = _over_seeds(where(rows, exhibit="crossed"), "defence", "attacker", "t")
    pairs = table.attacker + " A on C1 of " + table.defence
    return Shown(_lines(table.assign(pair=pairs), "t", "pair", "attacked accuracy"), table)


@exhibit("Other attackers and other defences at one t")
def variants(rows: pd.DataFrame, made: Networks) -> Shown | None:
    """Against the plain attacker of each mode, in the same seeds. C2 is in no attacker's training."""
    part = where(rows, exhibit="attacked", metric=ATTACKED)
    others = part[part.variant.notna()]
    if others.empty:
        return None
    both = part[part.t.isin(others.t) & part.train_seed.isin(others.train_seed)].fillna({"variant": "plain"})
    table = _over_seeds(both, "variant", "attacker", "t", "model", "metric")
    words = "; ".join(f"{name}: {VARIANTS[name]}" for name in VARIANTS if name in made.config.variants)
    wide = table.pivot_table("mean", ["variant", "attacker", "t", "model"], "metric", sort=False).reset_index()
    return Shown(table=wide, note=f"{words}.")


EXHIBITS = (perturbations, curves, accuracy, compared, pgd, crossed, variants)


def answer(rows: pd.DataFrame) -> Iterator[Finding]:
    """What a learned attacker takes from each C1, and what PGD does with the same bound; mean over seeds, t nearest to 0.08."""
    rows = rows.assign(seed=rows.train_seed)
    hit = where(rows, exhibit="attacked", variant=None, model="C1", metric="attacked_accuracy")
    pgd = where(rows, exhibit="pgd", attack="pgd")
    if hit.empty or pgd.empty:
        return
    t = pgd.t.loc[(pgd.t - 0.08).abs().idxmin()]
    learned, apart = (where(hit, t=t, defence=name) for name in ("none", "alternating"))
    clean = over_seeds(where(rows, exhibit="clean", model="C1"))
    little = ": it learned too little to hurt" if clean.value - learned.value.mean() < 0.05 else ""
    yield Finding.over(
        learned,
        f"A learned attacker brings the classifier from {share(clean)} to {share(over_seeds(learned))} at t = {t:g}"
        f"{little}; a classifier that learns along with it keeps {share(over_seeds(apart))}.",
    )
    bare, defended = (where(pgd, t=t, defence=name) for name in ("none", "alternating"))
    gain, kept = lead(defended, bare), over_seeds(defended)
    meaning = (
        "the defence survives"
        if gain.ci_low >= LEAST_LEAD
        else "the defence does not survive"
        if gain.ci_high < LEAST_LEAD
        else f"{kept.n:,.0f} {kept.unit} leave open whether the defence survives"
    )
    yield Finding.over(
        defended,
        f"PGD with the same bound leaves {share(over_seeds(bare))} of the first and {share(kept)} of the second: {meaning}.",
        survives=True,
    )
