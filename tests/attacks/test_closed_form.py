"""Every attack against the optimum of a linear model: min_k |f_k - f_0| / ||w_k - w_0||_q, q dual to the norm."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Linear
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advbench import attacks, estimators
from advbench.attacks import ATTACKS, DeepFool

BOUNDED = ("fgsm", "bim", "bim-l2", "pgd", "pgd-l2")


def optimum(linear, x, norm):
    """The smallest perturbation (N,) that changes each prediction, and the predictions."""
    w = linear.model.layer.weight.detach().numpy()
    f = linear.predict(x)
    k0 = f.argmax(1)
    rows = np.arange(len(x))
    dual = np.linalg.norm(w[None] - w[k0][:, None], ord=2 if norm == "l2" else 1, axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (f[rows, k0][:, None] - f) / dual
    distance[rows, k0] = np.inf
    return distance.min(1), k0


def size(delta, norm):
    return np.linalg.norm(delta.reshape(len(delta), -1), ord=2 if norm == "l2" else np.inf, axis=1)


@pytest.mark.parametrize("name", ["deepfool-l2", "deepfool-linf"])
def test_deepfool_is_within_its_overshoot_of_the_optimum(linear, interior, name):
    best, k0 = optimum(linear, interior, ATTACKS[name].norm)
    adversarial = attacks.create(name, linear).generate(interior)
    assert (linear.predict(adversarial).argmax(1) != k0).all()
    assert (size(adversarial - interior, ATTACKS[name].norm) <= 1.02 * (best + 1e-4) + 1e-6).all()


@pytest.mark.parametrize("name", BOUNDED)
def test_a_bounded_attack_succeeds_just_above_the_optimum_and_never_below(name, interior):
    """Two classes: the gradient of the loss points at the only boundary, so a factor of 1.02 must do."""
    linear = estimators.classifier(Linear(classes=2).eval(), (1, 8, 8), 2, device="cpu")
    best, k0 = optimum(linear, interior, ATTACKS[name].norm)
    for i in range(8):
        for factor, flips in ((1.02, True), (0.98, False)):
            attack = attacks.create(name, linear, eps=float(best[i] * factor), max_iter=40)
            adversarial = attack.generate(interior[i : i + 1], k0[i : i + 1])
            assert (linear.predict(adversarial).argmax(1)[0] != k0[i]) == flips


class Scaled(nn.Module):
    def __init__(self, factor, classes):
        super().__init__()
        self.net, self.factor = Linear(classes), factor

    def forward(self, x):
        return self.net(x) * self.factor


@pytest.mark.parametrize("factor", [1e-5, 30, 1e5, 1e25])
@pytest.mark.parametrize("name", BOUNDED)
def test_confident_logits_are_attacked_as_well_as_others(name, factor, interior):
    """In float32 the softmax of such logits is 1, and the gradient of the cross-entropy is 0 or lacks the label's logit."""
    linear = estimators.classifier(Scaled(factor, 2).eval(), (1, 8, 8), 2, device="cpu")
    best, k0 = optimum(
        estimators.classifier(Linear(2).eval(), (1, 8, 8), 2, device="cpu"), interior, ATTACKS[name].norm
    )
    for i in range(4):
        attack = attacks.create(name, linear, eps=float(best[i] * 1.02), max_iter=40)
        adversarial = attack.generate(interior[i : i + 1], k0[i : i + 1])
        assert linear.predict(adversarial).argmax(1)[0] != k0[i]


@pytest.mark.parametrize("factor", [1e-5, 1e-3, 1e5])
def test_the_nearest_boundary_does_not_depend_on_the_scale_of_the_logits(factor, linear, interior):
    scaled = estimators.classifier(Scaled(factor, 4).eval(), (1, 8, 8), 4, device="cpu")
    for name in ("deepfool-l2", "deepfool-linf", "fmn-l2"):
        norm = ATTACKS[name].norm
        ours, theirs = (
            size(attacks.create(name, each).generate(interior[:8]) - interior[:8], norm) for each in (scaled, linear)
        )
        assert (ours > 0).all()
        np.testing.assert_allclose(ours, theirs, rtol=0.02)


@pytest.mark.parametrize("factor", [3, 30, 300])
def test_the_direction_is_that_of_the_exact_gradient(factor, interior):
    """Cross-entropy is softplus of this loss, which never saturates."""
    module, y = Scaled(factor, 4).eval(), np.arange(32) % 4
    classifier = estimators.classifier(module, (1, 8, 8), 4, device="cpu")
    labels = torch.from_numpy(y)
    for targets in (labels, F.one_hot(labels, 4).float()):
        found = estimators.gradient_and_outputs(classifier, torch.from_numpy(interior), targets)[0].flatten(1).double()
        x = torch.from_numpy(interior).double().requires_grad_(True)
        z = Scaled(factor, 4).double()(x)
        others = z.scatter(1, labels[:, None], -torch.inf)
        loss = others.logsumexp(1) - z.gather(1, labels[:, None])[:, 0]
        (wanted,) = torch.autograd.grad(loss.sum(), x)
        torch.testing.assert_close(F.normalize(found), F.normalize(wanted.flatten(1)), atol=1e-3, rtol=0)


