import numpy as np
import pytest
from scipy.special import softmax

from advbench import metrics


def test_the_overall_confidence_is_the_weighted_mean_of_its_parts():
    """The check that found a wrong cell in report 002: correct * conf. + error * conf. of errors."""
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(200, 10)) * 3, rng.integers(0, 10, 200)
    found = {name: figure.value for name, figure in metrics.confidence(logits, y).items()}
    parts = found["accuracy"] * found["confidence_correct"] + found["error"] * found["confidence_wrong"]
    assert found["confidence"] == pytest.approx(parts)
    assert found["confidence"] == pytest.approx(softmax(logits, 1).max(1).mean())
    assert found["accuracy"] + found["error"] == pytest.approx(1)


def test_probabilities_are_computed_in_double_precision():
    logits = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)
    found = metrics.confidence(logits, logits.argmax(1))["confidence"]
    assert found.value == pytest.approx(softmax(logits.astype(float), 1).max(1).mean(), rel=1e-12)


def test_large_logits_do_not_overflow_and_no_errors_have_no_confidence():
    found = metrics.confidence(np.array([[1e4, 0.0], [0.0, 1e4]], np.float32), np.array([0, 1]))
    assert found["confidence_correct"].value == 1
    assert np.isnan(found["confidence_wrong"].value) and found["confidence_wrong"].n == 0
