import numpy as np
import pytest
import torch
from conftest import SHAPE, around
from torch import nn

from advbench import attacks, metrics
from advbench.metrics import sanity
from advbench.metrics.surrogate import surrogate

EPS = 0.1


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


def test_gradients_are_counted_where_they_are_zero_or_not_finite(classifier, rounded, part, monkeypatch):
    x, y = part
    assert sanity.gradients(classifier, x, y).passed
    check = sanity.gradients(rounded, x, y)
    assert check.figure.value == 1 and not check.passed and "masked" in check.means and "BPDA" in check.do
    gradient = torch.ones(x.shape)
    gradient[0], gradient[1, 0, 0, 0] = 0, torch.nan
    monkeypatch.setattr(rounded, "loss_gradient", lambda x, y: gradient)
    assert sanity.gradients(rounded, x, y).figure.value == 2 / 64


def test_a_model_that_refuses_images_outside_of_its_range_is_not_normalised_otherwise(trained_net, part):
    def strict(x):
        if x.min() < 0 or x.max() > 1:
            raise ValueError("images in [0, 1]")
        return x

    check = sanity.normalisation(
        around(trained_net, strict), *part, {"outside": lambda x: x - 1, "half": lambda x: x / 2}
    )
    assert check.passed and check.figure.value <= 0


def test_a_random_model_is_not_deterministic(classifier, trained_net, part):
    assert sanity.same_twice(classifier, part[0])[0].passed
    assert not sanity.same_twice(around(trained_net, lambda x: x + 0.1 * torch.randn_like(x)), part[0])[0].passed


def test_an_attack_that_leaves_eps_zero_is_caught(classifier, part):
    predicted = classifier.predict(part[0]).argmax(1)
    assert sanity.eps_zero(classifier, pgd, *part, predicted).figure.value == 1
    assert not sanity.eps_zero(classifier, lambda c, eps, steps: pgd(c, eps + 0.2, 20), *part, predicted).passed


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
        assert sanity.transfer(model, pgd(imitation, EPS, 20), beaten, x, y).passed == passes


def test_a_surrogate_depends_on_its_seed_alone(classifier, digits):
    first, same, other = (surrogate(classifier, digits[2][:32], seed, steps=2) for seed in (0, 0, 1))
    logits, again, differ = (model.predict(digits[2][:4]) for model in (first, same, other))
    np.testing.assert_array_equal(logits, again)
    assert not np.allclose(logits, differ) and first.input_shape == SHAPE


def test_a_model_without_its_normalisation_is_caught(classifier, trained_net, part):
    bare = around(trained_net, lambda x: x * 0.5 + 0.5)
    changes = {"twice, less 1": lambda x: 2 * x - 1, "upside down": lambda x: 1 - x}
    check = sanity.normalisation(bare, *part, changes)
    assert not check.passed and check.found == "twice, less 1" and "twice, less 1" in check.measured
    right, bare_right = ((model.predict(part[0]).argmax(1) == part[1]).mean() for model in (classifier, bare))
    assert (check.figure.value, check.figure.n) == (pytest.approx(right - bare_right, abs=0.05), 64)
    assert sanity.normalisation(classifier, *part, changes).passed


def test_nothing_is_computed_twice(classifier, part, monkeypatch):
    """What is known is not predicted or attacked again, and whoever is beaten is left alone."""
    x, y = part
    everything = np.ones(len(x), bool)
    known = {bound: everything for bound in (0.0, 0.1, 0.5)}
    with metrics.counted(classifier) as passes:
        sanity.falls_with_eps(classifier, pgd, x, y, (0.1,), 0.5, known)
        sanity.noise(classifier, everything, x, y, EPS, "linf", 0)
        sanity.transfer(classifier, pgd(classifier, EPS, 5), everything, x, y)
        sanity.normalisation(classifier, x, y, {"same": lambda x: x}, everything)
    assert passes.both == len(x)
    with metrics.counted(classifier) as passes:
        sanity.same_twice(classifier, x)
        surrogate(classifier, x, 0, steps=1, logits=np.zeros((len(x), 10), np.float32))
    assert (passes.forward, passes.backward) == ((2 + 3 + 1) * len(x), 0)


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
        return Spoiler({0.1: 4, 0.2: 3, 0.3: 1, 0.5: 7}[eps])

    falls, large = sanity.falls_with_eps(Reader(), make, LABELLED, LABELS, (0.3, 0.1, 0.2), 0.5)
    assert (falls.figure.value, falls.figure.n) == (2 / 8, 8)
    assert (large.figure.value, large.figure.n, large.found) == (1 / 8, 8, "eps = 0.5")
    assert asked == [(0.1, 20), (0.2, 20), (0.3, 20), (0.5, 40)]


def test_what_only_square_beats_is_counted():
    before = np.arange(1000) < 600
    for n, passes in ((0, True), (3, True), (12, False)):
        check = sanity.square(before, before & (np.arange(1000) >= n))
        assert (check.figure.value, check.figure.n, check.passed) == (n / 1000, 1000, passes)


def test_four_times_the_steps_are_compared():
    beaten = {10: 2, 40: 1}
    check = sanity.more_steps(Reader(), lambda c, eps, steps: Spoiler(beaten[steps]), LABELLED, LABELS, EPS)
    assert (check.figure.value, check.figure.n) == (1 / 8, 8)


def test_an_attack_of_eps_zero_is_told_the_labels():
    check = sanity.eps_zero(Reader(), lambda c, eps, steps: Spoiler(3 if eps == 0 else 0), LABELLED, LABELS, LABELS)
    assert (check.figure.value, check.figure.n) == (5 / 8, 8)


