"""The exhibits of ``compare_defences``, from its result rows and what the registry says of each defence."""

from __future__ import annotations

import pandas as pd

from advbench.recipes._compare_defences_lab import ADAPTIVE, CERTIFIED, PLAIN, WORST
from advbench.recipes._compare_defences_registry import DEFENCES
from advbench.report import charts
from advbench.study.run import Run


def show(run: Run) -> None:
    """Put every exhibit on the page."""
    rows = run.results()
    comparisons(run, rows)
    _cost(run, rows)
    _notes(run, rows)


def comparisons(run: Run, rows: pd.DataFrame, told: str = "") -> None:
    """The tables of defences by attacks, of the adaptive attacks and of what is proven.

    :param told: what a reader must know of how these defences were made.
    """
    for eps in sorted(rows[rows.exhibit == "comparison"].eps.unique()):
        _comparison(run, rows, eps, told)
    _adaptive(run, rows)
    _certificate(run, rows)


def comparison(rows: pd.DataFrame, eps: float) -> pd.DataFrame:
    """Defences by attacks at one eps: the share of images that stand, the worst case for each image, and last the gap."""
    part = rows[(rows.exhibit == "comparison") & (rows.eps == eps)]
    table = part.pivot_table(index="defence", columns="attack", values="value", sort=False)
    table = table.reindex(columns=[*PLAIN, ADAPTIVE, WORST])
    return _named(table.assign(gap=table.pgd - table[ADAPTIVE]).reset_index())


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """With the kind and the origin of each defence beside its name."""
    known = [DEFENCES[name] for name in table.defence]
    table.insert(1, "kind", [defence.kind for defence in known])
    table.insert(2, "library", [defence.library for defence in known])
    return table


def _comparison(run: Run, rows: pd.DataFrame, eps: float, told: str) -> None:
    table = comparison(rows, eps)
    detectors = bool((table.kind == "detector").any())
    bound = f"{eps:.3g} ({eps * 255:.3g}/255)"
    slug = f"{eps * 255:.3g}".replace(".", "-")
    run.exhibit(
        f"comparison-{slug}",
        f"Defences by attacks, l-inf within {bound}",
        f"{told}The share of {int(rows[rows.exhibit == 'comparison'].n.max())} test images that stand: classified right"
        + (
            " or, with a detector, flagged; each detector has one threshold, fixed on clean validation images"
            * detectors
        )
        + ". transfer: PGD images of the undefended network; fgsm and pgd: on the network itself, as if nothing stood around it "
        "and it had been trained like any other (naive); adaptive: every image under the attacks that are made for the defence; "
        "worst case: under all of the row, which is the defence's figure; gap: pgd less adaptive, what a naive test overstates.",
        table=table,
    )
    run.exhibit(
        f"naive-adaptive-{slug}",
        f"What is left once the attack knows the defence, l-inf within {bound}",
        "The ring is the share of images that stand under PGD which does not know the defence, the dot the worst case over "
        "all attacks, adaptive ones included. A long line is a defence that stood only because the attack did not know it.",
        charts.pairs(table, "defence", "pgd", WORST, "kind", "share of images that stand"),
    )


_DETECTORS = (
    " selective-pgd and orthogonal-pgd: on classifier and detector at once. selected-pgd and surrogate-detector serve the "
    "detectors from whose score no gradient reaches the image: of many PGD images the one that the detector suspects least, "
    "and selective PGD on a detector that imitates it. They are a best effort: that they fail does not show that such a "
    "detector holds."
)


def _adaptive(run: Run, rows: pd.DataFrame) -> None:
    part = rows[(rows.exhibit == "comparison") & ~rows.attack.isin([*PLAIN, ADAPTIVE, WORST])]
    table = part.pivot_table(index=["defence", "attack"], columns="eps", values="value", sort=False).reset_index()
    table.columns = [column if isinstance(column, str) else f"eps {column:.3g}" for column in table.columns]
    run.exhibit(
        "adaptive",
        "The attack that knows each defence",
        "The share of images that stand under each of them alone. pgd-restarts: white-box PGD from several starts; bpda: the same "
        "through the real preprocessor, the identity in its place on the way back; pgd-scaled-logits: on logits divided by the "
        "temperature, where gradients do not vanish; pgd-expectation: through the reformer, gradients means over draws. The "
        "reformer is random: each of its figures is one draw an image, and its worst case counts every draw."
        + _DETECTORS
        * bool(part.attack.isin(["selective-pgd", "selected-pgd"]).any()),
        table=table,
    )


def _certificate(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "certificate"]
    if part.empty:
        return
    table = part[["defence", "metric", "value", "n", "ci_low", "ci_high"]]
    run.exhibit(
        "certificate",
        "What is proven, whatever the attack",
        "lipschitz_bound: no two images are further apart in logits than this times their l2 distance. certified_radius: the median "
        "over test images of the l2 distance, for images in [0, 1], within which no image has another label (0 where the image is "
        f"wrong already). certified_accuracy: the share of images that are right within {CERTIFIED * 255:.0f}/255 of l2, for certain.",
        table=table,
    )


def _cost(run: Run, rows: pd.DataFrame) -> None:
    part = rows[rows.exhibit == "cost"]
    table = part.pivot_table(index="defence", columns="metric", values="value", sort=False)
    table = table.reindex(columns=["clean_accuracy", "false_positives", "training_seconds"])
    table.insert(1, "clean_cost", table.clean_accuracy.get("none") - table.clean_accuracy)
    run.exhibit(
        "cost",
        "What each defence costs",
        "Accuracy on clean test images, for which an image that a detector flags counts as lost, and how much less that is than "
        "without a defence; the share of clean test images that are flagged; seconds of training on this machine, in as many "
        "processes at once as the run had. Preprocessors and detectors come on top of the undefended network's training.",
        table=_named(table.reset_index()),
    )


def _notes(run: Run, rows: pd.DataFrame) -> None:
    names = list(dict.fromkeys(rows[rows.exhibit == "cost"].defence))
    run.exhibit(
        "defences",
        "The defences",
        "What each one is, and what a reader must know of it. art: the class of the installed Adversarial Robustness Toolbox, as it is.",
        table=_named(
            pd.DataFrame(
                {
                    "defence": names,
                    "what it does": [DEFENCES[name].says for name in names],
                    "note": [DEFENCES[name].note for name in names],
                }
            )
        ),
    )
