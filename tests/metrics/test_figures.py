import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from advbench import metrics

scores = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40).map(np.array)


@given(n=st.integers(1, 2000), share=st.floats(0, 1))
def test_the_interval_is_wilsons(n, share):
    hits = round(n * share)
    figure = metrics.proportion(hits, n)
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert (figure.value, figure.n) == (hits / n, n)
    np.testing.assert_allclose([figure.ci_low, figure.ci_high], [theirs.low, theirs.high], atol=1e-9)


def test_nothing_counted_is_nan():
    figure = metrics.proportion(0, 0)
    assert np.isnan(figure.value) and figure.n == 0


def test_the_interval_of_a_mean_is_students():
    """By the table of t: 12.706 for one degree of freedom, 2.776 for four."""
    figure = metrics.mean(np.array([0.0, 1.0]))
    assert (figure.value, figure.n) == (0.5, 2)
    assert (figure.ci_low, figure.ci_high) == (
        pytest.approx(0.5 - 6.353, abs=1e-3),
        pytest.approx(0.5 + 6.353, abs=1e-3),
    )
    figure = metrics.mean(np.arange(1, 6))
    half = 2.776 * np.sqrt(2.5 / 5)
    assert (figure.value, figure.n) == (3, 5)
    assert (figure.ci_low, figure.ci_high) == (pytest.approx(3 - half, abs=1e-3), pytest.approx(3 + half, abs=1e-3))


def test_the_mean_of_one_has_no_interval_and_of_none_is_nan():
    figure = metrics.mean(np.array([2.0]))
    assert (figure.value, figure.n) == (2, 1) and np.isnan([figure.ci_low, figure.ci_high]).all()
    figure = metrics.mean(np.array([]))
    assert figure.n == 0 and np.isnan([figure.value, figure.ci_low, figure.ci_high]).all()


def test_the_interval_of_a_median_is_between_order_statistics():
    """Of ten values the second and the ninth, of twenty the sixth and the fifteenth (Conover, 1999, table A3)."""
    shuffled = np.random.default_rng(0).permutation
    for n, ranks in ((10, (2, 9)), (20, (6, 15))):
        figure = metrics.median(shuffled(np.arange(1.0, n + 1)))
        assert (figure.value, figure.n, figure.ci_low, figure.ci_high) == ((n + 1) / 2, n, *ranks)


@pytest.mark.parametrize(
    "values, value", [([3, 1, 2], 2), ([4, 1, 2, 3], 2.5), ([1, 2, np.inf], 2), ([1, 2, np.inf, np.inf], np.inf)]
)
def test_the_median_of_few_has_no_interval(values, value):
    figure = metrics.median(np.array(values, float))
    assert (figure.value, figure.n) == (value, len(values)) and np.isnan([figure.ci_low, figure.ci_high]).all()


def test_the_median_of_more_infinite_values_than_finite_is_infinite():
    figure = metrics.median(np.array([1.0, 2.0] + [np.inf] * 8))
    assert (figure.value, figure.ci_low, figure.ci_high) == (np.inf, 2, np.inf)
    nothing = metrics.median(np.array([]))
    assert nothing.n == 0 and np.isnan([nothing.value, nothing.ci_low, nothing.ci_high]).all()


@given(clean=scores, adversarial=scores)
@example(clean=np.array([0.5, 0.2]), adversarial=np.array([0.5, 0.7]))  # a score at the threshold is not flagged
def test_detectability_is_balanced_accuracy(clean, adversarial):
    truth = np.repeat([0, 1], [len(clean), len(adversarial)])
    flagged = np.concatenate([clean, adversarial]) > 0.5
    figure = metrics.detectability(clean, adversarial)
    assert figure.value == pytest.approx(balanced_accuracy_score(truth, flagged))
    assert figure.ci_low <= figure.value <= figure.ci_high


