import numpy as np
import pytest
import torch

from advbench import attacks, estimators
from advbench.attacks import DynamicDetectorAttack
from advbench.detectors import SubnetworkDetector

EPS = {"eps": 0.05, "eps_step": 0.02, "max_iter": 5}


@pytest.fixture(scope="module")
def detector(classifier, digits):
    x, y = digits[0][:256], digits[1][:256]
    adversarial = attacks.create("bim", classifier, eps=0.05).generate(x, y)
    detector = SubnetworkDetector(classifier, 1, lr=1e-3)
    detector.fit(np.concatenate([x, adversarial]), np.repeat([0, 1], len(x)), nb_epochs=3)
    return detector


def test_sigma_zero_is_bim(classifier, detector, digits):
    _, _, x, y = digits
    bim = attacks.create("bim", classifier, eps=0.05, eps_step=0.02, max_iter=5).generate(x, y)
    dynamic = DynamicDetectorAttack(classifier, detector, sigma=0.0, **EPS).generate(x, y)
    np.testing.assert_allclose(dynamic, bim, atol=1e-6)


def test_sigma_one_lowers_the_score_and_sigma_zero_the_accuracy(classifier, detector, digits):
    _, _, x, y = digits
    on_classifier, on_detector = (
        DynamicDetectorAttack(classifier, detector, sigma=sigma, **EPS).generate(x, y) for sigma in (0.0, 1.0)
    )
    assert detector.scores(on_detector).mean() < min(detector.scores(x).mean(), detector.scores(on_classifier).mean())
    accuracy = [(classifier.predict(images).argmax(1) == y).mean() for images in (on_classifier, on_detector)]
    assert accuracy[0] < accuracy[1]


def test_one_step_is_the_formula(classifier, detector, digits):
    """x + alpha [(1 - s) sgn(grad J_cls) + s sgn(grad J_det)], each gradient from its own module."""
    x, y = torch.from_numpy(digits[2][:8]), torch.from_numpy(digits[3][:8])
    images = x.clone().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(classifier.model(images), y, reduction="sum")
    cls = torch.autograd.grad(loss, images)[0].sign()
    loss = torch.nn.functional.cross_entropy(detector.module(images), torch.ones_like(y), reduction="sum")
    det = torch.autograd.grad(loss, images)[0].sign()
    expected = (x + 0.01 * (0.7 * cls + 0.3 * det)).clamp(0, 1)
    attack = DynamicDetectorAttack(classifier, detector, eps=0.1, eps_step=0.01, max_iter=1, sigma=0.3)
    np.testing.assert_allclose(attack.generate(x.numpy(), y.numpy()), expected.numpy(), atol=1e-6)


def test_one_sigma_an_image_equals_each_alone(classifier, detector, digits):
    x, y = digits[2][:3], digits[3][:3]
    sigma = np.array([0.0, 0.4, 1.0])
    together = DynamicDetectorAttack(classifier, detector, sigma=sigma, **EPS).generate(x, y)
    for i in range(3):
        alone = DynamicDetectorAttack(classifier, detector, sigma=float(sigma[i]), **EPS).generate(
            x[i : i + 1], y[i : i + 1]
        )
        np.testing.assert_allclose(together[i : i + 1], alone, atol=1e-6)


def test_eps_and_the_unit_box_are_never_left(classifier, detector, digits):
    _, _, x, y = digits
    adversarial = DynamicDetectorAttack(classifier, detector, eps=0.03, eps_step=0.05, sigma=0.5).generate(x, y)
    assert np.abs(adversarial - x).max() <= 0.03 + 1e-6
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    unmoved = DynamicDetectorAttack(classifier, detector, eps=0.0, sigma=0.5).generate(x, y)
    np.testing.assert_array_equal(unmoved, x)


@pytest.mark.parametrize("sigma, passes", [(0.0, (1, 0)), (1.0, (0, 1)), (0.5, (1, 1))])
def test_a_step_computes_only_the_gradients_it_needs(classifier, detector, digits, sigma, passes):
    """One shared forward pass through the trunk a step, one backward pass a sign that has weight."""
    count = {"trunk": 0, "head": 0, "subnetwork": 0}

    module = classifier.model
    parts = {"trunk": module.stages[0], "head": module.head, "subnetwork": detector.subnetwork}

    def hook(name):
        return lambda *_: count.__setitem__(name, count[name] + 1)

    handles = [part.register_forward_hook(hook(name)) for name, part in parts.items()]
    attack = DynamicDetectorAttack(classifier, detector, sigma=sigma, **EPS)
    attack.generate(digits[2][:4], digits[3][:4])
    for handle in handles:
        handle.remove()
    assert count == {"trunk": 5, "head": 5 * passes[0], "subnetwork": 5 * passes[1]}


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"sigma": 1.5}, "sigma"),
        ({"sigma": np.nan}, "sigma"),
        ({"eps": -1}, "eps"),
        ({"eps_step": 0}, "eps_step"),
        ({"max_iter": 0}, "max_iter"),
    ],
)
def test_the_wrong_argument_is_named(classifier, detector, arguments, named):
    with pytest.raises(ValueError, match=named):
        DynamicDetectorAttack(classifier, detector, **arguments)


def test_a_sigma_for_other_images_and_a_foreign_detector_are_refused(classifier, detector, trained_net, digits):
    attack = DynamicDetectorAttack(classifier, detector, sigma=np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="one number an image, 3"):
        attack.generate(digits[2][:3], digits[3][:3])
    other = estimators.classifier(trained_net, (1, 8, 8), 10, device="cpu")
    with pytest.raises(ValueError, match="attached"):
        DynamicDetectorAttack(other, detector)
