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


class Reader:
    """A classifier that reads the label off the first pixel, and keeps what it was shown."""

    def __init__(self):
        self.shown = []

    def predict(self, x):
        self.shown.append(x)
        return np.eye(10)[np.clip(np.rint(x[:, 0, 0, 0] * 10), 0, 9).astype(int)]


class Spoiler:
    """Beats the first ``n`` images, and checks that it is told the true labels."""

    def __init__(self, n):
        self.n = n

    def generate(self, x, y):
        np.testing.assert_array_equal(np.rint(x[:, 0, 0, 0] * 10), y)
        return np.where(np.arange(len(x))[:, None, None, None] < self.n, 0.9, x)


LABELS = np.arange(8)
LABELLED = np.broadcast_to(LABELS[:, None, None, None] / 10, (8, 1, 4, 4)).astype(np.float32)


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
    changes = {"twice, less 1": lambda x: 2 * x - 1, "upside down": lambda x: 1 - x}
    check = sanity.normalisation(bare, *part, changes)
    assert not check.passed and check.found == "twice, less 1" and "twice, less 1" in check.measured
    right, bare_right = ((model.predict(part[0]).argmax(1) == part[1]).mean() for model in (classifier, bare))
    assert (check.figure.value, check.figure.n) == (pytest.approx(right - bare_right, abs=0.05), 64)
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
    assert row["exhibit"] == "check" and row["source"] is None
    assert sanity.Check("normalisation", sanity.Figure(0.0, 1), "inverted").row()["source"] == "inverted"
    for name in sanity.RULES:
        check = sanity.Check(name, sanity.Figure(float("nan"), 0), "x")
        assert not check.passed and check.means and check.do and "nan" in check.measured


def test_the_largest_rise_along_eps_is_measured_whatever_the_order_of_the_bounds():
    asked = []

    def make(classifier, eps, steps):
        asked.append((eps, steps))
        return Spoiler({0.1: 4, 0.2: 3, 0.3: 1, 0.5: 6}[eps])

    falls, large = sanity.falls_with_eps(Reader(), make, LABELLED, LABELS, (0.3, 0.1, 0.2), 0.5)
    assert (falls.figure.value, falls.figure.n) == (2 / 8, 8)
    assert (large.figure.value, large.figure.n, large.found) == (2 / 8, 8, "eps = 0.5")
    assert asked == [(0.1, 20), (0.2, 20), (0.3, 20), (0.5, 40)]


def test_four_times_the_steps_are_compared():
    beaten = {10: 2, 40: 1}
    check = sanity.more_steps(Reader(), lambda c, eps, steps: Spoiler(beaten[steps]), LABELLED, LABELS, EPS)
    assert (check.figure.value, check.figure.n) == (1 / 8, 8)


def test_an_attack_of_eps_zero_is_told_the_labels():
    check = sanity.eps_zero(Reader(), lambda c, eps, steps: Spoiler(3 if eps == 0 else 0), LABELLED, LABELS)
    assert (check.figure.value, check.figure.n) == (5 / 8, 8)


@pytest.mark.parametrize(
    "size, drift, passes", [(0, 5e-5, True), (0, 1e-3, False), (1000, 0.05, True), (1000, 1, False)]
)
def test_predictions_are_equal_to_four_digits(size, drift, passes):
    """Small logits to an absolute 1e-4, large ones to a relative one."""
    answers = iter([np.full((8, 3), float(size)), np.full((8, 3), size + drift)])
    drifting = type("Drifting", (), {"predict": lambda self, x: next(answers)})()
    assert sanity.deterministic(drifting, LABELLED).passed == passes


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_noise_lies_on_the_sphere_and_every_draw_counts(norm):
    grey, eps = np.full_like(LABELLED, 0.5), 0.02
    draws = []
    for seed in (0, 0, 1):
        reader = Reader()
        sanity.noise(reader, np.zeros(8, bool), grey, LABELS, eps, norm, seed)
        draws.append(np.stack(reader.shown) - grey)
    assert len(draws[0]) == 10 and len(np.unique(draws[0].reshape(10, -1), axis=0)) == 10
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    rows = draws[0].reshape(80, -1)
    size = np.abs(rows).max(1) if norm == "linf" else np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(size, eps, rtol=1e-4)
    assert ((np.abs(np.abs(rows) - eps) < 1e-6).all()) == (norm == "linf")


def test_noise_stays_an_image_and_what_one_draw_beat_is_beaten():
    class Fooled(Reader):
        def predict(self, x):
            y = LABELS.copy()
            y[len(self.shown)] += 1  # every draw beats another image
            self.shown.append(x)
            return np.eye(10)[y]

    fooled, black_and_white = Fooled(), np.where(LABELLED > 0.35, 1, 0).astype(np.float32)
    beaten = np.arange(8) == 2
    check = sanity.noise(fooled, beaten, black_and_white, LABELS, 0.1, "linf", 0, draws=5)
    assert (check.name, check.figure.value, check.figure.n) == ("noise is weaker", 4 / 8, 8)
    shown = np.stack(fooled.shown)
    assert shown.min() == 0 and shown.max() == 1
