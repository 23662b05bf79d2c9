import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from conftest import SHAPE, make_small_net
from scipy.special import softmax

from advbench import attacks, estimators, metrics
from advbench.attacks.fgsm import FGSM

EPS = 0.1


def both(ours, theirs, classifier, digits, options, **more):
    """What our class and ART's make of the same images, from the same random starts, and what was attacked.

    They are images whose loss has a gradient that float32 does not round: where it does, only ours goes along the true one.
    """
    x, y = digits[2], (digits[3] + bool(options.get("targeted"))) % 10
    others = 1 - softmax(classifier.predict(x).astype(float), axis=1)[np.arange(len(x)), y]
    x, y = (array[others > 1e-4][:40] for array in (x, y))
    results = []
    for kind in (ours, theirs):
        np.random.seed(0)  # ART draws its random starts from NumPy's global generator
        results.append(kind(classifier, batch_size=16, **options, **more).generate(x, np.eye(10, dtype=np.float32)[y]))
    assert results[0].dtype == results[1].dtype == np.float32
    return results, (x, y)


@pytest.mark.parametrize(
    "options",
    [
        {"norm": np.inf, "eps": 0.1, "eps_step": 0.03},
        # after a step this long a softmax is saturated: float32 rounds ART's gradient there
        {"norm": "inf", "eps": 1, "eps_step": 1, "max_iter": 1},
        {"norm": np.inf, "eps": 0.0, "eps_step": 0.1, "num_random_init": 1},
        {"norm": 2, "eps": 0.5, "eps_step": 0.2},
        {"norm": 2, "eps": 0.5, "eps_step": 0.2, "num_random_init": 1, "targeted": True},
        {"norm": np.inf, "eps": 0.1, "eps_step": 0.03, "num_random_init": 1},
        {"norm": np.inf, "eps": 0.1, "eps_step": 0.03, "targeted": True},
        {"norm": np.inf, "eps": np.full(SHAPE, 0.1), "eps_step": np.full(SHAPE, 0.03)},
        {"norm": np.inf, "eps": 0.1, "eps_step": 0.03, "decay": 0.9},
        {"norm": np.inf, "eps": 0.1, "eps_step": 0.03, "random_eps": True},
    ],
)
def test_it_is_arts_to_the_bit(classifier, digits, options):
    options = {"max_iter": 5, **options}
    results, _ = both(attacks.PGD, ProjectedGradientDescent, classifier, digits, options, verbose=False)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("clip", [(0.0, 1.0), None, (np.full(SHAPE, 0.1), np.full(SHAPE, 0.8))])
@pytest.mark.parametrize("options", [{"norm": np.inf, "eps": 0.1}, {"norm": 2, "eps": 0.5, "num_random_init": 1}])
def test_the_limits_are_those_of_the_classifier(trained_net, digits, clip, options):
    limited = estimators.classifier(trained_net, SHAPE, 10, device="cpu", clip_values=clip)
    within = (*digits[:2], digits[2].clip(0.1, 0.8), digits[3])
    more = {"max_iter": 3, "eps_step": 0.2, "verbose": False}
    np.testing.assert_array_equal(*both(attacks.PGD, ProjectedGradientDescent, limited, within, options, **more)[0])


@pytest.mark.parametrize(
    "options",
    [
        {"eps": 0.1},
        {"eps": 0.1, "num_random_init": 1},
        {"eps": 0.1, "targeted": True},
        {"eps": 0.1, "norm": 1},
        {"eps": 0.1, "minimal": True, "eps_step": 0.02},
        {"eps": 0.5, "norm": 2},
        {"eps": 0.5, "norm": 2, "num_random_init": 1},
    ],
)
def test_fgsm_is_arts(classifier, digits, options):
    results, _ = both(FGSM, FastGradientMethod, classifier, digits, options)
    if options.get("norm") == 2:  # NumPy and torch add squares in another order
        np.testing.assert_allclose(*results, rtol=0, atol=1e-6)
    else:
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("clip", [None, (0.0, 0.9)])
def test_in_l1_another_range_than_that_of_images_is_left_to_art(trained_net, digits, clip):
    limited = estimators.classifier(trained_net, SHAPE, 10, device="cpu", clip_values=clip)
    within = (*digits[:2], digits[2].clip(0, 0.9), digits[3])
    options = {"norm": 1, "eps": 2.0, "eps_step": 0.5, "max_iter": 3, "verbose": False}
    np.testing.assert_array_equal(*both(attacks.PGD, ProjectedGradientDescent, limited, within, options)[0])


