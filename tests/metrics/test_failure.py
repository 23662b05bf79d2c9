"""Indicators of attack failure on a linear classifier, whose loss along the gradient is known in closed form."""

import numpy as np
import pytest
from conftest import Linear

from advbench import attacks, estimators
from advbench.metrics import failure, sanity

EPS = 0.05


class Steps:
    """Walks along the gradient to the corner of the ball, in steps of these shares of the way; returns the step chosen."""

    def __init__(self, classifier, shares, returned=-1):
        self.classifier, self.shares, self.returned = classifier, shares, returned

    def generate(self, x, y):
        shown = []
        for share in self.shares:
            gradient = self.classifier.loss_gradient(x, np.eye(4, dtype=np.float32)[y])
            shown.append((x + share * EPS * np.sign(gradient)).astype(np.float32))
            self.classifier.predict(shown[-1])
        return shown[self.returned]


@pytest.fixture
def data(linear, interior):
    return interior, linear.predict(interior).argmax(1)


def measured(classifier, attack, data, eps=EPS):
    return failure.indicators(classifier, attack, *data, eps, "linf")


def test_an_attack_that_loses_what_it_found_is_a_silent_success(linear, data):
    found = measured(linear, Steps(linear, [1, 0.0]), data)
    beaten = linear.predict(Steps(linear, [1]).generate(*data)).argmax(1) != data[1]
    assert beaten.sum() > 5
    np.testing.assert_array_equal(found["silent success"], beaten)
    kept = measured(linear, Steps(linear, [1, 0.0], returned=0), data)
    assert not kept["silent success"].any() and not kept["transfer failure"].any()


def test_what_lies_outside_of_the_bound_is_no_success(linear, data):
    assert not measured(linear, Steps(linear, [40, 0.0]), data)["silent success"].any()


def test_an_attack_that_stops_on_the_way_is_incomplete(linear, data):
    """The margin of a linear model rises in proportion to the step, up to a change of the nearest class."""
    on_the_way, there = np.linspace(0, 1e-4, 10), np.minimum(np.linspace(0, 5e-4, 20), 1e-4)
    assert measured(linear, Steps(linear, on_the_way), data)["incomplete optimisation"].all()
    assert not measured(linear, Steps(linear, there), data)["incomplete optimisation"].any()


def test_a_model_that_answers_otherwise_under_a_gradient_is_a_failed_transfer(data):
    class Two(Linear):
        def forward(self, x):
            return super().forward(x) * (-1 if x.requires_grad else 1)

    two = estimators.classifier(Two().eval(), (1, 8, 8), 4, device="cpu")
    assert measured(two, Steps(two, [0.1]), data)["transfer failure"].all()


def test_pgd_shows_no_indicator_and_beats_everything_without_a_bound(linear, data):
    attack = attacks.create("pgd", linear, EPS, max_iter=20)
    assert not any(images.any() for images in measured(linear, attack, data).values())
    assert not failure.withstood(linear, attacks.create("pgd", linear, 0.5, max_iter=20), *data).any()
    assert failure.withstood(linear, Steps(linear, [0.0]), *data).all()


def test_the_worst_attack_is_named():
    shown = {"a": {"silent success": np.arange(8) < 1}, "b": {"silent success": np.arange(8) < 5}}
    (check,) = failure.worst(shown)
    assert check.figure.value == 5 / 8 and check.measured.startswith("b misclassifies") and not check.passed


def test_a_noisy_landscape_needs_restarts_and_a_linear_one_does_not(linear, data):
    class Lucky:
        """Beats half of the images it is given, others at each call."""

        def generate(self, x, y):
            lucky = np.random.random(len(x)) < 0.5
            return np.where(lucky[:, None, None, None], x - 20 * linear.loss_gradient(x, np.eye(4)[y]) * 0 + 1, x)

    np.random.seed(0)
    none = np.zeros(len(data[1]), bool)
    assert sanity.restarts(linear, lambda c, eps, steps: Lucky(), none, *data, EPS).figure.value > 0.2
    beaten = linear.predict(attacks.create("pgd", linear, EPS, max_iter=20).generate(*data)).argmax(1) != data[1]
    make = lambda c, eps, steps: attacks.create("pgd", c, eps, max_iter=steps)  # noqa: E731
    assert sanity.restarts(linear, make, beaten, *data, EPS).passed
