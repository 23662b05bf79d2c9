import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod
from art.defences.detector.evasion import BinaryActivationDetector, BinaryInputDetector
from art.estimators.classification import PyTorchClassifier
from conftest import SHAPE, make_small_net
from torch import nn

from advbench.detectors import SubnetworkDetector, combined, detector_module, joint


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
    wanted = classifier.predict(x)
    np.testing.assert_allclose(logits.detach(), wanted, atol=1e-4 * np.abs(wanted).max())
    if kind == "ours":
        np.testing.assert_allclose(score.sigmoid().detach(), detector.scores(x), atol=1e-4)
    else:
        np.testing.assert_allclose(score, 10 * (x.mean((1, 2, 3)) - 0.5), atol=1e-5)


def test_a_detector_on_another_classifier_is_asked_apart(classifier, digits):
    from advbench import estimators

    other = estimators.classifier(make_small_net(seed=1), SHAPE, 10, device="cpu")
    detector, x = SubnetworkDetector(other, 1), digits[2][:8]
    logits, score = joint(classifier, detector)(torch.from_numpy(x))
    np.testing.assert_allclose(logits.detach(), classifier.predict(x), atol=1e-3)
    np.testing.assert_allclose(score.sigmoid().detach(), detector.scores(x), atol=1e-4)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_the_class_more_wins_just_for_flagged_images(classifier, arts, threshold):
    x = np.random.default_rng(0).uniform(0.1, 0.9, (64, 1, 1, 1)) * np.ones((64, *SHAPE))
    x = x.astype(np.float32)
    flagged = 1 / (1 + np.exp(-10 * (x.mean((1, 2, 3)) - 0.5))) > threshold
    found = combined(classifier, arts, threshold).predict(x).argmax(1)
    np.testing.assert_array_equal(found == 10, flagged)
    np.testing.assert_array_equal(found[~flagged], classifier.predict(x[~flagged]).argmax(1))
    assert 0 < flagged.sum() < 64


def test_arts_attacks_run_on_the_whole(classifier, ours, digits):
    x, y = digits[2][:8], digits[3][:8]
    whole = combined(classifier, ours)
    adversarial = FastGradientMethod(whole, eps=0.1).generate(x, np.eye(11, dtype=np.float32)[y])
    assert np.abs(adversarial - x).max() == pytest.approx(0.1, abs=1e-6)


def test_what_has_no_gradient_or_no_sense_is_refused(classifier, arts):
    with pytest.raises(ValueError, match="BinaryActivationDetector has no gradient"):
        detector_module(BinaryActivationDetector(classifier, arts.detector, 0))
    with pytest.raises(ValueError, match="threshold"):
        combined(classifier, arts, threshold=1)