def test_later_starts_are_for_the_images_that_withstood_the_earlier_ones(classifier, digits):
    options = {"norm": np.inf, "eps": 0.06, "eps_step": 0.03, "num_random_init": 4}
    (ours, theirs), (x, y) = both(
        attacks.PGD, ProjectedGradientDescent, classifier, digits, options, max_iter=3, verbose=False
    )
    left, theirs_left = (classifier.predict(images).argmax(1) == y for images in (ours, theirs))
    np.testing.assert_array_equal(left, theirs_left)
    np.testing.assert_array_equal(ours[left], theirs[left])
    with metrics.counted(classifier) as passes:
        np.random.seed(0)
        attack = attacks.PGD(classifier, max_iter=3, batch_size=16, verbose=False, **options)
        attack.generate(x, y)
    assert 3 * 40 < passes.backward < 3 * 4 * 30 and passes.forward == 4 * passes.backward / 3


@pytest.mark.parametrize("name, eps", [("pgd", EPS), ("bim", EPS), ("pgd-l2", 0.6), ("bim-l2", 0.6), ("pgd-l1", 2.5)])
def test_to_beat_stops_at_each_image_and_beats_no_fewer(classifier, digits, name, eps):
    x, y = digits[2][:64], digits[3][:64]
    attack = attacks.create(name, classifier, eps, max_iter=20, batch_size=24)
    with metrics.counted(classifier) as whole:
        np.random.seed(0)
        last = classifier.predict(attack.generate(x, y)).argmax(1) != y
    with metrics.counted(classifier) as short:
        np.random.seed(0)
        images, beaten = attack.beat(x, y)
    assert (beaten | ~last).all()
    np.testing.assert_array_equal(classifier.predict(images).argmax(1) != y, beaten)
    order = {"l1": 1, "l2": 2}.get(name[-2:], np.inf)
    assert np.linalg.norm((images - x).reshape(64, -1), order, axis=1).max() <= eps * (1 + 1e-5)
    assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
    assert whole.backward == 20 * 64 and short.backward < 0.5 * whole.backward


def test_a_targeted_attack_beats_an_image_that_is_taken_for_its_target(classifier, digits):
    x, y = digits[2][:24], (digits[3][:24] + 1) % 10
    attack = attacks.PGD(classifier, np.inf, 0.3, 0.05, max_iter=20, targeted=True, verbose=False)
    images, beaten = attack.beat(x, y)
    np.testing.assert_array_equal(classifier.predict(images).argmax(1) == y, beaten)
    assert beaten.mean() > 0.5


def test_the_model_judges_and_the_attack_goes_on_where_it_does_not_agree(trained_net, digits, monkeypatch):
    """The gradients are those of a model that is wrong about everything; ``predict`` is right about the clean images."""
    x, y = digits[2][:16], digits[3][:16]
    classifier = estimators.classifier(trained_net, SHAPE, 10, device="cpu")
    x, y = (array[classifier.predict(x).argmax(1) == y] for array in (x, y))
    monkeypatch.setattr(classifier, "_pass", lambda x, y, is_direction: (torch.zeros_like(x), y.roll(1, 1)))
    shown = []
    monkeypatch.setattr(
        classifier, "predict", lambda x, **o: (shown.append(len(x)), type(classifier).predict(classifier, x, **o))[1]
    )
    images, beaten = attacks.create("bim", classifier, EPS, max_iter=3).beat(x, y)
    assert not beaten.any() and shown == [len(x)] * 4
    np.testing.assert_array_equal(images, x)


