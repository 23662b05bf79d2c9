"""The binarization test of Zimmermann et al. (2022): what it plants, what it reads, and whom it passes."""

import numpy as np
import pytest
import torch
from conftest import SHAPE, around
from torch import nn

from advbench import attacks
from advbench.metrics import binarization
from advbench.metrics.binarization import BinarizedModel, binarization_test

EPS = 0.1


def pgd(classifier, eps, steps):
    return attacks.create("pgd", classifier, eps, max_iter=steps)


@pytest.mark.parametrize("norm, eps, name", [("linf", EPS, "pgd"), ("l2", 0.5, "pgd-l2")])
def test_the_binarization_test_is_passed_by_pgd_and_failed_by_no_attack(classifier, part, norm, eps, name):
    hooks = sum(len(module._forward_pre_hooks) for module in classifier.model.modules())

    def strong(model, bound, steps):
        return attacks.create(name, model, bound, max_iter=steps)

    check = binarization_test(classifier, strong, part[0][:8], eps, norm, 0)
    assert check.passed and check.figure.n >= 6
    weak = binarization_test(classifier, lambda model, bound, steps: strong(model, 0.0, 1), part[0][:8], eps, norm, 0)
    assert weak.figure.value == 0 and not weak.passed
    assert hooks == sum(len(module._forward_pre_hooks) for module in classifier.model.modules())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_readout_has_to_tell_the_inside_of_a_ball_from_a_point_of_its_surface(classifier, norm, monkeypatch):
    """Algorithm 1 of Zimmermann et al.: copies uniform within 0.95 eps, the planted image at eps, up to three draws."""
    draws, eps, grey = [], 0.2, np.full((2, *SHAPE), 0.5, np.float32)
    monkeypatch.setattr(BinarizedModel, "plant", lambda self, *given: draws.append(given))  # none separates
    for seed in (0, 0, 1):
        assert binarization_test(classifier, pgd, grey, eps, norm, seed, copies=500) is None
    assert len(draws) == 3 * 2 * 3
    np.testing.assert_array_equal(draws[0][0], draws[6][0])
    assert (draws[0][0] != draws[1][0])[1:].any() and (draws[0][0] != draws[12][0]).any()
    d = grey[0].size
    for copies, planted, _ in draws:
        assert copies.dtype == planted.dtype == np.float32 and (copies[0] == grey[0]).all() and len(copies) == 501
        inside, surface = (copies[1:] - grey[0]).reshape(500, d), (planted - grey[0]).ravel()
        if norm == "linf":
            np.testing.assert_allclose(np.abs(surface), eps, rtol=1e-5)
            share = (inside / (0.95 * eps) + 1) / 2  # uniform in [0, 1], coordinate by coordinate
            assert len(set(np.sign(surface))) == 2
        else:
            assert np.linalg.norm(surface) == pytest.approx(eps, rel=1e-5)
            share = (np.linalg.norm(inside, axis=1) / (0.95 * eps)) ** d  # the volume within is uniform in [0, 1]
        assert -1e-4 < share.min() < 0.05 and 0.95 < share.max() < 1 + 1e-4
        assert share.mean() == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / share.size))


def test_the_attack_under_test_is_told_the_class_and_the_bound(classifier, part):
    asked = []

    class Idle:
        def generate(self, x, y):
            asked.append((x.shape, y.tolist()))
            return x

    def make(model, *given):
        asked.append(given)
        return Idle()

    check = binarization_test(classifier, make, part[0][:1], EPS, "linf", 0)
    assert asked == [(EPS, 50), ((1, *SHAPE), [0])] and (check.figure.value, check.figure.n) == (0, 1)


def test_images_are_attacked_together_and_each_keeps_its_own_readout(classifier, part, monkeypatch):
    sizes = []

    def make(model, eps, steps):
        attack = attacks.create("bim", model, eps, max_iter=steps)
        generate = attack.generate
        monkeypatch.setattr(attack, "generate", lambda x, y: (sizes.append(len(x)), generate(x, y))[1])
        return attack

    x = part[0][:12]
    together = binarization_test(classifier, make, x, 0.3, "linf", 0, copies=40, steps=3)
    assert 0 < together.figure.value < 1 and sizes == [12]
    monkeypatch.setattr(binarization, "images_at_a_time", lambda *_: 1)
    alone = binarization_test(classifier, make, x, 0.3, "linf", 0, copies=40, steps=3)
    assert alone == together and sizes == [12] + [1] * 12


