"""The exhibits of ``fgsm-cifar``, from its result rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from advbench.metrics import above, gained, of_epochs, share, spread, where
from advbench.recipes.compare_defences.future import FUTURE_EXHIBITS
from advbench.recipes.fgsm_cifar.claims import best_reading, distances, transfer
from advbench.recipes.fgsm_cifar.materials import STANDARD, Networks
from advbench.report import charts, pictures
from advbench.study import Finding, Shown, exhibit

SPREAD = ("lowest", "highest")

MEANING = {
    "V1": "an eps for each image, as the report says; images made on the trained network",
    "V2": "one eps for all, as in the code; on the trained network",
    "V3": "one eps for all; images made on an untrained network, as a stored block of the code does",
}


def _text(eps: pd.Series) -> pd.Series:
    return eps.map("{:g}".format).astype(str)


@exhibit("The report's table: accuracy on the FGSM images of the undefended network", "V-a", "V-b", "V-c", "V-d")
def table(rows: pd.DataFrame, made: Networks) -> Shown:
    """FGSM through the squared error, not clipped, made on the undefended network (defence none) and shown to every network:
    for the defended ones this is transfer, and so, by the author's code, is the report's second column (the line across
    each bar). Mean over the seeds with the lowest and the highest."""
    long = spread(where(rows, exhibit="transfer", metric="accuracy"), "defence", "eps")
    long = long.assign(eps=_text(long.eps))
    losses = spread(where(rows, metric="loss", model=STANDARD.model, defence=STANDARD.name), "attack", "eps")
    words = "; ".join(
        f"{'clean' if row.attack == 'clean' else f'eps {row.eps:g}'} {row.mean:.3f} (report {row.reported:g})"
        for row in losses.dropna(subset=["reported"]).itertuples()
    )
    chart = charts.bars(long, "eps", "mean", "defence", "accuracy", error=SPREAD, mark="reported")
    return Shown(chart, long, note=f"Loss with its penalty of the undefended network: {words}.")


@exhibit("Which reading of the defence fits the report?", "V-c")
def readings(rows: pd.DataFrame, made: Networks) -> Shown | None:
    """Mean absolute distance of the transfer column to the report's, nearest first. It is not known what was run; V-c to V-e
    are judged on the nearest, which was chosen for that: they show what the report can be, not what it was."""
    found = distances(rows)
    if found.empty:
        return None
    clean = spread(where(rows, exhibit="clean", metric="accuracy", model=STANDARD.model), "defence")
    table = pd.DataFrame({"reading": found.index, "means": found.index.map(MEANING)})
    table["clean accuracy"] = table.reading.map(clean.set_index("defence")["mean"])
    return Shown(table=table.assign(**{"mean distance": found.to_numpy()}))


@exhibit("Transfer beside white box", "V-e")
def columns(rows: pd.DataFrame, made: Networks) -> Shown:
    """Images made on the undefended network, and attacks on the network itself; in the table every network. FGSM is not
    clipped, as in the report; PGD, with restarts and after FGSM, is confined to [0, 1] and counts images that nothing beat,
    of the first seed."""
    part = where(rows, exhibit=("transfer", "white box"), metric="accuracy", model=STANDARD.model)
    part = pd.concat([part, where(rows, exhibit="strong", attack="pgd")])
    source = np.where(part.exhibit == "transfer", "transfer, ", "own, ")
    column = source + part.attack + ("-" + part.variant.astype("string")).fillna("")
    long = spread(part.assign(column=column, eps=_text(part.eps)), "defence", "eps", "column")
    best = best_reading(rows)
    shown = where(long, defence=best or STANDARD.name)
    chart = charts.bars(shown, "eps", "mean", "column", "accuracy", error=SPREAD)
    wide = long.pivot_table("mean", ["defence", "eps"], "column", sort=False).reset_index()
    network = (
        f"{best}, the reading nearest to the report" if best else "the undefended network, as no reading was trained"
    )
    steps, restarts = made.config.pgd_iterations, made.config.pgd_restarts
    return Shown(chart, wide, note=f"The chart shows {network}. PGD has {steps} steps and {restarts} restarts.")


@exhibit("Images that FGSM does not move")
def zero_gradient(rows: pd.DataFrame, made: Networks) -> Shown:
    """Share of the test images at which the gradient of the loss is exactly zero in float32, where sgn leaves the image as
    it is: the squared error of a saturated softmax underflows, cross-entropy hardly does."""
    table = spread(where(rows, metric="zero_gradient"), "model", "defence", "attack", "variant")
    return Shown(table=table.drop(columns="reported"))


@exhibit("Original + noise = attacked image")
def picture(rows: pd.DataFrame, made: Networks) -> Shown:
    """FGSM through the squared error on the undefended network; each row names the class that it predicts before and after.
    The noise is drawn from -eps (black) to eps (white), the attacked image clipped to [0, 1] for display only."""
    eps = made.nearest_eps(0.05)
    pictured, cells = made.picture(eps), []
    for i, x in enumerate(pictured["x"]):
        direction = pictured["direction"][i].astype(np.float32)
        row = f"{i + 1}: class {pictured['y'][i]} -> {pictured['predicted'][i]}"
        attacked = np.clip(x + eps * direction, 0, 1)
        cells += [(row, "original", x), (row, "noise", 0.5 + direction / 2), (row, "attacked", attacked)]
    return Shown(pictures.grid(cells), note=f"At eps = {eps:g}.")


@exhibit("Maximum or average pooling")
def pooling(rows: pd.DataFrame, made: Networks) -> Shown | None:
    """The undefended network with either, clean and under FGSM on itself. The report found maximum pooling slightly better."""
    part = where(rows, exhibit=("clean", "white box"), metric="accuracy", defence=STANDARD.name)
    if part.model.nunique() < 2:
        return None
    attack = part.attack + "-" + part.variant + ", " + _text(part.eps)
    long = spread(part.assign(under=attack.fillna("clean")), "model", "under")
    return Shown(table=long.pivot_table("mean", "model", "under", sort=False).reset_index())


@exhibit("Robust accuracy under AutoAttack")
def autoattack(rows: pd.DataFrame, made: Networks) -> Shown | None:
    """Accuracy after each attack and all before it, on the same images, confined to [0, 1]; first seed."""
    part = where(rows, exhibit="autoattack")
    if part.empty:
        return None
    part = part.assign(attack=part.attack.fillna("clean"))
    chart = charts.bars(part, "defence", "value", "attack", "accuracy", error=("ci_low", "ci_high"))
    note = f"{part.n.iloc[0]:,.0f} images, eps = {part.eps.iloc[0]:g}."
    return Shown(chart, part[["defence", "attack", "value", "n", "ci_low", "ci_high"]], note=note)


@exhibit("Training curves")
def curves(rows: pd.DataFrame, made: Networks) -> Shown:
    """Accuracy on the first test images after each epoch, mean over the seeds with the lowest and the highest, of one seed
    with its 95 % interval; nothing is selected by it. An epoch of a defended network holds every image twice, clean and
    adversarial. The table also holds the training loss."""
    histories, by = made.run.histories(), ["training", "epoch"]
    n = min(made.config.watched_images, len(made.study.test))
    means = histories.groupby(by, as_index=False)[["loss", "watched_accuracy"]].mean()
    table = means.merge(spread(of_epochs(histories, "watched_accuracy", n), *by)[[*by, *SPREAD]], "left", by)
    return Shown(charts.curves(table, "epoch", "watched_accuracy", "training", "accuracy", band=SPREAD), table)


EXHIBITS = (table, readings, columns, zero_gradient, picture, pooling, autoattack, *FUTURE_EXHIBITS, curves)


def answer(rows: pd.DataFrame) -> Iterator[Finding]:
    """What the defence keeps on images of another network, and what under attack on itself; first seed, eps nearest 0.01."""
    rows, reading = where(rows, seed=rows.seed.min()), best_reading(rows)
    strong = where(rows, exhibit="strong", attack="pgd", defence=reading or "none")
    if strong.empty:
        return
    own = strong.loc[(strong.eps - 0.01).abs().idxmin()]
    bare = transfer(rows, "none", own.eps).iloc[0]
    clean = where(rows, exhibit="clean", metric="accuracy", defence="none").iloc[0]
    without = f"The network is right about {share(clean)} of the clean images and {share(bare)} of its FGSM images"
    if not reading:
        yield Finding.at(bare, f"{without} (eps {own.eps:g}); no network that trained on FGSM images was met.")
        return
    moved = transfer(rows, reading, own.eps).iloc[0]
    yield Finding.at(
        moved, f"{without} (eps {own.eps:g}); trained on FGSM images it is right about {share(moved)} of these."
    )
    undefended = where(rows, exhibit="strong", attack="pgd", defence="none", eps=float(own.eps)).iloc[0]
    nothing = "the gain is only against images of another network" if above(moved, bare) else "there is no gain"
    meaning = {
        True: "part of the gain survives",
        False: nothing,
        None: f"{own.n:,.0f} images leave open whether any of the gain survives",
    }[gained(own, undefended)]
    yield Finding.at(
        own,
        f"Attacked itself, by PGD at the same eps, it keeps {share(own)}, without the defence "
        f"{share(undefended)}: {meaning}.",
        survives=True,
    )
