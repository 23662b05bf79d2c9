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