@given(clean=scores, adversarial=scores)
def test_auc_is_scikit_learns_with_an_interval_around_it(clean, adversarial):
    truth = np.repeat([0, 1], [len(clean), len(adversarial)])
    figure = metrics.auc(clean, adversarial)
    assert figure.value == pytest.approx(roc_auc_score(truth, np.concatenate([clean, adversarial])))
    assert 0 <= figure.ci_low <= figure.value <= figure.ci_high <= 1


def test_the_auc_interval_is_hanleys_and_mcneils():
    """An area of 3/4 over 40 and 20 scores: Q1 = 0.6, Q2 = 9/14, so the variance is (3/16 + 19 * 0.0375 + 39 * 9/112) / 800."""
    figure = metrics.auc(np.repeat([0.0, 1.0], [30, 10]), np.full(20, 0.5))
    half = 1.959964 * np.sqrt((3 / 16 + 19 * 0.0375 + 39 * 9 / 112) / 800)
    assert (figure.value, figure.n) == (0.75, 60)
    assert (figure.ci_low, figure.ci_high) == (
        pytest.approx(0.75 - half, rel=1e-6),
        pytest.approx(0.75 + half, rel=1e-6),
    )


def test_the_auc_interval_covers_the_truth_as_often_as_it_says():
    """Normal scores one standard deviation apart: the area is Phi(1 / sqrt 2) = 0.7602."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        figure = metrics.auc(rng.standard_normal(80), 1 + rng.standard_normal(80))
        covered += figure.ci_low <= 0.76025 <= figure.ci_high
    assert 0.92 <= covered / 300 <= 0.98


def test_the_balanced_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        first, second = (metrics.proportion(int(rng.binomial(60, p)), 60) for p in (0.9, 0.6))
        figure = metrics.balanced(first, second)
        covered += figure.ci_low <= 0.75 <= figure.ci_high
    assert 0.92 <= covered / 500 <= 0.99


def test_detection_of_no_adversarial_image_is_nan():
    assert np.isnan(metrics.detectability(np.array([0.1]), np.array([])).value)
    assert np.isnan(metrics.auc(np.array([0.1]), np.array([])).value)


def test_accuracy_counts_equal_labels_and_refuses_other_lengths():
    assert metrics.accuracy(np.array([1, 2, 3]), np.array([1, 2, 0])).value == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="shape"):
        metrics.accuracy(np.array([1]), np.array([1, 2]))


def test_a_row_has_only_columns_of_the_results():
    assert set(metrics.proportion(1, 2).row("accuracy", attack="fgsm")) <= set(metrics.COLUMNS)
    with pytest.raises(ValueError, match="no such column: atack"):
        metrics.proportion(1, 2).row("accuracy", atack="fgsm")


def test_the_difference_of_proportions_is_newcombes():
    """56/70 - 48/80 = 0.2 with 0.0524 to 0.3339 (Newcombe, 1998, table II, (a), method 10)."""
    found = metrics.difference(metrics.proportion(56, 70), metrics.proportion(48, 80))
    assert (found.value, found.n) == (pytest.approx(0.2), 70)
    assert (found.ci_low, found.ci_high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_the_balanced_interval_is_newcombes():
    """(p + (1 - q)) / 2 is (1 + p - q) / 2, so the example above holds for it too."""
    found = metrics.balanced(metrics.proportion(56, 70), metrics.proportion(32, 80))
    assert (found.value, found.n) == (pytest.approx(0.6), 150)
    assert (found.ci_low, found.ci_high) == (
        pytest.approx((1 + 0.0524) / 2, abs=1e-4),
        pytest.approx((1 + 0.3339) / 2, abs=1e-4),
    )


def test_one_seed_keeps_its_interval_and_several_have_one_of_their_own():
    table = pd.DataFrame([metrics.proportion(hits, 100).row("accuracy") for hits in (40, 50, 60)])
    assert metrics.over_seeds(table.iloc[:1]) == metrics.proportion(40, 100)
    assert metrics.over_seeds(table) == metrics.mean(np.array([0.4, 0.5, 0.6]), unit="seeds")
    assert np.isnan(metrics.over_seeds(table.iloc[:0]).value)


@pytest.mark.parametrize(
    "cells, interval",
    [
        ((20, 12, 2, 16), (0.0562, 0.3292)),  # Newcombe (1998), table III
        ((14, 5, 0, 22), (0.011, 0.226)),  # Altman et al. (2000), Statistics with confidence, page 52
    ],
)
def test_the_paired_interval_is_newcombes(cells, interval):
    both, only_first, only_second, neither = cells
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])
    second = np.repeat([True, False, True, False], [both, only_first, only_second, neither])
    figure = metrics.paired_difference(first, second)
    assert figure.value == pytest.approx((only_first - only_second) / len(first)) and figure.n == len(first)
    assert (figure.ci_low, figure.ci_high) == pytest.approx(interval, abs=6e-4)
    mirrored = metrics.paired_difference(second, first)
    assert (mirrored.ci_low, mirrored.ci_high) == pytest.approx((-figure.ci_high, -figure.ci_low))


def test_the_paired_interval_covers_the_truth_as_often_as_it_says_and_is_narrower_than_that_of_other_images():
    generator = np.random.default_rng(1)
    covered, narrower = 0, 0
    for _ in range(1000):
        both = generator.choice(4, 200, p=[0.6, 0.12, 0.04, 0.24])
        first, second = np.isin(both, (0, 1)), np.isin(both, (0, 2))
        figure = metrics.paired_difference(first, second)
        covered += figure.ci_low <= 0.08 <= figure.ci_high
        apart = metrics.difference(*(metrics.proportion(int(mask.sum()), 200) for mask in (first, second)))
        narrower += figure.ci_high - figure.ci_low < apart.ci_high - apart.ci_low
    assert 0.93 <= covered / 1000 <= 0.97 and narrower == 1000


def test_mcnemars_test_is_the_binomial_test_of_the_images_that_differ():
    first, second = np.array([1, 1, 1, 1, 1, 0, 1, 0], bool), np.array([0, 0, 0, 0, 0, 1, 1, 0], bool)
    assert metrics.mcnemar(first, second) == pytest.approx(2 * (1 + 6) / 2**6)
    assert metrics.mcnemar(first, first) == 1


@pytest.mark.parametrize("first, second", [([True], [True, False]), ([], [])])
def test_a_paired_difference_needs_the_same_images(first, second):
    with pytest.raises(ValueError, match="first has shape"):
        metrics.paired_difference(np.array(first, bool), np.array(second, bool))


def test_a_share_is_written_with_its_interval_where_it_has_one():
    assert metrics.share(metrics.Figure(0.931, 10)) == "93.1 %"
    assert metrics.share(metrics.proportion(0, 100)) == "0.0 % (0.0 to 3.7)"  # Wilson: z^2 / (n + z^2)


def test_a_share_after_each_epoch_has_the_interval_of_its_images():
    histories = pd.DataFrame({"epoch": [1, 2], "watched": [0.3, np.nan]})
    (row,) = metrics.of_epochs(histories, "watched", 10).itertuples()
    assert (row.epoch, row.value, row.n) == (1, 0.3, 10)
    assert metrics.of_row(pd.Series(row._asdict() | {"unit": "images"})) == metrics.proportion(3, 10)


@pytest.mark.parametrize(
    "hits, n, expected",
    [((60, 30), 100, True), ((30, 60), 100, False), ((35, 30), 100, None), ((3500, 3500), 10_000, False)],
)
def test_a_gain_is_there_or_not_or_left_open(hits, n, expected):
    """(0.35 - 0.30) +- 1.96 sqrt(0.35 0.65 / 100 + 0.3 0.7 / 100) is -0.08 to 0.18: neither."""
    first, second = (pd.Series(metrics.proportion(k, n).row("accuracy")) for k in hits)
    assert metrics.gained(first, second) is expected
