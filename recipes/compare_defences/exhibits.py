"""The exhibits of ``compare-defences``, from its result rows and what each defence says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from advbench.metrics import highest_row, share, where
from advbench.recipes.compare_defences.against import TEXTS
from advbench.recipes.compare_defences.materials import ADAPTIVE, PLAIN, WORST
from advbench.recipes.compare_defences.registry import DEFENCES
from advbench.report import charts
from advbench.study import Finding, Shown, exhibit

DETECTORS = "Each detector has one threshold, fixed on clean validation images."


@exhibit("Defences by attacks")
def comparison(rows: pd.DataFrame, made: Any) -> Iterator[Shown]:
    """The values are robust accuracies: the share of images that are classified right or, with a detector, flagged.
    transfer: PGD images of the undefended network; fgsm and pgd: on the network itself, as if nothing stood around it and
    it had been trained like any other (naive); adaptive: every image under the attacks that are made for the defence;
    worst case: under all of the row, which is the defence's figure; gap: pgd minus adaptive, what a naive test overstates.
    """
    for part, words, eps in _bounds(rows):
        table = by_attack(rows, eps)
        detectors = DETECTORS if (table.kind == "detector").any() else ""
        note = " ".join(filter(None, (_sizes(rows), detectors)))
        yield Shown(table=table, note=note, part=part, title=f"Defences by attacks, {words}")


@exhibit("Robust accuracy once the attack knows the defence")
def naive_adaptive(rows: pd.DataFrame, made: Any) -> Iterator[Shown]:
    """The ring is the robust accuracy under PGD that does not know the defence, the dot the worst case over all attacks,
    adaptive ones included; pale lines are their 95 % intervals. A long line is a defence that was robust only because the attack did not know it."""
    for part, words, eps in _bounds(rows):
        met, table, errors = where(rows, exhibit="comparison", eps=eps), by_attack(rows, eps), []
        for attack in ("pgd", WORST):
            errors.append((f"{attack} from", f"{attack} to"))
            intervals = where(met, attack=attack).set_index("defence")[["ci_low", "ci_high"]]
            table = table.join(intervals.set_axis(errors[-1], axis=1), on="defence")
        chart = charts.pairs(table, "defence", "pgd", WORST, "kind", "robust accuracy", (errors[0], errors[1]))
        yield Shown(chart, part=part, title=f"Robust accuracy once the attack knows the defence, {words}")


def _bounds(rows: pd.DataFrame) -> Iterator[tuple[str, str, float]]:
    """For each eps, its part of an exhibit's name, its words and itself."""
    for eps in sorted(where(rows, exhibit="comparison").eps.unique()):
        pixels = f"{eps * 255:.3g}"
        yield pixels.replace(".", "-"), f"l-inf within {eps:.3g} ({pixels}/255)", float(eps)


def _sizes(rows: pd.DataFrame) -> str:
    """How many images are attacked; and, in a recipe's future work, how many its defences learned from."""
    tested = f"{where(rows, exhibit='comparison').n.max():.0f} test images."
    training = where(rows, exhibit="defence training").groupby("metric").value.max()
    if training.empty:
        return tested
    images, epochs = training["training_images"], training["training_epochs"]
    return f"{tested} Trained defences learned from {images:,.0f} training images in {epochs:.0f} epochs."


def by_attack(rows: pd.DataFrame, eps: float) -> pd.DataFrame:
    """Defences by attacks at one eps: robust accuracy, the worst case for each image, and last the gap."""
    part = where(rows, exhibit="comparison", eps=eps)
    table = part.pivot_table(index="defence", columns="attack", values="value", sort=False)
    table = table.reindex(columns=[*PLAIN, ADAPTIVE, WORST])
    return _described(table.assign(gap=table.pgd - table[ADAPTIVE]).reset_index())


