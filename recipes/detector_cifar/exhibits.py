"""The exhibits of ``detector-cifar``, from its result rows; three helpers serve the ImageNet part of the report too."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from advbench.metrics import gained, highest_row, lowest_row, share, where
from advbench.recipes.detector_cifar.materials import Detectors
from advbench.report import charts
from advbench.study import Finding, Shown, exhibit

MAIN = ("predictive_accuracy", "detectability")
CAPTIONED = ["adversary", "attack", *MAIN, "detectability_successful", "auc", "tpr_at_1_fpr", "tpr_at_5_fpr"]
CELL = ["eps_fit", "eps_test", "value", "ci_low", "ci_high", "reported"]


def in_pixels(rows: pd.DataFrame, scale: float = 1) -> pd.DataFrame:
    """The rows with each eps as the paper writes it, in 0..255 units, and the name of their adversary with it.

    :param scale: by which the bounds of l2 were multiplied.
    """
    unit = np.where(rows.norm == "l2", scale, 1)
    rows = rows.assign(eps=(rows.eps * 255 / unit).round(2), fit_eps=(rows.fit_eps * 255 / unit).round(2))
    named = (
        rows.attack
        + np.where(rows.norm == "l2", ", l2 ", ", ")
        + rows.eps.map(lambda eps: "1" if eps == 255 else f"{eps:g}/255")
    )
    return rows.assign(adversary=rows.attack.where(rows.eps.isna(), named))


def marks(rows: pd.DataFrame) -> Shown:
    """Detectability against predictive accuracy, a mark for each adversary."""
    if "detectability" not in set(rows.metric):
        table = rows.pivot_table("value", ["adversary", "attack"], "metric", sort=False).reset_index()
        return Shown(table=table.drop(columns="attack"))
    values, low, high = (
        rows.pivot_table(column, ["adversary", "attack"], "metric", sort=False, dropna=False)
        .dropna(how="all")
        .reset_index()
        for column in ("value", "ci_low", "ci_high")
    )
    table = values[[*CAPTIONED, "unchanged_images"]]
    ends = {f"{metric} {end}": part[metric] for metric in MAIN for end, part in (("from", low), ("to", high))}
    errors = [(f"{metric} from", f"{metric} to") for metric in MAIN]
    chart = charts.scatter(
        table.assign(**ends), *MAIN, "attack", ["adversary", "auc"], x_error=errors[0], y_error=errors[1]
    )
    for metric in MAIN:
        place = list(table).index(metric) + 1
        table.insert(place, f"{metric} 95 %", interval_texts(low[metric], high[metric]))
    return Shown(chart, table.drop(columns="attack"))


def interval_texts(low: pd.Series, high: pd.Series) -> list[str]:
    """The intervals as text, empty where there is none."""
    return [f"{a:.3f} to {b:.3f}" if a == a else "" for a, b in zip(low, high, strict=True)]


def eps_maps(rows: pd.DataFrame) -> Iterator[Shown]:
    """Detectability by the eps of the training and the eps of the test, a map for each attack."""
    for attack, group in rows.rename(columns={"fit_eps": "eps_fit", "eps": "eps_test"}).groupby("attack", sort=False):
        table = group[CELL].dropna(axis="columns", how="all")
        title = f"Transfer between eps, {attack}"
        yield Shown(charts.heat_map(group, "eps_fit", "eps_test"), table, part=str(attack), title=title)


def adversary_map(rows: pd.DataFrame, note: str = "") -> Shown:
    """Detectability by the adversary of the training and the adversary of the test."""
    table = rows.pivot_table("value", "attack", "fit_attack", sort=False).reset_index()
    return Shown(charts.heat_map(rows, "fit_attack", "attack"), table, note)


@exhibit("Detectability against predictive accuracy (figure 2, left)", "M2", "M3")
def detection(rows: pd.DataFrame, made: Detectors) -> Shown:
    """One mark an adversary: the classifier's accuracy under it, and the accuracy of a static detector trained on it, on
    clean and adversarial test images in equal weight. The report: above 80 % where accuracy falls below 30 %, above 90 %
    where it falls below 10 %. Columns that end in successful leave out images that are still classified right; thresholds
    of the true-positive rates were fixed on clean validation images."""
    return marks(in_pixels(where(rows, exhibit="detection")))


@exhibit("Detectability by depth of the detector (figure 2, right)", "M4", "M5")
def depth(rows: pd.DataFrame, made: Detectors) -> Shown | None:
    """Mean over detector seeds, with the smallest and the largest. The report: AD(2) is best for the fast and the iterative
    methods, AD(4) for DeepFool."""
    part = in_pixels(where(rows, exhibit="depth"))
    if part.position.nunique() < 2:
        return None
    mean = part.groupby(["adversary", "position"], as_index=False).value.agg(["mean", "min", "max"])
    band = ("min", "max")
    return Shown(charts.lines(mean, "position", "mean", "adversary", "AD(k)", "detectability", band), mean)


@exhibit("Transfer between eps (figure 3)", "M6")
def between_eps(rows: pd.DataFrame, made: Detectors) -> Iterator[Shown]:
    """Figure 3: detectability of a detector trained at eps_fit on adversarial images of eps_test, in units of 1/255."""
    yield from eps_maps(in_pixels(where(rows, exhibit="between eps")))


@exhibit("Transfer between adversaries (figure 4)", "M7")
def between_adversaries(rows: pd.DataFrame, made: Detectors) -> Shown | None:
    """Detectability of a detector trained on one adversary (columns) on the images of another (rows), each at the smallest
    eps measured that leaves the classifier below 30 % accuracy."""
    part = where(rows, exhibit="between adversaries")
    return adversary_map(part) if part.fit_attack.nunique() > 1 else None


@exhibit("Static and dynamic detector under the dynamic adversary (figure 5)", "M8", "M9")
def dynamic_adversary(rows: pd.DataFrame, made: Detectors) -> Shown | None:
    """Along each line sigma grows: the adversary cares less for the classifier and more for the detector. Detector accuracy
    is on clean against successful adversarial images, in equal weight; a sigma with too few successes has none."""
    part = where(rows, exhibit="dynamic adversary")
    if part.empty:
        return None
    table = part.pivot_table("value", ["detector", "sigma"], "metric").reset_index()
    ends = where(part, metric="balanced_accuracy")[["detector", "sigma", "ci_low", "ci_high"]]
    table = table.merge(ends, how="left", on=["detector", "sigma"])
    axes = ("predictive_accuracy", "balanced_accuracy", "detector")
    chart = charts.scatter(table, *axes, ["sigma", "successes"], connect="sigma", y_error=("ci_low", "ci_high"))
    return Shown(chart, table)


@exhibit("Which attack would break this? A finer step")
def finer_steps(rows: pd.DataFrame, made: Detectors) -> Shown | None:
    """The dynamic adversary of the report takes steps as large as its bound of 1/255 (a quarter of one of 16/255). Here each
    detector meets it again with a quarter of that step and more iterations, at its worst sigma or at those of check_sigmas;
    alpha is the step in units of 1/255."""
    part = where(rows, exhibit="finer steps")
    if part.empty:
        return None
    part = part.assign(alpha=(part.alpha * 255).round(2))
    return Shown(table=part.pivot_table("value", ["detector", "sigma", "steps", "alpha"], "metric").reset_index())


EXHIBITS = (detection, depth, between_eps, between_adversaries, dynamic_adversary, finer_steps)


def seen(rows: pd.DataFrame) -> Iterator[Finding]:
    """How well the detectors see the adversaries that they were trained on."""
    clean = where(rows, exhibit="clean accuracy", metric="accuracy")
    detected = where(rows, exhibit="detection", metric="detectability")
    least, most = lowest_row(detected), highest_row(detected)
    if clean.empty:
        return
    if least is None or most is None:
        under = lowest_row(where(rows, exhibit="detection", metric="predictive_accuracy"))
        if under is not None:
            yield Finding.at(
                under,
                f"The classifier is right about {share(clean.iloc[0])} of the clean images and {share(under)} under "
                f"{under.attack}; no detector was met.",
            )
        return
    told = f"clean and {least.attack} images apart with {share(least)} accuracy"
    if most.attack != least.attack:
        told += f", and {most.attack} images, which they see best, with {share(most)}"
    chance = ", so these detectors learned too little" if most.value < 0.6 else ""
    whose = "its detectors tell" if len(detected) > 1 else "its detector tells"
    yield Finding.at(
        least,
        f"The classifier is right about {share(clean.iloc[0])} of the clean images, and {whose} {told}; "
        f"guessing is right about 50 %{chance}.",
    )


def answer(rows: pd.DataFrame) -> Iterator[Finding]:
    """What the static detectors see, and what an adversary that knows a detector leaves of it."""
    yield from seen(rows)
    under = where(rows, exhibit=("dynamic adversary", "finer steps"), metric="balanced_accuracy")
    static, dynamic = (lowest_row(where(under, detector=kind)) for kind in ("static", "dynamic"))
    if static is None or dynamic is None:
        return
    if dynamic.value < 0.6:
        whose = "neither survives" if static.value < 0.6 else "the latter does not survive"
        meaning = f"that is guessing, so {whose}"
    else:
        words = {True: "the latter survives better", False: "which is no better", None: "which may be better or not"}
        meaning = words[gained(dynamic, static)]
    yield Finding.at(
        dynamic,
        f"An adversary that knows the detector brings the accuracy of the static one down to {share(static)}, and of the "
        f"one that was trained against it to {share(dynamic)}: {meaning}.",
        survives=True,
    )
