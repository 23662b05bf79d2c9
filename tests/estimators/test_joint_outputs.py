import numpy as np
import pytest
import torch
from art.defences.detector.evasion import BinaryActivationDetector, BinaryInputDetector
from art.estimators.classification import PyTorchClassifier
from conftest import SHAPE, make_small_net
from torch import nn

from advbench import estimators
from advbench.detectors import SubnetworkDetector
from advbench.estimators import detector_module, joint


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


@pytest.mark.parametrize("kind", ["arts", "ours"])
def test_both_outputs_are_those_of_classifier_and_detector(classifier, digits, kind, request):
    detector, x = request.getfixturevalue(kind), digits[2][:16]
    logits, score = joint(classifier, detector)(torch.from_numpy(x))
    expected = classifier.predict(x)
    np.testing.assert_allclose(logits.detach(), expected, atol=1e-4 * np.abs(expected).max())
    if kind == "ours":
        np.testing.assert_allclose(score.sigmoid().detach(), detector.scores(x), atol=1e-4)
    else:
        np.testing.assert_allclose(score, 10 * (x.mean((1, 2, 3)) - 0.5), atol=1e-5)


def test_a_detector_on_another_classifier_is_computed_separately(classifier, digits):
    other = estimators.classifier(make_small_net(seed=1), SHAPE, 10, device="cpu")
    detector, x = SubnetworkDetector(other, 1), digits[2][:8]
    logits, score = joint(classifier, detector)(torch.from_numpy(x))
    np.testing.assert_allclose(logits.detach(), classifier.predict(x), atol=1e-3)
    np.testing.assert_allclose(score.sigmoid().detach(), detector.scores(x), atol=1e-4)


def test_a_detector_without_gradient_is_refused(classifier, arts):
    with pytest.raises(ValueError, match="BinaryActivationDetector has no gradient"):
        detector_module(BinaryActivationDetector(classifier, arts.detector, 0))
