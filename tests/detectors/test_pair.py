import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod
from art.defences.detector.evasion import BinaryInputDetector
from art.estimators.classification import PyTorchClassifier
from conftest import SHAPE
from torch import nn

from advbench.detectors import SubnetworkDetector, combined


class TwoLogits(nn.Module):
    """Flags images whose mean is above one half."""

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        return torch.stack([torch.zeros_like(mean), 10 * (mean - 0.5)], 1)


@pytest.fixture
def arts():
    return BinaryInputDetector(PyTorchClassifier(TwoLogits(), nn.CrossEntropyLoss(), SHAPE, 2, device_type="cpu"))


@pytest.fixture
def ours(classifier):
    return SubnetworkDetector(classifier, 1)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_the_additional_class_wins_exactly_for_flagged_images(classifier, arts, threshold):
    x = np.random.default_rng(0).uniform(0.1, 0.9, (64, 1, 1, 1)) * np.ones((64, *SHAPE))
    x = x.astype(np.float32)
    flagged = 1 / (1 + np.exp(-10 * (x.mean((1, 2, 3)) - 0.5))) > threshold
    found = combined(classifier, arts, threshold).predict(x).argmax(1)
    np.testing.assert_array_equal(found == 10, flagged)
    np.testing.assert_array_equal(found[~flagged], classifier.predict(x[~flagged]).argmax(1))
    assert 0 < flagged.sum() < 64


def test_arts_attacks_run_on_the_combined_model(classifier, ours, digits):
    x, y = digits[2][:8], digits[3][:8]
    whole = combined(classifier, ours)
    adversarial = FastGradientMethod(whole, eps=0.1).generate(x, np.eye(11, dtype=np.float32)[y])
    assert np.abs(adversarial - x).max() == pytest.approx(0.1, abs=1e-6)


def test_a_threshold_out_of_range_is_refused(classifier, arts):
    with pytest.raises(ValueError, match="threshold"):
        combined(classifier, arts, threshold=1)
