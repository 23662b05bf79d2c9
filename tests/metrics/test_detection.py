import numpy as np
import pytest

from advbench import metrics


def test_sr_counts_what_is_wrong_and_not_flagged():
    wrong, scores = np.array([True, True, False, True]), np.array([0.1, 0.97, 0.1, 0.6])
    assert metrics.sr_at(wrong, scores, threshold=0.9).value == 0.5
    assert metrics.sr_at(wrong, scores, threshold=0.5).value == 0.25
    assert metrics.sr_at(wrong, scores, threshold=0.6).value == 0.5  # a score at the threshold is not flagged
    with pytest.raises(ValueError, match="shape"):
        metrics.sr_at(wrong[:2], scores, 0.5)


def test_detection_figures_are_the_single_ones_by_name():
    clean, adversarial = np.array([0.1, 0.2, 0.6, 0.3]), np.array([0.4, 0.7, 0.9])
    found = metrics.detection_figures(clean, adversarial, {5: 0.65, 50: 0.25})
    assert found == {
        "detectability": metrics.detectability(clean, adversarial),
        "auc": metrics.auc(clean, adversarial),
        "tpr_at_5_fpr": metrics.true_positive_rate(adversarial, 0.65),
        "tpr_at_50_fpr": metrics.true_positive_rate(adversarial, 0.25),
    }
    assert (found["tpr_at_5_fpr"].value, found["tpr_at_50_fpr"].value) == (2 / 3, 1)


def counted_pairs(clean, adversarial):
    """P(adversarial score > clean score), ties one half, by counting pairs."""
    pairs = [(a > c) + 0.5 * (a == c) for a in adversarial for c in clean]
    return sum(pairs) / len(pairs)


def summed_precision(clean, adversarial):
    """Sum over thresholds, from the highest down, of precision times the rise in recall; equal scores are one threshold."""
    area = before = 0
    for threshold in sorted({*clean, *adversarial}, reverse=True):
        hits, false = (adversarial >= threshold).sum(), (clean >= threshold).sum()
        area += hits / (hits + false) * (hits - before) / len(adversarial)
        before = hits
    return area


def smallest_fpr(clean, adversarial, tpr):
    """Over every threshold that flags enough adversarial images, the smallest share of clean ones flagged."""
    thresholds = {*clean, *adversarial}
    return min((clean >= t).mean() for t in thresholds if (adversarial >= t).mean() >= tpr)


@pytest.mark.parametrize("levels", [3, 10, 10**6])  # many ties, some, none
@pytest.mark.parametrize("n", [(7, 20), (40, 13), (1, 1)])
def test_the_fields_figures_count_ties_right(levels, n):
    generator = np.random.default_rng(levels + n[0])
    clean, adversarial = (
        generator.integers(0, levels, n[0]) / levels,
        generator.integers(0, levels, n[1]) / levels + 0.1,
    )
    assert metrics.auc(clean, adversarial).value == pytest.approx(counted_pairs(clean, adversarial))
    assert metrics.average_precision(clean, adversarial).value == pytest.approx(summed_precision(clean, adversarial))
    for tpr in (0.5, 0.95, 1.0):
        found = metrics.fpr_at_tpr(clean, adversarial, tpr)
        assert found.value == pytest.approx(smallest_fpr(clean, adversarial, tpr)) and found.n == n[0]


def test_a_detector_that_answers_the_same_is_at_chance():
    same = np.full(10, 0.5)
    assert metrics.auc(same, same).value == 0.5 and metrics.average_precision(same, same).value == 0.5
    assert metrics.fpr_at_tpr(same, same).value == 1
    perfect = metrics.average_precision(same, same + 1)
    assert perfect.value == 1 and metrics.fpr_at_tpr(same, same + 1).value == 0


@pytest.mark.parametrize("figure", [metrics.auc, metrics.average_precision, metrics.fpr_at_tpr])
def test_without_adversarial_images_there_is_no_figure(figure):
    assert np.isnan(figure(np.ones(3), np.empty(0)).value)


def test_the_interval_of_the_average_precision_holds_the_truth():
    """Of two normal scores one apart; the truth from 400,000 of them, the coverage from 300 draws of 60 and 60."""
    generator = np.random.default_rng(0)
    truth = metrics.average_precision(generator.normal(0, 1, 200_000), generator.normal(1, 1, 200_000)).value
    drawn = [metrics.average_precision(generator.normal(0, 1, 60), generator.normal(1, 1, 60)) for _ in range(300)]
    assert np.mean([each.ci_low <= truth <= each.ci_high for each in drawn]) > 0.9
