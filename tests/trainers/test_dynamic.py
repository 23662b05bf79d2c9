import numpy as np
import pytest
import torch
from art.defences.trainer import Trainer
from conftest import SHAPE

from advbench import estimators
from advbench.attacks import DynamicDetectorAttack
from advbench.detectors import SubnetworkDetector
from advbench.trainers import DynamicDetectorTrainer


def train(classifier, digits, epochs=3, checkpoint=None, n=256):
    detector = SubnetworkDetector(classifier, 1, lr=1e-3, seed=3)
    trainer = DynamicDetectorTrainer(detector, max_iter=2)
    assert isinstance(trainer, Trainer)
    trainer.fit(digits[0][:n], digits[1][:n], nb_epochs=epochs, checkpoint=checkpoint)
    return detector


def test_training_is_the_same_twice_and_the_same_after_a_kill(classifier, digits, tmp_path, killed_after_two_epochs):
    whole, again = (train(classifier, digits).scores(digits[2]) for _ in range(2))
    np.testing.assert_array_equal(whole, again)
    with killed_after_two_epochs():
        train(classifier, digits, checkpoint=tmp_path / "checkpoint")
    resumed = train(classifier, digits, checkpoint=tmp_path / "checkpoint")
    np.testing.assert_array_equal(resumed.scores(digits[2]), whole)


def test_the_frozen_classifier_is_untouched_bit_for_bit(trained_net, digits):
    trained_net.zero_grad()  # stock ART leaves gradients behind
    before = {name: tensor.clone() for name, tensor in trained_net.state_dict().items()}
    train(estimators.classifier(trained_net, SHAPE, 10, device="cpu"), digits, epochs=1, n=128)
    assert all(torch.equal(before[name], tensor) for name, tensor in trained_net.state_dict().items())
    assert all(parameter.grad is None for parameter in trained_net.parameters())


def test_the_adversary_attacks_the_detector_in_eval_mode_and_replaces_about_half(classifier, digits, monkeypatch):
    detector, seen = SubnetworkDetector(classifier, 1, lr=1e-3), []
    perturb = DynamicDetectorAttack.perturb

    def watched(attack, x, y, sigma):
        seen.append((detector.subnetwork.training, len(x), sigma))
        return perturb(attack, x, y, sigma)

    monkeypatch.setattr(DynamicDetectorAttack, "perturb", watched)
    DynamicDetectorTrainer(detector, max_iter=1).fit(digits[0][:512], digits[1][:512], nb_epochs=1)
    modes, counts, sigmas = zip(*seen, strict=True)
    assert not any(modes) and 0.4 < sum(counts) / 512 < 0.6
    sigma = torch.cat(sigmas)
    assert len(sigma) == sum(counts) and 0 <= sigma.min() < 0.1 and 0.9 < sigma.max() <= 1


def test_the_wrong_argument_is_named(classifier, digits):
    detector = SubnetworkDetector(classifier, 1)
    with pytest.raises(ValueError, match="max_iter must be positive"):
        DynamicDetectorTrainer(detector, max_iter=0)
    with pytest.raises(ValueError, match=r"y must lie in 0\.\.9"):
        DynamicDetectorTrainer(detector).fit(digits[0][:8], digits[1][:8] + 10)
