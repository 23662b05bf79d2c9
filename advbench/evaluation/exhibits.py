"""The tables and charts of an evaluation, from its result rows alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import inf, nan

import pandas as pd

from advbench.evaluation.attacking import NEAREST
from advbench.evaluation.corruptions import ALL_MOVES, KINDS, NAMES, SEVERITIES
from advbench.evaluation.finds import JUDGING
from advbench.evaluation.options import number
from advbench.metrics import of_row, percent, share, where
from advbench.metrics.sanity import Check
from advbench.report import charts
from advbench.study.claims import Finding
from advbench.study.run import Run

_SCALE = {"linf": (255, " in 1/255"), "l2": (1, " in l2"), "l1": (1, " in l1"), "l0": (1, " in values")}
"""The factor of a distance that a reader understands, and its unit."""
_WRITTEN = {"linf": "l-inf", "l2": "l2", "l1": "l1", "l0": "l0"}
_DRAWN = (
    " The model is random: attacks follow the mean gradient of several draws and beat an image where the mean logits are "
    "wrong. The line of one draw is how often a single answer is right about the strongest image, on draws that chose nothing."
)
_ENDS, _SIDES = ("ci_low", "ci_high"), ("lower", "upper")


def show(run: Run, norms: Sequence[str], notes: list[str]) -> None:
    """Add every exhibit to the run."""
    rows = run.results()
    several = len(norms) > 1
    checked = where(rows, exhibit="check")
    if failed := any(not check.passed for check in checks(rows)):
        _checks(run, checked)
    if several:
        _union(run, where(rows, exhibit="headline"))
    for norm in norms:
        distance = where(rows, exhibit="distance", norm=norm)
        _robustness(run, tabled(rows, norm), distance, norm, several)
    _bracket(run, proven(rows), where(rows, metric="robust_accuracy"))
    _detector(run, where(rows, exhibit="detector"), where(rows, exhibit="separation"))
    _corruptions(run, where(rows, exhibit="corruptions"))
    _rotations(run, where(rows, exhibit="rotations"))
    if not failed:
        _checks(run, checked)
    _indicators(run, where(rows, exhibit="indicators"))
    _distance(run, where(rows, exhibit="distance"))
    _cost(run, where(rows, exhibit="cost"), where(rows, exhibit="robustness"))
    if notes:
        caption = "Of the model and the data, before the first attack."
        run.exhibit("notes", "Notes on the model and the data", caption, table=pd.DataFrame({"note": notes}))


def tabled(rows: pd.DataFrame, norm: str) -> pd.DataFrame:
    """The rows of the table of robust accuracy in a norm, in order: those that are not of a worst case are last at each eps."""
    rows = where(rows, norm=norm)
    last = where(rows, exhibit=("rounded", "draws"))
    return pd.concat([where(rows, exhibit="robustness"), last[last.metric != "one_draw_spread"]]).sort_values(
        "eps", kind="stable"
    )


def proven(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of certified accuracy, at each eps that of the best method."""
    found = where(rows, metric="certified_accuracy").sort_values("value", kind="stable")
    return found.drop_duplicates(["norm", "eps"], keep="last").sort_index()


def answer(rows: pd.DataFrame) -> Iterator[Finding]:
    """How often the model is right, what survives the largest bound, how near the boundary is, and whether to believe it."""
    made = checks(rows)
    failed = [check.name for check in made if not check.passed]
    first = where(rows, exhibit="check")
    if failed:
        yield Finding.at(
            first.iloc[[check.passed for check in made].index(False)],
            f"{len(failed)} of {len(made)} checks failed ({', '.join(failed)}): the figures are not to be trusted, and the "
            "checks below say what to do.",
        )
    headline = where(rows, exhibit="headline")
    clean = where(headline, metric="clean_accuracy").iloc[0]
    robust = where(headline, metric="robust_accuracy").sort_values("eps", kind="stable")
    largest = [part.iloc[-1] for _, part in robust.groupby("norm", sort=False)]
    parts = [
        f"{percent(clean.value)} right on clean images",
        *(f"at {_within(row)} {_survive(row)}{_proven(rows, row)}" for row in largest),
    ]
    first_row = largest[0]
    if len(union := where(headline, metric="union_accuracy")):
        first_row = union.iloc[0]
        parts.insert(1, f"in all norms at once {_survive(first_row)}")
    away = []
    for row in largest:
        parts += _drawn(where(rows, exhibit="draws", norm=row.norm, eps=float(row.eps)))
        median = where(rows, exhibit="distance", metric="median_distance", norm=row.norm)
        if len(median) and (nearest := median.value.min()) < inf:
            scale, unit = (255, "/255") if row.norm == "linf" else _SCALE[row.norm]
            away.append(f"{scale * nearest:.2g}{unit}")
    parts += [f"{share(row)} {_UNATTACKED[row.metric]}" for _, row in unattacked(rows).iterrows()]
    if away:
        parts.append(f"the nearest adversarial image found is {', '.join(away)} away in the median")
    yield Finding.at(first_row, f"{'; '.join(parts)}.")
    joint = where(rows, exhibit="detector", metric="joint_accuracy").sort_values("eps", kind="stable")
    if len(joint):
        worst = joint.iloc[-1]
        known = set(where(rows, exhibit="separation").attack) != {"PGD"}
        yield Finding.at(
            worst,
            f"With the detector {percent(worst.value)} are right or flagged under attacks that "
            f"{'know it' if known else 'do not know it, the only ones possible without its gradient'} "
            f"({percent(worst.ci_low)} to {percent(worst.ci_high)} of {worst.n:,.0f}).",
            survives=known,
        )
    if made and not failed:
        which = f"All {len(made)} checks" if len(made) > 1 else "The check"
        yield Finding.at(first.iloc[0], f"{which} passed, so the attacks worked.")


