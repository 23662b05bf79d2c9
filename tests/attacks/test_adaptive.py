"""On a linear classifier with a linear detector, where both gradients are known."""

import numpy as np
import pytest
import torch
from art.defences.detector.evasion import BinaryActivationDetector, BinaryInputDetector
from art.estimators.classification import PyTorchClassifier
from conftest import SHAPE, Linear
from torch import nn

from advbench import attacks, estimators
from advbench.detectors import SubnetworkDetector

BOTH = [attacks.SelectivePGD, attacks.OrthogonalPGD]


def linear_detector(scale=1.0):
    module = Linear(classes=2, seed=5)
    with torch.no_grad():
        module.layer.weight.mul_(scale)
    loss = nn.CrossEntropyLoss()
    return BinaryInputDetector(PyTorchClassifier(module, loss, SHAPE, 2, clip_values=(0, 1), device_type="cpu"))


@pytest.fixture
def two():
    return estimators.classifier(Linear(classes=2).eval(), SHAPE, 2, device="cpu")


def rows(linear_module):
    w = linear_module.layer.weight.detach().numpy()
    return w[1] - w[0]


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_the_first_step_is_the_stated_one(two, interior, norm):
    """Gradients of both scores are constant: +-(w1 - w0), and minus the detector's difference."""
    y = two.predict(interior).argmax(1)
    fool = np.where(y == 0, 1, -1)[:, None] * rows(two.model)  # ascends the loss of class y
    detector = linear_detector()
    hide = -rows(detector.detector.model)
    along = (fool @ hide)[:, None] / (hide @ hide) * hide
    for attack, wanted in ((attacks.SelectivePGD, fool), (attacks.OrthogonalPGD, fool - along)):
        step = attack(two, detector, norm, 1e-3, 1e-4, max_iter=1).generate(interior, y) - interior
        unit = np.sign(wanted) if norm == np.inf else wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
        np.testing.assert_allclose(step.reshape(32, -1), 1e-4 * unit, atol=2e-7)


def test_what_is_followed_once_fooled_hides_and_is_orthogonal_to_the_other_goal(two):
    x = torch.rand(6, *SHAPE, requires_grad=True)
    u, v = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    loss, score = ((x * w).flatten(1).sum(1) for w in (u, v))
    fooled = torch.tensor([True, False] * 3)
    detector = linear_detector()
    selective = attacks.SelectivePGD(two, detector).followed(x, loss, score, fooled)
    torch.testing.assert_close(selective, torch.stack([-v, u] * 3))
    loss, score = ((x * w).flatten(1).sum(1) for w in (u, v))
    followed = attacks.OrthogonalPGD(two, detector).followed(x, loss, score, fooled)
    other = torch.stack([u, v] * 3)
    torch.testing.assert_close((followed * other).flatten(1).sum(1), torch.zeros(6), atol=1e-4, rtol=0)
    along = (u * v).sum()
    wanted = torch.stack([along / u.norm() ** 2 * u - v, u - along / v.norm() ** 2 * v] * 3)
    torch.testing.assert_close(followed, wanted)


@pytest.mark.parametrize("attack", BOTH)
@pytest.mark.parametrize("norm, eps", [(np.inf, 0.05), (2, 0.4)])
def test_the_bound_holds_and_the_result_fools_with_a_lower_score_than_pgd(two, interior, attack, norm, eps):
    y = two.predict(interior).argmax(1)
    detector = linear_detector()
    adversarial = attack(two, detector, norm, eps, max_iter=60).generate(interior, y)
    delta = (adversarial - interior).reshape(32, -1)
    assert (np.linalg.norm(delta, ord=norm, axis=1) <= eps * (1 + 1e-5) + 1e-6).all()
    blind = attack(two, linear_detector(0.0), norm, eps, max_iter=60).generate(interior, y)
    fooled = two.predict(adversarial).argmax(1) != y
    assert fooled.sum() >= (two.predict(blind).argmax(1) != y).sum() - 2 and fooled.mean() > 0.5
    scores = [detector.detector.predict(images)[fooled] @ [-1, 1] for images in (adversarial, blind)]
    assert scores[0].mean() < scores[1].mean()


@pytest.mark.parametrize("attack", BOTH)
def test_a_detector_without_slope_leaves_pgd(two, interior, attack):
    y = two.predict(interior).argmax(1)
    ours = attack(two, linear_detector(0.0), np.inf, 1e-3, 2.5e-4, max_iter=10).generate(interior, y)
    wanted = attacks.create("bim", two, 1e-3, 2.5e-4, 10).generate(interior, y)
    pursuing = two.predict(ours).argmax(1) == y  # an image that fools has nothing left to follow
    assert pursuing.sum() > 0
    np.testing.assert_allclose(ours[pursuing], wanted[pursuing], atol=1e-6)


@pytest.mark.parametrize("attack", BOTH)
@pytest.mark.parametrize("scale", [1e-4, 30, 1e4, 1e8])
def test_the_scale_of_the_logits_changes_nothing(interior, attack, scale):
    """In float32 the cross-entropy of confident logits has no gradient, and small logits differ by less than a margin."""
    fooled, scores = [], []
    for factor in (1, scale):
        module = Linear(classes=2).eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(factor)
        classifier, detector = estimators.classifier(module, SHAPE, 2, device="cpu"), linear_detector()
        y = classifier.predict(interior).argmax(1)
        adversarial = attack(classifier, detector, np.inf, 0.05, max_iter=60).generate(interior, y)
        fooled.append(classifier.predict(adversarial).argmax(1) != y)
        scores.append((detector.detector.predict(adversarial) @ [-1, 1])[fooled[-1]].mean())
    assert fooled[1].mean() >= fooled[0].mean() > 0.5
    assert scores[1] == pytest.approx(scores[0], abs=0.05)


@pytest.mark.parametrize("attack, backward", [(attacks.SelectivePGD, 1), (attacks.OrthogonalPGD, 2)])
def test_a_step_costs_one_pass_forward_and_the_stated_ones_back(classifier, digits, monkeypatch, attack, backward):
    detector = SubnetworkDetector(classifier, 1)
    passes = {"forward": 0, "backward": 0}
    joint, grad = detector.joint, torch.autograd.grad

    def counted(name, function):
        def call(*arguments, **options):
            passes[name] += 1
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(detector, "joint", counted("forward", joint))
    made = attack(classifier, detector, eps=0.1, max_iter=5)
    monkeypatch.setattr(torch.autograd, "grad", counted("backward", grad))
    made.generate(digits[2][:8], digits[3][:8])
    assert passes == {"forward": 6, "backward": 5 * backward}  # the last forward pass judges the last step


def test_a_detector_without_gradient_is_refused_and_wrong_arguments_named(two):
    detector = BinaryActivationDetector(two, linear_detector().detector, 0)
    with pytest.raises(ValueError, match="BinaryActivationDetector has no gradient .*NumPy"):
        attacks.SelectivePGD(two, detector)
    for wrong in ({"norm": 1}, {"eps": -1}, {"max_iter": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            attacks.OrthogonalPGD(two, linear_detector(), **wrong)