def _described(table: pd.DataFrame) -> pd.DataFrame:
    """With the kind and the library of each defence beside its name."""
    known = [DEFENCES[name] for name in table.defence]
    table.insert(1, "kind", [defence.kind for defence in known])
    table.insert(2, "library", [defence.library for defence in known])
    return table


@exhibit("The attack that knows each defence")
def adaptive(rows: pd.DataFrame, made: Any) -> Shown:
    """Robust accuracy under each of these attacks alone."""
    part = where(rows, exhibit="comparison")
    part = part[~part.attack.isin([*PLAIN, ADAPTIVE, WORST])]
    table = part.pivot_table(index=["defence", "attack"], columns="eps", values="value", sort=False)
    table = table.rename(columns="eps {:.3g}".format).reset_index()
    texts = [f"{attack}: {TEXTS[attack]}." for attack in part.attack.unique()]
    return Shown(table=table, note=" ".join(texts))


@exhibit("What is proven, whatever the attack")
def certificate(rows: pd.DataFrame, made: Any) -> Shown:
    """lipschitz_bound: no two images are further apart in logits than this times their l2 distance. certified_radius: the
    median over test images of the l2 distance, for images in [0, 1], within which no image has another label (0 where the
    image is wrong already). certified_accuracy: the share of images that are right within 36/255 of l2, for certain."""
    part = where(rows, exhibit="certificate")
    return Shown(table=part[["defence", "metric", "value", "n", "ci_low", "ci_high"]])


@exhibit("What each defence costs")
def cost(rows: pd.DataFrame, made: Any) -> Shown:
    """Accuracy on clean test images, for which an image that a detector flags counts as lost, and how much less that is
    than without a defence; the share of clean test images that are flagged; seconds of training on this machine, in as
    many processes at once as the run had. Preprocessors and detectors come on top of the undefended network's training."""
    part = where(rows, exhibit="cost")
    table = part.pivot_table(index="defence", columns="metric", values="value", sort=False)
    table = table.reindex(columns=["clean_accuracy", "false_positives", "training_seconds"])
    table.insert(1, "clean_cost", table.clean_accuracy.get("none") - table.clean_accuracy)
    return Shown(table=_described(table.reset_index()))


@exhibit("The defences")
def defences(rows: pd.DataFrame, made: Any) -> Shown:
    """What each one is, and what a reader must know of it. art: the class of the installed Adversarial Robustness Toolbox,
    as it is."""
    names = where(rows, exhibit="cost").defence.unique()
    texts, notes = [DEFENCES[name].text for name in names], [DEFENCES[name].note for name in names]
    return Shown(table=_described(pd.DataFrame({"defence": names, "what it does": texts, "note": notes})))


COMPARISONS = (comparison, naive_adaptive, adaptive, certificate)
EXHIBITS = (*COMPARISONS, cost, defences)


def answer(rows: pd.DataFrame) -> Iterator[Finding]:
    """The best defence, and how many lose what they had once the attack knows them, at the smallest eps."""
    part = where(rows, exhibit="comparison")
    part = part[part.eps == part.eps.min()]
    worst = where(part, attack=WORST)
    naive, bare = where(part, attack="pgd").set_index("defence"), where(worst, defence="none")
    tried = worst[worst.defence != "none"]
    best = highest_row(tried)
    if best is None or bare.empty:
        return
    yield Finding.at(
        best,
        f"Of {len(tried)} defences, {best.defence} keeps most: {share(best)} right in the worst case over all attacks "
        f"within {best.eps:g}, without a defence {share(bare.iloc[0])}.",
    )
    lost = tried.assign(value=tried.defence.map(naive.value) - tried.value)
    most = highest_row(lost)
    if most is not None:
        yield Finding.at(
            most,
            f"{(lost.value > 0.2).sum()} of them lose more than 20 points once the attack knows them, most of all "
            f"{most.defence}: from {share(naive.loc[most.defence])} to {share(worst.loc[most.name])}.",
            survives=True,
        )
