"""The certificate of a linear model by hand, and no attack inside of it."""

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent

from advbench import metrics


def test_the_radius_is_the_margin_over_the_root_of_two_times_the_constant():
    logits, y = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0], [1.0, 2.0, 0.0]]), np.array([0, 2, 0])
    np.testing.assert_allclose(metrics.certified_radius(logits, y, 2.0), np.array([2, 3, 0]) / (2 * np.sqrt(2)))
    found = metrics.certified_accuracy(logits, y, 2.0, 0.8)
    assert (found.value, found.n) == (pytest.approx(1 / 3), 3)
    assert metrics.certified_accuracy(logits, y, 2.0, 0.0).value == pytest.approx(2 / 3)
    np.testing.assert_allclose(metrics.certified_radius(logits.astype(int), y, 0.5)[0], 2 / (0.5 * np.sqrt(2)))
    at_its_edge = metrics.certified_radius(logits, y, 2.0)[0]  # where two logits may be equal
    assert metrics.certified_accuracy(logits, y, 2.0, at_its_edge).value == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="lipschitz must be positive"):
        metrics.certified_radius(logits, y, 0.0)


def test_no_attack_succeeds_within_the_radius(linear, interior):
    y = linear.predict(interior).argmax(1)
    bound = float(torch.linalg.matrix_norm(linear.model.layer.weight.detach(), ord=2))
    radius = metrics.certified_radius(linear.predict(interior), y, bound)
    eps = float(np.quantile(radius, 0.3))
    attack = ProjectedGradientDescent(linear, 2, eps, eps / 4, max_iter=20, verbose=False)
    held = linear.predict(attack.generate(interior, y)).argmax(1) == y
    assert held[radius > eps].all() and (radius > eps).any()
