"""The answer of an evaluation, from rows of which everything is known."""

import numpy as np
import pandas as pd
import pytest

from advbench import metrics
from advbench.evaluation.exhibits import answer
from advbench.metrics.sanity import Check
from advbench.study.schema import typed


def rows(right, distance=0.4 / 255, deterministic=1.0, n=1000):
    """An evaluation of so many images, at 2/255 and 8/255, with two checks."""
    for name, value in (("gradients", 0.0), ("deterministic", deterministic)):
        yield Check(name, metrics.proportion(round(value * 64), 64)).row(exhibit="check", norm="linf", eps=8 / 255)
    for eps, hits in ((0, round(0.912 * n)), (2 / 255, round(0.5 * n)), (8 / 255, right)):
        name = "robust_accuracy" if eps else "clean_accuracy"
        yield metrics.proportion(hits, n).row(name, exhibit="headline", norm="linf", eps=eps)
    nearest = metrics.median(np.full(100, distance))
    yield nearest.row("median_distance", exhibit="distance", attack="deepfool-linf", norm="linf")


def texts(*arguments, **changes):
    return [finding.text for finding in answer(typed(pd.DataFrame(rows(*arguments, **changes))))]


def test_the_answer_is_what_a_person_would_say():
    assert texts(0) == [
        "91.2 % right on clean images; at 8/255 nothing survives (0 of 1,000, at most 0.4 %); the nearest adversarial image "
        "found is 0.4/255 away in the median.",
        "All 2 checks passed, so the attacks worked.",
    ]


@pytest.mark.parametrize(
    "right, said",
    [
        (312, "at 8/255 31.2 % survive (312 of 1,000; 28.4 % to 34.1 %)"),
        (1000, "at 8/255 everything survives (1,000 of"),
    ],
)
def test_what_survives_has_its_interval(right, said):
    assert said in texts(right)[0]


def test_no_distance_is_said_where_most_images_were_not_reached():
    assert "nearest" not in texts(0, distance=np.inf)[0]


def test_a_failed_check_is_said_first_and_leads_to_its_row():
    table = typed(pd.DataFrame(rows(900, deterministic=0.5)))
    first, second = answer(table)
    assert first.text.startswith("1 of 2 checks failed (deterministic): the figures are not to be trusted")
    assert table.metric[first.line - 2] == "deterministic" and "90.0 % survive" in second.text
    assert table.metric[second.line - 2] == "robust_accuracy" and table.eps[second.line - 2] == 8 / 255