def _proven(rows: pd.DataFrame, robust: pd.Series) -> str:
    """How many images are proven to survive at least, where that is known."""
    least = where(proven(rows), norm=robust.norm, eps=float(robust.eps)).value.max()
    return f", at least {percent(least)} are proven to" if least > 0 else ""


def _drawn(rows: pd.DataFrame) -> list[str]:
    """The accuracy of single draws with its spread, where the model is random."""
    if rows.empty:
        return []
    share, spread = (where(rows, metric=f"one_draw_{name}").iloc[0] for name in ("accuracy", "spread"))
    return [
        f"the model is random, and one draw is right on {percent(share.value)} "
        f"({percent(spread.ci_low)} to {percent(spread.ci_high)} over {JUDGING} draws)"
    ]


def unattacked(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean over all corruptions, and the worst of all rotations and shifts, where they were asked for."""
    worst = where(rows, metric="rotation_accuracy", attack=ALL_MOVES)
    return pd.concat([where(rows, metric="mean_corruption_accuracy"), worst])


_UNATTACKED = {
    "mean_corruption_accuracy": f"are right in the mean over the {len(NAMES)} corruptions of ImageNet-C",
    "rotation_accuracy": "are right at every angle and shift of a grid",
}


def _within(row: pd.Series) -> str:
    return number(row.eps) + ("" if row.norm == "linf" else _SCALE[row.norm][1])


def _survive(row: pd.Series) -> str:
    """How many images are still right, of how many, and with which interval."""
    hits, low, high = round(row.value * row.n), percent(row.ci_low), percent(row.ci_high)
    if hits == 0:
        return f"nothing survives (0 of {row.n:,.0f}, at most {high})"
    which = "everything survives" if hits == row.n else f"{percent(row.value)} survive"
    return f"{which} ({hits:,} of {row.n:,.0f}; {low} to {high})"


def figures(run: Run) -> dict[str, float]:
    """The figures that a floor can be set for, all in 0..1: by name at the largest eps, and by ``name@eps``.

    Of several norms ``robust_accuracy`` is their union, and any other name without an eps at the largest number of all.
    """
    rows = run.results()
    named = where(rows, exhibit=("headline", "rounded", "draws", "detector", "separation", "corruptions", "rotations"))
    table = where(rows, exhibit="robustness")
    named = pd.concat([named, proven(rows), table.assign(metric=table.attack.str.removeprefix("+ "))])
    named = named.sort_values(["eps", "value"], ascending=[True, False], kind="stable")  # the lowest of several attacks
    at = named.metric + "@" + named.eps.map(number)
    passed = [check.passed for check in checks(rows)]
    found = {
        **dict(zip(named.metric, named.value, strict=True)),
        **dict(zip(at, named.value, strict=True)),
        "checks_passed": sum(passed) / max(1, len(passed)),
    }
    return {**found, "robust_accuracy": found.get("union_accuracy", found.get("robust_accuracy", nan))}


def checks(rows: pd.DataFrame) -> list[Check]:
    """The checks among the rows of results.csv."""
    part = where(rows, exhibit="check")
    return [Check(row.metric, of_row(row), "" if pd.isna(row.source) else row.source) for _, row in part.iterrows()]


def _by_eps(rows: pd.DataFrame) -> pd.DataFrame:
    """The values of each attack, one column an eps."""
    written = rows.assign(eps=rows.eps.map(number))
    return written.pivot_table(index="attack", columns="eps", values="value", sort=False).reset_index()


def _union(run: Run, rows: pd.DataFrame) -> None:
    """The robust accuracy at each bound, and that of the images that survive in all norms."""
    part = rows[rows.metric.isin(["robust_accuracy", "union_accuracy"])]
    bounds = [
        f"{_WRITTEN[row.norm]}, eps = {number(row.eps)}" if row.eps == row.eps else "all norms at once"
        for row in part.itertuples()
    ]
    run.exhibit(
        "union",
        "Robust accuracy in several norms",
        f"The share of {int(part.n.iloc[0])} images that are classified right under all attacks in a norm. An image is robust "
        "in all norms at once if it survives the largest eps of each. The ends are those of the 95 % interval.",
        table=pd.DataFrame(
            {"bound": bounds, "robust accuracy": part.value, "lower end": part.ci_low, "upper end": part.ci_high}
        ),
    )


def _robustness(run: Run, rows: pd.DataFrame, distance: pd.DataFrame, norm: str, several: bool) -> None:
    scale, unit = _SCALE[norm]
    x = f"eps{unit}"
    more, rows = rows[rows.exhibit != "robustness"], where(rows, exhibit="robustness")
    worst = rows.groupby("eps", as_index=False).last().assign(attack="worst case")
    single = rows.groupby("eps", as_index=False).first().assign(attack=rows[rows.eps > 0].attack.iloc[0])
    named = NEAREST if NEAREST in set(distance.attack) else None
    between = where(distance, metric="accuracy", **({"attack": named} if named else {})).assign(attack="nearest found")
    curve = pd.concat([worst, single, between[between.eps <= rows.eps.max()]])
    apart = ["worst case", single.attack.iloc[0]] if len(between) else []
    ends = [worst.assign(value=worst[end], attack=f"95 % interval, {which} end") for end, which in zip(_ENDS, _SIDES)]
    run.exhibit(
        f"robustness-{norm}" if several else "robustness",
        f"Robust accuracy, {_WRITTEN[norm]}" if several else "Robust accuracy",
        f"The share of {int(rows.n.iloc[0])} images that are classified right under attack, within eps in the "
        f"{_WRITTEN[norm]} norm. Each line of the table is the worst case per image over its attack and all attacks above it, "
        "with the interval of the last: an image that was beaten at this eps or a smaller one is not attacked again. The "
        "attacks know the true label. The model judges every adversarial image in float32. In 8 bits, as in a file, an image "
        "still counts as beaten where the perturbation found beats it, or the same lengthened to eps."
        + (_DRAWN if "one draw" in set(more.attack) else "")
        + (
            " Between the attacked bounds the curve shows what the nearest images found leave, an upper bound."
            if apart
            else ""
        ),
        charts.curves(
            curve.assign(**{x: curve.eps * scale}), x, "value", "attack", "accuracy", band=_ENDS, apart=apart
        ),
        _by_eps(pd.concat([rows, *ends, more])),
    )


def _bracket(run: Run, best: pd.DataFrame, robust: pd.DataFrame) -> None:
    if best.empty:
        return
    best = best.merge(robust[["norm", "eps", "value"]], on=["norm", "eps"], suffixes=("", "_attacked"))
    columns = ["norm", "eps", "proven at least", "attacked down to at most", "proven by", "on images"]
    table = best[["norm", "eps", "value", "value_attacked", "variant", "n"]].set_axis(columns, axis="columns")
    run.exhibit(
        "bracket",
        "Proven and attacked",
        f"The robust accuracy on these {int(robust.n.iloc[0])} images lies between what is proven, against every attack, and "
        "what the attacks here left. An image in between is only unbroken. Interval bounds (Gowal et al., 2018) are loose for "
        "a network that was not trained for them. Randomized smoothing (Cohen et al., 2019; ART's) certifies the vote of the "
        "model over noise, each image with a chance of error of 0.1 %; the attacks are on the mean of ten draws of it.",
        table=table.assign(norm=table.norm.map(_WRITTEN), eps=table.eps.map(number)),
    )


_ADAPTIVE = "PGD does not know the detector; SelectivePGD and OrthogonalPGD (Bryniarski et al., 2021) do."
_UNKNOWN = (
    "NO ATTACK HERE KNOWS THE DETECTOR, whose score has no gradient: these figures say nothing about an attacker who does. "
    "Give it as an nn.Module to have it attacked."
)


def _detector(run: Run, rows: pd.DataFrame, separation: pd.DataFrame) -> None:
    if rows.empty:
        return
    joint = where(rows, metric="joint_accuracy")
    flagged = where(rows, metric="false_positives").value.item()
    knows = set(separation.attack) - {"PGD"}
    run.exhibit(
        "detector",
        "With the detector: right, or flagged",
        f"The share of {int(joint.n.iloc[0])} images, every second one, that are classified right or flagged. The other "
        "images, clean, fixed the detector's threshold at 5 % false positives; of the evaluated images, when they are clean, "
        f"it flags {flagged:.1%}. Each line of the table is the worst case per image over its attack and all attacks above it. "
        + (_ADAPTIVE if knows else _UNKNOWN),
        table=_by_eps(joint),
    )
    written = separation.assign(eps=separation.eps.map(number), metric=separation.metric.map(_SEPARATION))
    run.exhibit(
        "separation",
        "How well the detector's scores separate",
        "Clean images against the adversarial ones of each attack that the model misclassifies. AUPR counts adversarial images "
        "as positives. The thresholds of the true-positive rates are fixed on other, clean images; that of 95 % on the "
        "adversarial ones themselves. " + (_ADAPTIVE if knows else _UNKNOWN),
        table=written.pivot_table("value", ["attack", "eps"], "metric", sort=False, dropna=False, observed=True)
        .dropna(how="all")
        .reset_index()[["attack", "eps", *_SEPARATION.values()]],
    )


_SEPARATION = {
    "auroc": "AUROC",
    "aupr": "AUPR",
    "fpr_at_95_tpr": "FPR at 95 % TPR",
    "tpr_at_1_fpr": "TPR at 1 % FPR",
    "tpr_at_5_fpr": "TPR at 5 % FPR",
}


def _corruptions(run: Run, rows: pd.DataFrame) -> None:
    if rows.empty:
        return
    single = where(rows, metric="corruption_accuracy")
    table = single.pivot_table("value", "attack", "severity", sort=False)[list(SEVERITIES)]
    table = table.assign(mean=table.mean(axis=1)).rename(columns={level: f"severity {level}" for level in SEVERITIES})
    kinds = {name: kind for kind, names in KINDS.items() for name in names}
    table.insert(0, "kind", table.index.map(kinds))
    means = where(rows, metric="kind_accuracy").rename(columns={"value": "accuracy", "variant": "kind"})
    run.exhibit(
        "corruptions",
        "Under the corruptions of ImageNet-C",
        f"The share of {int(single.n.iloc[0])} images that are classified right under each corruption (Hendrycks & Dietterich, "
        f"2019), with no attack; over all {share(where(rows, metric='mean_corruption_accuracy').iloc[0])}. The chart shows the "
        "mean of each kind with its 95 % interval; those of the table are in results.csv. The severities are those of "
        "ImageNet-C, which are made for images of 224 pixels: on smaller ones blurs are harder than those of CIFAR-10-C. "
        "Images of less than 32 pixels are mirrored at their edges to that size, and cut out again.",
        charts.lines(
            means[["kind", "severity", "accuracy", *_ENDS]].astype({"severity": int}),
            *("severity", "accuracy", "kind", "severity", "accuracy"),
            band=_ENDS,
            scale="share",
        ),
        table.reset_index(names="corruption").assign(corruption=lambda found: found.corruption.str.replace("_", " ")),
    )


def _rotations(run: Run, rows: pd.DataFrame) -> None:
    if rows.empty:
        return
    columns = {"attack": "worst of", "value": "accuracy", "ci_low": "lower end", "ci_high": "upper end"}
    run.exhibit(
        "rotations",
        "Turned and shifted",
        f"The share of {int(rows.n.iloc[0])} images that are classified right at every place of a grid: 31 angles up to 30 "
        "degrees either way, and five shifts each way up to a tenth of the image (Engstrom et al., 2019), alone and together. What an "
        "image leaves is black. The ends are those of the 95 % interval.",
        table=rows[list(columns)].rename(columns=columns),
    )


def _checks(run: Run, rows: pd.DataFrame) -> None:
    made, norm, eps = checks(rows), rows.norm.iloc[0], rows.eps.iloc[0]
    failed = [check.name for check in made if not check.passed]
    table = pd.DataFrame(
        {
            "Check": [check.name for check in made],
            "Result": ["passed" if check.passed else "FAILED" for check in made],
            "Measured": [check.measured for check in made],
            "What it means": [check.means for check in made],
            "What to do": [check.do for check in made],
        }
    )
    if not failed:
        table = table.drop(columns=["What it means", "What to do"])
    verdict = f"FAILED: {', '.join(failed)}. The figures above are not to be trusted." if failed else "All passed."
    caption = f"{verdict} The checks that attack take PGD in {_WRITTEN[norm]} at eps = {number(eps)}."
    run.exhibit("checks", "Did the attacks work?", caption, table=table)


def _indicators(run: Run, rows: pd.DataFrame) -> None:
    if rows.empty:
        return
    run.exhibit(
        "indicators",
        "Did each attack work?",
        f"Indicators of attack failure (Pintor et al., 2022) of each attack that follows gradients for several steps, at "
        f"eps = {number(rows.eps.iloc[0])}: the share of {int(rows.n.iloc[0])} images that show each. Silent success: a step "
        "was misclassified, and the image returned is not. Incomplete optimisation: the image is not beaten and its loss still "
        "rises. Transfer failure: what the attack differentiates is beaten, and the model is not. Unconstrained failure: the "
        "image stays right at a bound that allows a grey image.",
        table=rows.pivot_table("value", "attack", "metric", sort=False).reset_index(),
    )


def _distance(run: Run, rows: pd.DataFrame) -> None:
    norms = rows.groupby("attack").norm.nunique()
    for (attack, norm), part in rows.groupby(["attack", "norm"], sort=False):
        scale, unit = _SCALE[norm]
        x = f"distance{unit}"
        curve = where(part, metric="accuracy")
        median = where(part, metric="median_distance")[["attack", "norm", "value", "ci_low", "ci_high", "n"]]
        median[["value", "ci_low", "ci_high"]] *= scale
        run.exhibit(
            re.sub(r"[^\w.-]+", "-", f"{attack} {norm}" if norms[attack] > 1 else str(attack)),
            f"Distance to the nearest boundary, {_WRITTEN[norm]}: {attack}",
            f"The share of images that are classified right and stay so within a distance ({attack}). The median is over the "
            "images that were right; it is infinite where most were not beaten.",
            charts.curves(curve.assign(**{x: curve.eps * scale}), x, "value", "attack", "accuracy", band=_ENDS),
            median.rename(columns={"value": f"median{unit}"}),
        )


def _over_passes(cost: pd.DataFrame, robustness: pd.DataFrame) -> pd.DataFrame:
    """The accuracy at each bound after each attack, over the passes an image that all attacks so far have cost."""
    both = cost.assign(eps=cost.eps.fillna(0.0)).groupby(["norm", "attack", "eps"]).value.sum()
    clean, points = robustness[robustness.eps == 0].iloc[0], []
    several = robustness.norm.nunique() > 1
    for (norm, eps), rows in robustness[robustness.eps > 0].groupby(["norm", "eps"], sort=False):
        bound, passes = f"{norm} {number(eps)}" if several else number(eps), 0.0
        points.append((bound, passes, clean.value, clean.ci_low, clean.ci_high))
        for _, row in rows.iterrows():
            name = row.attack.removeprefix("+ ")
            passes += both.get((norm, name, eps), 0.0) + both.get((norm, name, 0.0), 0.0)
            points.append((bound, passes, row.value, row.ci_low, row.ci_high))
    return pd.DataFrame(points, columns=["eps", "passes an image", "accuracy", *_ENDS])


def _cost(run: Run, rows: pd.DataFrame, robustness: pd.DataFrame) -> None:
    if rows.empty:
        return
    written = rows.assign(eps=[number(eps) if eps == eps else "" for eps in rows.eps], metric=rows.metric.str[:-7])
    index = ["norm", "attack", "eps"] if written.norm.nunique() > 1 else ["attack", "eps"]
    table = written.pivot_table("value", index, "metric", sort=False).reset_index()
    run.exhibit(
        "cost",
        "What the attacks cost",
        f"Forward and backward passes through the model, counted at the model, per image of all {int(rows.n.iloc[0])}: an "
        "image that is beaten at this eps or a smaller one costs nothing more. One run of DeepFool, FMN and FAB-T counts at "
        "every eps. The chart shows the accuracy after each attack over the passes of all attacks so far.",
        charts.curves(_over_passes(rows, robustness), "passes an image", "accuracy", "eps", "accuracy", band=_ENDS),
        table=table.assign(both=table.forward + table.backward).round(1),
    )