def test_a_gradient_of_its_own_kind_is_followed(trained_net, digits):
    """The mean over draws of ``ExpectationClassifier`` is taken as it is, and ART follows the same."""
    random = estimators.expectation(trained_net, SHAPE, 10, draws=2, device="cpu")
    with metrics.counted(random) as passes:
        attacks.create("bim", random, EPS, max_iter=3).beat(digits[2][:8], digits[3][:8])
    assert (passes.forward, passes.backward) == (8 * (2 * 3 + 1), 8 * 2 * 3)


def test_elements_of_a_gradient_that_are_not_numbers_count_as_zero(classifier, digits, monkeypatch, caplog):
    gradient = torch.ones(4, *SHAPE)
    gradient[:, :, 0], gradient[:, :, 1] = torch.nan, torch.inf
    monkeypatch.setattr(classifier, "loss_gradient", lambda x, y: gradient.clone())
    x, y = digits[2][:4], digits[3][:4]
    for options in ({"norm": np.inf, "eps": 0.1}, {"norm": 2, "eps": 0.5}):
        options = {**options, "eps_step": 0.1, "max_iter": 2, "verbose": False}
        ours, theirs = (k(classifier, **options).generate(x, y) for k in (attacks.PGD, ProjectedGradientDescent))
        np.testing.assert_array_equal(ours, theirs)
    assert "elements of the loss gradient are NaN" in caplog.text


def test_a_subclass_that_computes_its_own_perturbation_is_followed(classifier, digits):
    class Downwards(attacks.PGD):
        def _compute_perturbation_pytorch(self, x, y, mask, momentum):
            return -torch.ones_like(x)

    x, y = digits[2][:4], digits[3][:4]
    attack = Downwards(classifier, np.inf, 0.1, 0.1, max_iter=1, verbose=False)
    np.testing.assert_allclose(attack.generate(x, y), (x - 0.1).clip(0, 1), atol=1e-6)
    images, beaten = attack.beat(x, y)
    np.testing.assert_array_equal(beaten, classifier.predict(images).argmax(1) != y)


def test_one_output_for_two_classes_is_attacked_to_the_end(digits):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1))
    made = estimators.TorchClassifier(
        module, torch.nn.BCEWithLogitsLoss(), SHAPE, 2, clip_values=(0, 1), device_type="cpu"
    )
    attack = attacks.PGD(made, np.inf, 0.1, 0.05, max_iter=3, verbose=False)
    with metrics.counted(made) as passes:
        attack.beat(digits[2][:5], np.array([0, 1, 0, 1, 0]))
    assert passes.backward == 15


def test_an_attack_on_another_model_is_judged_by_the_model_that_is_named(classifier, digits):
    """Images that beat the other model may not beat this one, so the attack must not stop at them."""
    x, y = digits[2][:32], digits[3][:32]
    other = estimators.classifier(make_small_net(5), SHAPE, 10, device="cpu")
    attack = attacks.create("bim", other, EPS)
    images, beaten = metrics.attacked(classifier, attack, x, y)
    np.testing.assert_array_equal(images, attack.generate(x, y))
    np.testing.assert_array_equal(beaten, classifier.predict(images).argmax(1) != y)


def test_nothing_is_predicted_for_a_log_line(classifier, digits, monkeypatch):
    calls = []
    predict = classifier.predict
    monkeypatch.setattr(classifier, "predict", lambda x, **options: (calls.append(len(x)), predict(x, **options))[1])
    attacks.create("pgd", classifier, 0.1).generate(digits[2][:8], digits[3][:8])
    assert not calls
    attacks.create("pgd", classifier, 0.1).generate(digits[2][:8])
    assert calls == [8]  # without labels those that are predicted are attacked


def test_a_mask_is_arts_own(classifier, digits):
    x, y = digits[2][:4], digits[3][:4]
    mask = np.zeros_like(x)
    mask[:, :, :4] = 1
    adversarial = attacks.create("bim", classifier, 0.1).generate(x, y, mask=mask)
    assert (adversarial[:, :, 4:] == x[:, :, 4:]).all() and (adversarial != x).any()
