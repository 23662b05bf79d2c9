"""The accuracy on the images that were found: in 8 bits, and in single draws of a random model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advbench import metrics
from advbench.estimators import averaged_part
from advbench.evaluation.attacking import Outcome
from advbench.evaluation.finds import CHOOSING, right_draws
from advbench.evaluation.subject import Subject
from advbench.seeds import derive, own_global_state


def rounded_rows(outcome: Outcome) -> Iterator[dict[str, object]]:
    """The accuracy on the images found when they are rounded to 8 bits, at each eps, as rows of results.csv."""
    for eps in outcome.bounds:
        found = [each.found["eps_in_8_bits"] for each in outcome.attempts if each.attack.norm == outcome.norm]
        right = outcome.clean & (np.min(found, axis=0) > eps)
        share = metrics.proportion(int(right.sum()), len(right))
        yield share.row(
            "accuracy_in_8_bits", exhibit="rounded", attack="the same images in 8 bits", norm=outcome.norm, eps=eps
        )


def draw_rows(outcome: Outcome, subject: Subject) -> Iterator[dict[str, object]]:
    """How often one draw of a random model is right, clean and about the strongest image within each eps.

    The accuracy is the mean over images and draws, and its interval is over the images. Its spread is the standard deviation
    over draws, and the ends of its interval are those of the least and the most accurate draw.
    """
    if averaged_part(subject.classifier.model) is None:
        return
    x, y = subject.images.x, subject.images.y
    with own_global_state(derive(subject.seed, "draws")):
        clean = np.concatenate([right_draws(subject.classifier, x[part], y[part]) for part in x.parts()])
    for eps in (0.0, *outcome.bounds):
        strongest = clean
        for each in outcome.attempts:
            reach = each.distance if each.eps is None else np.full(len(x), each.eps)
            if eps and each.attack.norm == outcome.norm:
                found = np.where((reach <= eps)[:, None], each.found["draws"], True)
                stronger = found[:, :CHOOSING].sum(1) < strongest[:, :CHOOSING].sum(1)
                strongest = np.where(stronger[:, None], found, strongest)
        judged = strongest[:, CHOOSING:]
        share, by_draw = metrics.mean(judged.mean(1)), judged.mean(0)
        context = {"exhibit": "draws", "attack": "one draw", "norm": outcome.norm, "eps": eps}
        yield metrics.Figure(share.value, share.n, max(0, share.ci_low), min(1, share.ci_high)).row(
            "one_draw_accuracy", **context
        )
        spread = metrics.Figure(float(by_draw.std(ddof=1)), share.n, float(by_draw.min()), float(by_draw.max()))
        yield spread.row("one_draw_spread", **context)


ROWS = {"rounded": rounded_rows}
"""What is told of the outcome in each norm, by stage."""