def test_readouts_of_other_images_are_refused():
    binarized = BinarizedModel(nn.Flatten())
    assert binarized.plant(np.zeros((2, 1, 1, 2), np.float32), np.ones((1, 1, 2), np.float32), torch.device("cpu"))
    assert binarized(torch.ones(3, 1, 1, 2)).argmax(1).tolist() == [1, 1, 1]  # one for all
    binarized.weight, binarized.bias = (
        each.repeat(2, *[1] * (each.ndim - 1)) for each in (binarized.weight, binarized.bias)
    )
    for n in (1, 3):
        with pytest.raises(ValueError, match=f"2 readouts do not fit {n} images"):
            binarized(torch.ones(n, 1, 1, 2))


def test_what_is_planted_is_an_image(classifier, monkeypatch):
    seen = []
    monkeypatch.setattr(BinarizedModel, "plant", lambda self, copies, planted, device: seen.extend([*copies, planted]))
    edges = np.stack([np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)])
    binarization_test(classifier, pgd, edges, 0.3, "linf", 0, copies=20)
    assert np.min(seen) == 0 and np.max(seen) == 1 and len(np.unique(seen)) > 100


def test_the_readout_is_on_what_the_last_linear_layer_sees(trained_net, part):
    last = [layer for layer in trained_net.modules() if isinstance(layer, nn.Linear)][-1]
    binarized, x = BinarizedModel(trained_net).eval(), torch.from_numpy(part[0][:4])
    seen = []
    last.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        torch.testing.assert_close(binarized.features(x), seen[0])
    last._forward_pre_hooks.popitem()
    binarized.release()
    with torch.no_grad():  # and on the logits of a network that has none
        torch.testing.assert_close(BinarizedModel(nn.Flatten()).features(x), x.flatten(1))


class Scripting(nn.Sequential):
    """TorchScript compiles the hooks of a module as well, and ours is not of its language."""

    def forward(self, x):
        return torch.jit.script(self[0])(x)


def test_a_network_that_does_not_run_with_a_hook_is_read_at_its_logits(part):
    scripting = around(Scripting(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), lambda x: x)
    check = binarization_test(scripting, pgd, part[0][:2], 0.3, "linf", 0, copies=5)
    assert check.figure.n == 2


@pytest.mark.parametrize("change", [lambda x: x.sub_(0.5).mul_(2), lambda x: x.mul_(0.5), nn.ReLU(inplace=True)])
def test_a_model_that_changes_its_input_in_place_leaves_the_images_as_they_are(trained_net, part, change):
    classifier, x = around(trained_net, change), part[0][:4].copy()
    binarization_test(classifier, pgd, x, EPS, "linf", 0, copies=20, steps=2)
    np.testing.assert_array_equal(x, part[0][:4])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_the_planted_image_is_just_beyond_the_boundary(order):
    """On the pixels themselves: the readout is the largest margin between the copies and the planted image."""
    binarized = BinarizedModel(nn.Flatten())
    copies = np.zeros((3, 1, 1, 2), np.float32)
    copies[1, 0, 0], copies[2, 0, 0] = (-1, 0.5), (-1, -0.5)
    planted = np.array([[[1, 0]]], np.float32)
    assert binarized.plant(copies[list(order)], planted, torch.device("cpu"))
    points = torch.tensor([[[[0.998, 0.0]]], [[[0.9991, 0.3]]], [[[1.0, 0.0]]]])
    assert binarized(points).argmax(1).tolist() == [0, 1, 1]
    assert binarized(points)[:, 1].diff()[1] / 0.0009 == pytest.approx(
        0.5, rel=0.01
    )  # scores fall by 1 to the farthest


@pytest.mark.parametrize("planted", [(0, 0), (-0.5, 0)])
def test_an_image_among_its_copies_cannot_be_planted(planted):
    copies = np.zeros((3, 1, 1, 2), np.float32)
    copies[1, 0, 0, 0], copies[2, 0, 0, 0] = -1, planted[0] and 1
    assert not BinarizedModel(nn.Flatten()).plant(
        copies, np.array(planted, np.float32).reshape(1, 1, 2), torch.device("cpu")
    )


def test_the_binarization_test_says_nothing_of_a_constant_model(part):
    assert binarization_test(around(nn.Flatten(), lambda x: 0 * x), pgd, part[0][:2], EPS, "linf", 0) is None


def test_the_binarization_test_catches_masked_gradients(rounded, part):
    assert not binarization_test(rounded, pgd, part[0][:8], EPS, "linf", 0).passed
