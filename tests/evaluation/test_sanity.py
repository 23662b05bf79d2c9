import numpy as np
import pytest
import torch
from conftest import SHAPE
from torch import nn

from advbench import attacks, estimators
from advbench.evaluation import sanity
from advbench.evaluation.binarization import binarization_test
from advbench.evaluation.surrogate import surrogate

EPS = 0.1


class Around(nn.Module):
    """A network with something done to its images."""

    def __init__(self, net, change):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x):
        return self.net(self.change(x))


def pgd(classifier, eps, steps):
    return attacks.create("pgd", classifier, eps, max_iter=steps)


def wrap(net, change):
    return estimators.classifier(Around(net, change).eval(), SHAPE, 10, device="cpu")


@pytest.fixture(scope="module")
def rounded(trained_net):
    return wrap(trained_net, lambda x: torch.round(x * 15) / 15)


@pytest.fixture(scope="module")
def part(digits):
    return digits[2][:64], digits[3][:64]


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)  # ART's random starts


def test_gradients_are_counted_where_they_are_zero_or_not_finite(classifier, rounded, part, monkeypatch):
    x, y = part
    assert sanity.gradients(classifier, x, y).passed
    check = sanity.gradients(rounded, x, y)
    assert check.figure.value == 1 and not check.passed and "masked" in check.means and "BPDA" in check.do
    gradient = np.ones_like(x)
    gradient[0], gradient[1, 0, 0, 0] = 0, np.nan
    monkeypatch.setattr(rounded, "loss_gradient", lambda *_: gradient)
    assert sanity.gradients(rounded, x, y).figure.value == 2 / 64


def test_a_random_model_is_not_deterministic(classifier, trained_net, part):
    assert sanity.deterministic(classifier, part[0]).passed
    assert not sanity.deterministic(wrap(trained_net, lambda x: x + 0.1 * torch.randn_like(x)), part[0]).passed


def test_an_attack_that_leaves_eps_zero_is_caught(classifier, part):
    assert sanity.eps_zero(classifier, pgd, *part).figure.value == 1
    assert not sanity.eps_zero(classifier, lambda c, eps, steps: pgd(c, eps + 0.2, 20), *part).passed


def test_accuracy_falls_with_eps_to_zero_unless_gradients_are_masked(classifier, rounded, part):
    falls, large = sanity.falls_with_eps(classifier, pgd, *part, (0.1, 0.02), 0.5)
    assert falls.passed and falls.figure.value <= 0 and large.passed and large.figure.value == 0
    assert not sanity.falls_with_eps(rounded, pgd, *part, (0.02,), 0.5)[1].passed


def test_an_attack_that_is_weaker_at_a_larger_eps_is_caught(classifier, part):
    falls, _ = sanity.falls_with_eps(
        classifier, lambda c, eps, steps: pgd(c, max(0.0, 0.15 - eps), steps), *part, (0.01, 0.14), 0.15
    )
    assert not falls.passed and falls.figure.value > 0.1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_noise_counts_what_it_beats_and_the_attack_does_not(classifier, part, norm):
    x, y = part
    eps = 0.3 if norm == "linf" else 2.5
    nothing, everything = np.zeros(64, bool), np.ones(64, bool)
    assert sanity.noise(classifier, everything, x, y, eps, norm, 0).figure.value == 0
    against_nothing = sanity.noise(classifier, nothing, x, y, eps, norm, 0).figure.value
    assert against_nothing > 0.2
    wrong = (classifier.predict(x).argmax(1) != y).mean()
    assert sanity.noise(classifier, nothing, x, y, 1e-6, norm, 0).figure.value == wrong


def test_an_attack_that_loses_what_it_found_is_caught(classifier, part):
    assert sanity.more_steps(classifier, pgd, *part, EPS).passed
    assert not sanity.more_steps(
        classifier, lambda c, eps, steps: pgd(c, eps if steps < 20 else 0.0, steps), *part, EPS
    ).passed


def test_transfer_beats_a_masked_model_only(classifier, rounded, part, digits):
    x, y = part
    for model, passes in ((classifier, True), (rounded, False)):
        imitation = surrogate(model, digits[2], 0)
        assert (imitation.predict(x).argmax(1) == model.predict(x).argmax(1)).mean() > 0.9
        beaten = model.predict(pgd(model, EPS, 20).generate(x, y)).argmax(1) != y
        assert sanity.transfer(model, pgd(imitation, EPS, 20).generate(x, y), beaten, y).passed == passes


def test_a_model_without_its_normalisation_is_caught(classifier, trained_net, part):
    bare = wrap(trained_net, lambda x: x * 0.5 + 0.5)
    changes = {"twice, less 1": lambda x: 2 * x - 1, "inverted": lambda x: 1 - x}
    check = sanity.normalisation(bare, *part, changes)
    assert not check.passed and check.found == "twice, less 1" and "twice, less 1" in check.measured
    assert sanity.normalisation(classifier, *part, changes).passed


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


def test_the_binarization_test_catches_masked_gradients(rounded, part):
    assert not binarization_test(rounded, pgd, part[0][:8], EPS, "linf", 0).passed


def test_a_check_is_a_row_and_every_rule_has_words(classifier, part):
    row = sanity.gradients(classifier, *part).row(exhibit="check")
    assert row["metric"] == "gradients" and row["accept_high"] == 0.01 and np.isnan(row["accept_low"])
    for name in sanity.RULES:
        check = sanity.Check(name, sanity.Figure(float("nan"), 0), "x")
        assert not check.passed and check.means and check.do and "nan" in check.measured
