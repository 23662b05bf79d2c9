"""PGD in l1: its projection and its steps against scipy, the attack against the optimum of a linear model in [0, 1]."""

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from conftest import SHAPE, Linear
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog, minimize

from advbench import attacks, estimators
from advbench.attacks.pgd import project_l1, steepest_l1
from advbench.seeds import own_global_state


def problem(seed, d):
    """Images with values at the ends of [0, 1], and vectors with zeros and ties."""
    random = np.random.default_rng(seed)
    x, v = random.random((3, d)), random.normal(0, random.choice([0.05, 0.5, 2]), (3, d)).round(random.choice([1, 9]))
    x[random.random((3, d)) < 0.3] = random.integers(2)
    return x, v, float(random.choice([0, 0.3, 1, 4]))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), d=st.sampled_from([1, 4, 60]))
def test_the_projection_is_the_one_that_bisection_finds(seed, d):
    x, v, eps = problem(seed, d)
    found = project_l1(torch.from_numpy(v), torch.from_numpy(x), eps).numpy()
    assert (np.abs(found).sum(1) <= eps + 1e-9).all()
    for values, image, mine in zip(v, x, found, strict=True):
        room, size = np.where(values > 0, 1 - image, image), np.abs(values)

        def shrunk(t, room=room, size=size):
            return np.clip(size - t, 0, room)

        excess = shrunk(0).sum() - eps
        t = 0.0 if excess <= 0 else brentq(lambda t: shrunk(t).sum() - eps, 0, size.max(), xtol=1e-14)
        np.testing.assert_allclose(mine, np.sign(values) * shrunk(t), atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_the_projection_is_the_optimum_of_its_quadratic_programme(seed):
    """In the plus and minus parts of the perturbation, for a solver that knows nothing of the formula."""
    x, v, _ = problem(seed, 4)
    eps, mine = 0.7, project_l1(torch.from_numpy(v), torch.from_numpy(x), 0.7).numpy()
    for values, image, found in zip(v, x, mine, strict=True):
        solved = minimize(
            lambda p: ((p[:4] - p[4:] - values) ** 2).sum(),  # noqa: B023
            np.zeros(8),
            bounds=[*((0, 1 - each) for each in image), *((0, each) for each in image)],
            constraints={"type": "ineq", "fun": lambda p: eps - p.sum()},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert ((found - values) ** 2).sum() <= solved.fun + 1e-7
        np.testing.assert_allclose(found, solved.x[:4] - solved.x[4:], atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), d=st.sampled_from([1, 5, 40]))
def test_the_steepest_ascent_is_the_optimum_of_its_linear_programme(seed, d):
    x, g, eps = problem(seed, d)
    found = steepest_l1(torch.from_numpy(g), torch.from_numpy(x), eps).numpy()
    assert (np.abs(found).sum(1) <= eps + 1e-9).all() and (x + found).min() >= -1e-9 and (x + found).max() <= 1 + 1e-9
    for gradient, image, mine in zip(g, x, found, strict=True):
        bounds = [*((0, 1 - each) for each in image), *((0, each) for each in image)]
        solved = linprog(-np.concatenate([gradient, -gradient]), np.ones((1, 2 * d)), [eps], bounds=bounds)
        assert gradient @ mine == pytest.approx(-solved.fun, abs=1e-7)


@pytest.fixture(scope="module")
def two_classes():
    """One that is sure of the first, so that no single value decides."""
    net = Linear(classes=2).eval()
    with torch.no_grad():
        net.layer.bias[0] += 12
    return estimators.classifier(net, SHAPE, 2, device="cpu")


def nearest(classifier, x):
    """The l1 norm of the smallest perturbation in [0, 1] that changes each prediction: all on the largest weights."""
    w = classifier.model.layer.weight.detach().numpy().astype(float)
    logits = classifier.predict(x).astype(float)
    own = logits.argmax(1)
    gain = (w[1 - own] - w[own]).reshape(len(x), -1)
    room = np.where(gain > 0, 1 - x.reshape(len(x), -1), x.reshape(len(x), -1))
    found = []
    for i, order in enumerate(np.abs(gain).argsort(1)[:, ::-1]):
        missing = logits[i, own[i]] - logits[i, 1 - own[i]]
        each = np.abs(gain[i][order])
        before = np.concatenate([[0], (each * room[i][order]).cumsum()])
        last = np.flatnonzero(before < missing)[-1]
        found.append(room[i][order][:last].sum() + (missing - before[last]) / each[last])
    return np.array(found), own


def test_it_beats_a_linear_model_just_above_the_optimum_and_never_below(two_classes):
    x = np.random.default_rng(0).random((12, *SHAPE), dtype=np.float32)
    best, y = nearest(two_classes, x)
    assert (best > 1.5).sum() > 3, "several values must be at the end of their range"
    for i in range(len(x)):
        for factor, beaten in ((1.001, True), (0.999, False)):
            eps = float(best[i] * factor)
            attack = attacks.PGD(two_classes, 1, eps, eps / 4, max_iter=10, verbose=False)
            assert attack.beat(x[i : i + 1], y[i : i + 1])[1].item() is beaten


def test_from_random_starts_it_keeps_ball_and_box_and_comes_near_the_optimum(two_classes):
    x = np.random.default_rng(1).random((16, *SHAPE), dtype=np.float32)
    best, y = nearest(two_classes, x)
    for i in range(len(x)):
        with own_global_state(0):
            attack = attacks.create("pgd-l1", two_classes, float(1.1 * best[i]), max_iter=20)
            images, beaten = attack.beat(x[i : i + 1], y[i : i + 1])
        assert beaten.all() and np.abs(images - x[i]).sum() <= 1.1 * best[i] * (1 + 1e-5)
        assert images.min() >= 0 and images.max() <= 1


def test_it_beats_more_digits_than_arts_whose_one_value_is_soon_at_its_end(classifier, digits):
    x, y = digits[2][:60], digits[3][:60]
    options = {"norm": 1, "eps": 2.0, "eps_step": 0.5, "max_iter": 20, "verbose": False}
    ours, theirs = (
        kind(classifier, **options).generate(x, y) for kind in (attacks.PGD, ProjectedGradientDescentPyTorch)
    )
    left = [(classifier.predict(images).argmax(1) == y).sum() for images in (ours, theirs)]
    assert left[0] < left[1] - 5
    assert np.abs(ours - x).sum((1, 2, 3)).max() <= 2 * (1 + 1e-5)


def test_targets_are_approached(classifier, digits):
    x, y = digits[2][:24], (digits[3][:24] + 1) % 10
    attack = attacks.PGD(classifier, 1, 12.0, 3.0, max_iter=30, targeted=True, verbose=False)
    images, beaten = attack.beat(x, y)
    np.testing.assert_array_equal(classifier.predict(images).argmax(1) == y, beaten)
    assert beaten.mean() > 0.5