@settings(max_examples=25, deadline=None)
@given(eps=st.floats(0, 0.5), name=st.sampled_from(BOUNDED), seed=st.integers(0, 1000))
def test_eps_and_the_unit_box_are_never_left(linear, eps, name, seed):
    x = np.random.default_rng(seed).random((4, 1, 8, 8), dtype=np.float32)
    y = linear.predict(x).argmax(1)
    adversarial = attacks.create(name, linear, eps=eps).generate(x, y)
    assert (size(adversarial - x, ATTACKS[name].norm) <= eps * (1 + 1e-5) + 1e-6).all()
    assert adversarial.min() >= 0 and adversarial.max() <= 1


@pytest.mark.parametrize("name", BOUNDED)
def test_eps_zero_gives_the_clean_accuracy(classifier, digits, name):
    _, _, x, y = digits
    adversarial = attacks.create(name, classifier, eps=0.0).generate(x[:64], y[:64])
    np.testing.assert_array_equal(classifier.predict(adversarial).argmax(1), classifier.predict(x[:64]).argmax(1))


@pytest.mark.parametrize("name", ["fgsm", "bim", "bim-l2"])
def test_success_grows_with_eps_and_is_total_at_a_large_one(classifier, digits, name):
    _, _, x, y = digits
    grid = [0.0, 0.02, 0.05, 0.1] if ATTACKS[name].norm == "linf" else [0.0, 0.2, 0.5, 1.0]
    accuracy = []
    for eps in grid:
        attack = attacks.create(name, classifier, eps=eps, max_iter=20)
        accuracy.append((classifier.predict(attack.generate(x, y)).argmax(1) == y).mean())
    assert all(earlier >= later for earlier, later in pairwise(accuracy))
    if name != "fgsm":
        attack = attacks.create(name, classifier, eps=8 * grid[-1], max_iter=40)
        assert (classifier.predict(attack.generate(x, y)).argmax(1) == y).mean() == 0


def test_fast_gradients_flip_every_image_as_judged_by_the_original(trained_net, digits):
    from advbench import estimators

    x = digits[2]
    fast = estimators.classifier(trained_net, (1, 8, 8), 10, precision="fast", device="cpu")
    original = fast.predict(x).argmax(1)
    adversarial = DeepFool(fast).generate(x)
    assert (fast.predict(adversarial).argmax(1) != original).all()


def test_deepfool_leaves_a_misclassified_image_alone(classifier, digits):
    x, y = digits[2], (digits[3] + (np.arange(len(digits[3])) < 3)) % 10
    wrong = classifier.predict(x).argmax(1) != y
    assert wrong.any()
    adversarial = DeepFool(classifier).generate(x, y)
    np.testing.assert_array_equal(adversarial[wrong], x[wrong])
    assert (adversarial[~wrong] != x[~wrong]).any(axis=(1, 2, 3)).all()


def test_the_batch_size_does_not_change_deepfool(linear, interior):
    small, large = (DeepFool(linear, batch_size=n).generate(interior) for n in (7, 32))
    np.testing.assert_allclose(small, large, atol=1e-5)


def test_fewer_candidates_never_make_a_linear_perturbation_smaller(linear, interior):
    all_of_them, one = (DeepFool(linear, candidates=n).generate(interior) for n in (None, 1))
    assert (size(one - interior, "l2") >= size(all_of_them - interior, "l2") - 1e-6).all()


@pytest.mark.parametrize(
    "arguments", [{"norm": 1}, {"max_iter": 0}, {"overshoot": -0.1}, {"batch_size": 0}, {"candidates": 0}]
)
def test_deepfool_names_the_wrong_argument(classifier, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        DeepFool(classifier, **arguments)


def test_an_attack_without_its_eps_says_so(classifier):
    with pytest.raises(ValueError, match="eps is needed by bim"):
        attacks.create("bim", classifier)


def test_deepfool_spends_no_gradient_on_a_flipped_image(linear, interior, monkeypatch):
    """A linear model flips at the first step: one forward pass with gradients an image, and one to see that it left."""
    seen = {True: 0, False: 0}
    module = linear.gradient_module
    forward = module.forward

    def counted(x):
        seen[x.requires_grad] += len(x)
        return forward(x)

    original = linear.predict(interior).argmax(1)
    monkeypatch.setattr(module, "forward", counted)
    DeepFool(linear, batch_size=8).generate(interior, original)
    monkeypatch.undo()
    assert seen[True] == len(interior)
    assert seen[False] == len(interior)