class Answers:
    """A classifier that gives these logits, one array a call."""

    def __init__(self, *answers):
        self.answers = iter(answers)

    def predict(self, x):
        return next(self.answers)


SPREAD = np.tile([0.0, 2, 5], (8, 1))


@pytest.mark.parametrize("scale", [1e-30, 1e-5, 1, 1e5])
@pytest.mark.parametrize("drift, passes", [(1e-5, True), (1e-3, False)])
@pytest.mark.parametrize("offset", [0, 10])
def test_predictions_are_the_same_to_four_digits_of_their_spread(scale, drift, passes, offset):
    logits = (SPREAD + offset) * scale
    answers = Answers(logits, logits + drift * 5 * scale, np.repeat(logits, 3, 0))
    assert sanity.same_twice(answers, LABELLED)[0].passed == passes


def test_predictions_that_are_all_equal_are_the_same():
    constant = np.full((8, 3), 7.0)
    answers = Answers(constant, constant, np.repeat(constant, 3, 0))
    assert all(check.passed for check in sanity.same_twice(answers, LABELLED))


@pytest.mark.parametrize("temperature", [1e-5, 1, 1e5])
@pytest.mark.parametrize(
    "change, passes",
    [
        (lambda x: x, True),
        (lambda x: x - x.mean(0, keepdim=True) + 0.5, False),
        (lambda x: x / x.max(), True),  # every batch of digits has a white pixel
        (lambda x: (x - x[:1] / 2).clamp(0, 1), False),
        (nn.BatchNorm2d(1, affine=False, track_running_stats=False), False),
        (lambda x: x.mean() + x - 0.3, False),
    ],
)
def test_a_model_that_looks_at_the_other_images_of_a_batch_is_caught(trained_net, part, change, passes, temperature):
    model = around(nn.Sequential(trained_net, Scaled(1 / temperature)), change)
    twice, check = sanity.same_twice(model, part[0])
    assert check.passed == passes and (passes or "batch" in check.means)
    assert twice.passed


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def test_a_single_image_has_company_too(trained_net, part):
    assert sanity.same_twice(around(trained_net, lambda x: x), part[0][:1])[1].figure.value == 1
    assert (
        sanity.same_twice(around(trained_net, lambda x: x - x.mean(0, keepdim=True)), part[0][:1])[1].figure.value == 0
    )


def test_a_random_model_is_not_blamed_for_its_batch(trained_net, part):
    torch.manual_seed(0)
    assert sanity.same_twice(around(trained_net, lambda x: x + 0.1 * torch.randn_like(x)), part[0])[1].passed


def test_a_surrogate_learns_from_a_model_behind_any_temperature(classifier, trained_net, digits, part):
    for temperature in (1e-3, 1e3, 1e8):
        behind = around(nn.Sequential(trained_net, Scaled(1 / temperature)), lambda x: x)
        imitation = surrogate(behind, digits[2], 0)
        assert (imitation.predict(part[0]).argmax(1) == classifier.predict(part[0]).argmax(1)).mean() > 0.9


@pytest.mark.parametrize(
    "name, few, many",
    [
        ("gradients", 2, 6),
        ("large eps breaks it", 3, 6),
        ("noise is weaker", 3, 6),
        ("transfer is weaker", 3, 6),
        ("binarization test", 60, 50),
    ],
)
def test_a_share_fails_where_its_interval_does(name, few, many):
    assert sanity.Check(name, sanity.proportion(few, 64)).passed
    assert not sanity.Check(name, sanity.proportion(many, 64)).passed


@pytest.mark.parametrize("name", ["deterministic", "the batch does not matter", "eps zero is clean"])
def test_what_has_to_hold_for_every_image_fails_for_one(name):
    assert sanity.Check(name, sanity.proportion(64, 64)).passed
    assert not sanity.Check(name, sanity.proportion(63, 64)).passed
    assert not sanity.Check(name, sanity.proportion(1, 2)).passed


@pytest.mark.parametrize("rescued, passes", [(0, True), (2, True), (6, False), (8, False)])
def test_a_rise_fails_where_its_interval_does(rescued, passes):
    """Of eight images one or two may come back by chance; of all eight nobody would believe it."""
    beaten = {10: 8, 40: 8 - rescued}
    check = sanity.more_steps(Reader(), lambda c, eps, steps: Spoiler(beaten[steps]), LABELLED, LABELS, EPS)
    assert (check.figure.value, check.passed) == (rescued / 8, passes)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_noise_lies_on_the_sphere_and_every_draw_counts(norm):
    grey, eps = np.full_like(LABELLED, 0.5), 0.02
    draws = []
    for seed in (0, 0, 1):
        reader = Reader()
        sanity.noise(reader, np.zeros(8, bool), grey, np.full(8, 5), eps, norm, seed)
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
            self.shown.append(x)
            left = np.setdiff1d(LABELS, [2])[len(self.shown) - 1 :]
            return np.eye(10)[left + (np.arange(len(x)) == 0)]  # every draw beats the first image that is left

    fooled, black_and_white = Fooled(), np.where(LABELLED > 0.35, 1, 0).astype(np.float32)
    beaten = np.arange(8) == 2
    check = sanity.noise(fooled, beaten, black_and_white, LABELS, 0.1, "linf", 0, draws=5)
    assert (check.name, check.figure.value, check.figure.n) == ("noise is weaker", 5 / 8, 8)
    assert [len(x) for x in fooled.shown] == [7, 6, 5, 4, 3]
    shown = np.concatenate(fooled.shown)
    assert shown.min() == 0 and shown.max() == 1
