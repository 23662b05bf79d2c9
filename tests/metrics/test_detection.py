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
