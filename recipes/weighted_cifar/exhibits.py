"""The exhibits of ``weighted-cifar``, from its result rows."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

import numpy as np
import pandas as pd

from advbench.metrics import gained, lowest_row, of_epochs, share, spread, where
from advbench.recipes.compare_defences.future import FUTURE_EXHIBITS
from advbench.recipes.weighted_cifar.claims import CLEAN, LEAKING, best_reading, distances
from advbench.recipes.weighted_cifar.materials import Networks
from advbench.report import charts
from advbench.study import Finding, Shown, exhibit

SPREAD = ("lowest", "highest")


def _text(eps: pd.Series) -> pd.Series:
    """Numbers as text, empty for images without attack."""
    return eps.map(lambda number: "" if isnan(number) else f"{number:g}").astype(str)


def _networks(rows: pd.DataFrame) -> pd.DataFrame:
    """Every network, clean and under each attack on itself; PGD had the first images of the first seed alone."""
    part = where(rows, exhibit=("defence", "strong"))
    part = part[(part.exhibit == "defence") | part.attack.notna()]
    return part.assign(under=part.attack.fillna("clean") + (", " + part.variant.astype("string")).fillna(""))


@exhibit("The undefended network under FGSM and PGA", "G1", "G2", "G3")
def attacks(rows: pd.DataFrame, made: Networks) -> Shown:
    """Mean over the seeds with the lowest and the highest; the line is the report's. The report prints the step of PGA once
    as eps/4 and once with a stray digit, eps/40, and does not state whether images are clipped: the table has each."""
    part = where(rows, exhibit="undefended")
    clean = where(part, attack=None).value.mean()
    table = spread(part[part.attack.notna()], "attack", "variant", "eps").assign(eps=lambda table: _text(table.eps))
    usual = where(table, variant=None)
    chart = charts.bars(usual, "eps", "mean", "attack", "accuracy", error=SPREAD, mark="reported")
    return Shown(chart, table, note=f"Clean accuracy {clean:.3f} (report {CLEAN:g}).")


@exhibit("How often an image is called a deer", "G4")
def targeted(rows: pd.DataFrame, made: Networks) -> Shown:
    """Targeted FGSM and PGD with 30 steps of eps/4 on the undefended network. all: every test image; other: those that show
    no deer; moved: of these, those that were not called a deer before. The report does not state which it counts; its
    numbers stand beside the first. Without attack (clean) the rate is not zero."""
    table = spread(where(rows, exhibit="targeted"), "attack", "eps", "variant")
    table = table.assign(eps=_text(table.eps))
    every = where(table, variant="all")
    every = every[every.attack != "clean"]
    chart = charts.bars(every, "eps", "mean", "attack", "share called deer", error=SPREAD, mark="reported")
    return Shown(chart, table.pivot_table("mean", ["attack", "eps"], "variant", sort=False).reset_index())


@exhibit("Confusion of the undefended network")
def confusion(rows: pd.DataFrame, made: Networks) -> Iterator[Shown]:
    """Share of each true class, at the reference eps, first seed."""
    titles = {"clean": "clean images", "fgsm": "FGSM", "pga": "PGA", "targeted-pga": "PGD towards deer"}
    counts, classes = made.confusion(), made.study.test.classes
    for name, title in titles.items():
        shares = pd.DataFrame(counts[name] / np.maximum(counts[name].sum(1, keepdims=True), 1), classes, classes)
        cells = shares.rename_axis("true").reset_index().melt("true", var_name="predicted")
        chart = charts.heat_map(cells, "predicted", "true", (0, 1), "share of the true class")
        note = f"{counts[name].sum():,} test images."
        yield Shown(chart, note=note, part=name, title=f"Confusion of the undefended network: {title}")


@exhibit("Trained on FGSM images alone (alpha = 0)", "G5")
def defence(rows: pd.DataFrame, made: Networks) -> Shown | None:
    """One network for each eps, attacked at the eps of its training; the undefended one at the reference eps. Accuracy under
    true-label FGSM above the clean one is no robustness: the perturbation carries the label."""
    part = where(_networks(rows), exhibit="defence")
    alone = where(part, **best_reading(rows)).sort_values("eps", kind="stable")
    if alone.empty:
        return None
    part = pd.concat([where(part, defence="standard"), alone])
    table = spread(part, "defence", "eps", "under")
    trained = table.assign(trained=np.where(table.defence == "standard", "standard", "eps " + _text(table.eps)))
    chart = charts.bars(trained, "trained", "mean", "under", "accuracy", error=SPREAD, mark="reported")
    return Shown(chart, table)


@exhibit("The whole weighted loss")
def alpha(rows: pd.DataFrame, made: Networks) -> Shown:
    """alpha J(x) + (1 - alpha) J(p(x)) over alpha, p FGSM at the eps at which it is attacked. In the table every network: pgd
    has PGD in place of FGSM, several has FGSM at every eps in one loss. The worst case is over FGSM and all starts of PGD."""
    table = spread(_networks(rows), "defence", "alpha", "eps", "under")
    fgsm = where(table, defence="fgsm").sort_values("alpha")
    varied = fgsm[(fgsm.groupby("eps").alpha.transform("nunique") > 1) & (fgsm.under != "pgd")]
    varied = varied.assign(line="eps " + _text(varied.eps) + ", " + varied.under)
    chart = charts.curves(varied, "alpha", "mean", "line", "accuracy", band=SPREAD) if len(varied) else None
    table = table.pivot_table("mean", ["defence", "alpha", "eps"], "under", sort=False).reset_index()
    return Shown(chart, table, note=f"PGD has {made.config.pgd_iterations} steps.")


@exhibit("The leaked label, and the same networks without it", "G6")
def leak(rows: pd.DataFrame, made: Networks) -> Shown:
    """Trained on FGSM images alone. FGSM of the true label tells the network what to say; of the predicted label it cannot.
    PGD is one start on every image, on the first images of the first seed; the worst case, over FGSM and all starts of PGD,
    counts an image as right only if nothing beat it."""
    table = spread(where(_networks(rows), **best_reading(rows)), "eps", "under", "steps", "restarts")
    table = table.assign(eps="eps " + _text(table.eps))
    return Shown(charts.bars(table, "eps", "mean", "under", "accuracy", error=SPREAD), table)


@exhibit("Robust accuracy under AutoAttack")
def autoattack(rows: pd.DataFrame, made: Networks) -> Shown | None:
    """Accuracy after each attack and all before it, on the same images; first seed. The undefended network, and those trained
    on adversarial images alone."""
    part = where(rows, exhibit="autoattack")
    if part.empty:
        return None
    part = part.assign(network=part.defence + ", eps " + _text(part.eps), attack=part.attack.fillna("clean"))
    chart = charts.bars(part, "network", "value", "attack", "accuracy", error=("ci_low", "ci_high"))
    table = part[["network", "attack", "value", "n", "ci_low", "ci_high"]]
    return Shown(chart, table, note=f"{part.n.iloc[0]:,.0f} images.")


@exhibit("Which reading of the defence is nearest to the report?", "G5", "G6")
def readings(rows: pd.DataFrame, made: Networks) -> Shown | None:
    """The report does not state on which network the FGSM images for the training are made. fgsm: on the one that is trained,
    with its current weights. fixed: once, on the undefended network; the test images too. G5 and G6 are judged on the reading
    with the smaller mean absolute distance to the report's accuracies, which was chosen for that: they show what the report can
    be, not what it was."""
    gaps = distances(rows)
    if len(gaps) < 2:
        return None
    part = where(_networks(rows), exhibit="defence", defence=tuple(gaps.index), alpha=0.0)
    kept = part.attack.isna() | (part.variant == part.defence.map(LEAKING))
    table = spread(part[kept], "defence", "eps", "under")
    return Shown(None, table, note="Distance: " + ", ".join(f"{kind} {gap:.3f}" for kind, gap in gaps.items()) + ".")


@exhibit("Is the overfitting catastrophic?")
def overfitting(rows: pd.DataFrame, made: Networks) -> Shown:
    """Accuracy on validation images under FGSM and PGD after each epoch of the networks trained on FGSM alone, mean over the
    seeds with the lowest and the highest, of one seed with its 95 % interval. Where FGSM rises while PGD falls, the network learns to spoil the one step that it is trained on. The table has
    every training."""
    histories, columns = made.run.histories(), ["training", "defence", "fit_eps", "alpha", "epoch"]
    watched = ["loss", "watched_clean", "watched_fgsm", "watched_pgd"]
    table = histories.groupby(columns, as_index=False, dropna=False)[watched].mean()
    config, alone = made.config, where(histories, **best_reading(rows))
    if alone.empty:
        return Shown(table=table)
    n = min(config.watched_images, config.validation_images)
    met = [
        of_epochs(alone, f"watched_{attack}", n).assign(line="eps " + _text(alone.fit_eps) + f", {attack}")
        for attack in ("fgsm", "pgd")
    ]
    lines = spread(pd.concat(met), "line", "epoch")
    return Shown(charts.curves(lines, "epoch", "mean", "line", "accuracy", band=SPREAD), table)


EXHIBITS = (attacks, targeted, confusion, defence, readings, alpha, leak, autoattack, *FUTURE_EXHIBITS, overfitting)


def answer(rows: pd.DataFrame) -> Iterator[Finding]:
    """What the network that is trained on FGSM images alone keeps under FGSM, and what under PGD; first seed, largest eps."""
    reading = best_reading(rows)
    alone = where(rows, seed=rows.seed.min(), metric="accuracy", **reading)
    defended, strong = where(alone, exhibit="defence"), where(alone, exhibit="strong", attack="pgd")
    if strong.empty:
        bare = where(rows, exhibit="undefended", seed=rows.seed.min(), variant=None)
        clean, under = where(bare, attack=None), lowest_row(where(bare, attack="pga"))
        if under is not None:
            yield Finding.at(
                under,
                f"The network is right about {share(clean.iloc[0])} of the clean images and {share(under)} under projected "
                f"gradient ascent (eps {under.eps:g}); no network that trained on FGSM images was met.",
            )
        return
    eps = strong.eps.max()
    clean, fgsm = (
        where(defended, eps=eps, attack=attack, variant=variant).iloc[0]
        for attack, variant in ((None, None), ("fgsm", LEAKING[reading["defence"]]))
    )
    meaning = {
        True: "the perturbation gives the label away",
        False: "no label leaks here",
        None: f"{fgsm.n:,.0f} images leave open whether the label leaks",
    }[gained(fgsm, clean, 0)]
    yield Finding.at(
        fgsm,
        f"Trained on FGSM images alone (eps {eps:g}) the network is right about {share(fgsm)} of FGSM images and "
        f"{share(clean)} of clean ones: {meaning}.",
    )
    largest = where(strong, eps=float(eps)).iloc[0]
    bare = where(rows, exhibit="strong", attack="pgd", defence="standard", seed=rows.seed.min()).iloc[0]
    same_eps = where(strong, eps=float(bare.eps))
    if same_eps.empty:
        yield Finding.at(largest, f"Under PGD at that eps it keeps {share(largest)}.", survives=True)
        return
    own = same_eps.iloc[0]
    meaning = {
        True: "part of the gain survives",
        False: "nothing of the gain survives",
        None: f"{own.n:,.0f} images leave open whether any of the gain survives",
    }[gained(own, bare)]
    yield Finding.at(
        own,
        f"Under PGD at that eps it keeps {share(largest)}; a network of eps {own.eps:g} keeps {share(own)} at "
        f"its own, without the defence {share(bare)}: {meaning}.",
        survives=True,
    )
