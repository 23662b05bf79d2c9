"""The exhibits of ``training-mnist``, from its result rows."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from advbench.metrics import gained, highest_row, of_epochs, share, spread, where
from advbench.recipes.training_mnist.materials import Networks
from advbench.report import charts
from advbench.study import Finding, Shown, exhibit

SPREAD = ("lowest", "highest")


@exhibit("Accuracy and confidence, clean and under FGSM on the model itself", "L1", "L2", "L3", "L4", "L7")
def confidence(rows: pd.DataFrame, made: Networks) -> Shown:
    """Mean over the seeds with the lowest and the highest, beside the report's number. Confidence is the largest softmax
    probability, over all, the correct and the wrong test images."""
    part = where(rows, exhibit="confidence")
    table = spread(part[part.reported.notna()], "defence", "attack", "metric")
    bars = where(table, metric="accuracy")
    chart = charts.bars(bars, "defence", "mean", "attack", "accuracy", error=SPREAD, mark="reported")
    return Shown(chart, table)


@exhibit("Transfer between the models", "L5", "L6")
def transfer(rows: pd.DataFrame, made: Networks) -> Iterator[Shown]:
    """Rows are the evaluated model, columns the model on which the FGSM images were made; mean over the seeds."""
    for metric, words in (("error", "error rate"), ("confidence_wrong", "confidence on the errors")):
        table = spread(where(rows, exhibit="transfer", metric=metric), "defence", "source")
        chart = charts.heat_map(table.assign(value=table["mean"]), "source", "defence", (0, 1), words)
        yield Shown(chart, table, part=metric.replace("_", "-"), title=f"Transfer between the models: {words}")


@exhibit('Is "mixed beats adversarial" only the double step?')
def ablation(rows: pd.DataFrame, made: Networks) -> Shown | None:
    """The report sums the gradients of its mixed batch of 200 and divides by 100. Divided by 200, mixed training is
    adversarial training at alpha = 1/2 (no layer of this network couples the images of a batch). Here adversarial training
    takes the double step too; first seed."""
    part = where(rows, exhibit="confidence", metric="accuracy", seed=made.study.seed)
    if part.defence.nunique() < 4:
        return None
    part = part.assign(attack=part.attack.fillna("clean"))
    return Shown(table=part.pivot_table("value", "defence", "attack", sort=False).reset_index())


@exhibit("Which attack would break this? PGD and AutoAttack")
def stronger(rows: pd.DataFrame, made: Networks) -> Shown:
    """Robust accuracy after each attack and all before it, at the report's eps, confined to [0, 1]; first seed. PGD has
    restarts, AutoAttack is the standard ensemble."""
    part = where(rows, exhibit="stronger")
    part = part.assign(attack=part.attack.fillna("clean"))
    chart = charts.bars(part, "defence", "value", "attack", "accuracy", error=("ci_low", "ci_high"))
    return Shown(chart, part.pivot_table("value", "defence", "attack", sort=False).reset_index())


@exhibit("Training curves")
def curves(rows: pd.DataFrame, made: Networks) -> Shown:
    """Validation top-1 error an epoch, mean over the seeds with the lowest and the highest, of one seed with its 95 %
    interval. The table also holds the training loss (of a mixed batch or a
    weighted sum where the regime has one), the validation objective and the top-5 error."""
    columns = ["loss", "validation_objective", "validation_top1_error", "validation_top5_error"]
    histories, by = made.run.histories(), ["training", "epoch"]
    ends = spread(of_epochs(histories, "validation_top1_error", made.config.validation_images), *by)[[*by, *SPREAD]]
    table = histories.groupby(by, as_index=False)[columns].mean().merge(ends, "left", by)
    title = "top-1 error, validation"
    chart = charts.curves(table, "epoch", "validation_top1_error", "training", title, band=SPREAD)
    return Shown(chart, table)


EXHIBITS = (confidence, transfer, ablation, stronger, curves)


def answer(rows: pd.DataFrame) -> Iterator[Finding]:
    """What training on FGSM images gains against FGSM, and what of it a stronger attack leaves; first seed."""
    part = where(rows, exhibit="stronger", seed=rows.seed.min())
    accuracy = {
        attack: where(part, attack=None if attack == "clean" else attack).set_index("defence", drop=False)
        for attack in ("clean", "fgsm", "autoattack")
    }
    if not all({"standard", "mixed", "adversarial"} <= set(table.index) for table in accuracy.values()):
        return

    def of(attack: str, defence: str) -> str:
        return share(accuracy[attack].loc[defence])

    clean, fgsm, autoattack = ("clean", "standard"), ("fgsm", "standard"), ("autoattack", "standard")
    yield Finding.at(
        where(part, attack="fgsm", defence="mixed").iloc[0],
        f"Without a defence the network is right about {of(*clean)} of the clean images and {of(*fgsm)} under FGSM; training "
        f"on FGSM images raises the latter to {of('fgsm', 'mixed')} (mixed) and {of('fgsm', 'adversarial')} (adversarial).",
    )
    best = highest_row(where(part, attack="autoattack", defence=("mixed", "adversarial")))
    assert best is not None
    meaning = {
        True: "part of the gain survives",
        False: "nothing of the gain survives",
        None: f"{best.n:,.0f} images leave open whether any of the gain survives",
    }[gained(best, where(part, attack="autoattack", defence="standard").iloc[0])]
    yield Finding.at(
        best,
        f"AutoAttack, which is stronger, leaves {of('autoattack', 'mixed')} and {of('autoattack', 'adversarial')}, without a "
        f"defence {of(*autoattack)}: {meaning}.",
        survives=True,
    )
