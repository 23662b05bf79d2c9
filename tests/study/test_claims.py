"""Verdicts from hand-made rows; how many more images decide an open claim, against the interval itself."""

import numpy as np
import pandas as pd
import pytest

from advbench import metrics
from advbench.metrics import Figure
from advbench.study import Claim, band, every, verdicts
from advbench.study.claims import judged, summary


def rows(*entries):
    columns = ("target", "value", "accept_low", "accept_high", "ci_low", "ci_high", "n", "unit")
    table = pd.DataFrame([dict(zip(columns, entry, strict=False)) for entry in entries])
    return table.reindex(columns=list(metrics.COLUMNS)).astype(metrics.COLUMNS)


def word(*entry):
    (verdict,) = verdicts(rows(("M1", *entry)))
    return verdict.word


@pytest.mark.parametrize(
    "value, low, high, expected",
    [
        (0.5, 0.4, 0.6, "holds"),
        (0.4, 0.4, 0.6, "holds"),
        (0.39, 0.4, 0.6, "missed"),
        (0.61, 0.4, 0.6, "missed"),
        (0.9, 0.4, None, "holds"),
        (0.1, None, 0.6, "holds"),
        (0.7, None, 0.6, "missed"),
        (None, 0.4, 0.6, "not measured"),
    ],
)
def test_without_an_interval_the_figure_decides(value, low, high, expected):
    assert word(value, low, high) == expected


@pytest.mark.parametrize(
    "value, low, high, ci_low, ci_high, expected",
    [
        (0.5, 0.4, None, 0.45, 0.55, "holds"),  # the interval lies inside
        (0.5, 0.4, None, 0.35, 0.65, "open"),
        (0.39, 0.4, None, 0.35, 0.43, "open"),
        (0.3, 0.4, None, 0.25, 0.35, "missed"),  # it lies outside
        (0.3, 0.4, None, 0.25, 0.4, "open"),  # it touches the bound
        (0.7, None, 0.6, 0.65, 0.75, "missed"),
        (0.5, 0.4, 0.6, 0.36, 0.55, "holds"),  # two ends, the figure inside, the interval no wider than the range
        (0.5, 0.4, 0.6, 0.35, 0.65, "open"),  # wider
        (0.39, 0.4, 0.6, 0.35, 0.45, "open"),  # narrow, but the figure outside
        (0.3, 0.4, 0.6, 0.25, 0.35, "missed"),
    ],
)
def test_with_an_interval_the_interval_decides(value, low, high, ci_low, ci_high, expected):
    assert word(value, low, high, ci_low, ci_high, 100) == expected


@pytest.mark.parametrize("hits, n, low, high", [(54, 100, 0.5, None), (46, 100, 0.5, None), (54, 100, 0.5, 0.56)])
def test_as_many_more_images_as_an_open_claim_needs_decide_it(hits, n, low, high):
    figure = metrics.proportion(hits, n)
    (verdict,) = verdicts(rows(("M1", figure.value, low, high, figure.ci_low, figure.ci_high, n, "images")))
    assert verdict.word == "open" and verdict.needs.endswith("more images would decide it")
    more = int(verdict.needs.split()[1].replace(",", ""))
    for share, expected in ((0.8, "open"), (1.05, "decided")):
        many = n + round(share * more)
        figure = metrics.proportion(round(hits / n * many), many)
        found = word(figure.value, low, high, figure.ci_low, figure.ci_high, many)
        assert (found == "open") is (expected == "open")


@pytest.mark.parametrize("n, low", [(2, 0.4), (3, 0.4), (3, 0.49), (6, 0.495)])
def test_as_many_more_seeds_as_an_open_claim_needs_decide_it(n, low):
    def of(n):  # seeds of the same mean and standard deviation
        values = np.linspace(-1, 1, n)
        return metrics.mean(0.5 + 0.08 * values / values.std(ddof=1), unit="seeds")

    figure = of(n)
    (verdict,) = verdicts(rows(("M1", figure.value, low, None, figure.ci_low, figure.ci_high, n, "seeds")))
    assert verdict.word == "open" and verdict.needs.endswith(
        ("more seeds would decide it", " 1 more seed would decide it")
    )
    more = int(verdict.needs.split()[1].replace(",", ""))
    assert of(n + more).ci_low >= low > of(n + more - 1).ci_low or more == 1


def test_a_mean_over_seeds_on_its_bound_is_not_decided_by_more():
    for value in (0.4, np.nextafter(0.4, 0)):
        (verdict,) = verdicts(rows(("M1", value, 0.4, None, 0.35, 0.45, 3, "seeds")))
        assert verdict.needs.startswith("no number")
    (verdict,) = verdicts(rows(("M1", 0.5, 0.4, None, 0.45, 0.55, 3, "seeds")))
    assert verdict.needs == ""


def test_no_more_images_are_asked_for_than_a_test_set_has():
    (verdict,) = verdicts(rows(("M1", 0.826, 0.829, 0.869, 0.818, 0.833, 10_000, "images")))
    assert verdict.word == "open" and verdict.needs == "10,000 images would not decide it; more seeds may"


def test_a_run_on_other_data_decides_nothing():
    table = rows(("M1", 0.5, 0.4, 0.6), ("M2", 0.1, 0.4, 0.6)).assign(note="digits in place of cifar10")
    assert summary(verdicts(table)) == "not measured: M1, M2"
    assert verdicts(table)[0].note == "digits in place of cifar10"


def test_a_claim_is_as_good_as_its_worst_part():
    table = rows(
        ("M1", 0.5, 0.4, None),
        ("M2", 0.5, 0.4, None, 0.3, 0.7, 10),
        ("M2", 0.5, 0.4, None),
        ("M9", 0.7, 0.6, None),
        ("M9", 0.0, 0.1, None),
        ("M4", None, 0.1, None),
    )
    assert summary(verdicts(table)) == "holds: M1; open: M2; missed: M9; not measured: M4"


def test_a_claim_reads_its_figure_and_may_be_measured_in_another_way():
    usual = Claim("X", "It is so.", "usual", lambda rows: Figure(rows.value.max(), 10), 0.9, band(0.9, 0.05))
    none = Claim("X", "It is so.", "never", lambda rows: None)
    other = Claim("X", "It is so.", "usual", lambda rows: (other.instead(measured="other"), Figure(1.0, 0)))
    table = pd.DataFrame({"value": [0.2, 0.88]})
    found = judged([usual, none, other], table)
    assert [(v.metric, v.word) for v in found] == [("usual", "holds"), ("never", "not measured"), ("other", "holds")]
    assert found[0].value == 0.88 and (found[0].accept_low, found[0].accept_high) == (0.85, 0.95)


def test_every_claim_of_the_recipes_is_a_whole_sentence_with_a_range():
    claims = [claim for recipe in every() for claim in recipe.claims]
    assert len({claim.id for claim in claims}) >= 34
    for claim in claims:
        assert claim.says[0].isupper() and claim.says.endswith(".")
        assert claim.accept != (None, None) and claim.measured
        if claim.reported is not None and None not in claim.accept:
            assert claim.accept[0] <= claim.reported <= claim.accept[1]
