"""Every public entry point checks the range of its images in the same way."""

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod
from conftest import SHAPE, make_small_net

from advbench import attacks, detectors, estimators, preprocessors, trainers
from advbench.trainers import Schedule
from advbench.trainers.weighted import is_fgsm

NAMES = sorted(attacks.ATTACKS)


def attack(name, classifier):
    if name == "carlini":
        return attacks.CarliniWagnerL2(classifier, max_iter=2, binary_search_steps=1)
    spec = attacks.ATTACKS[name]
    made = attacks.create(name, classifier, (1 if spec.norm == "l0" else 0.1) if spec.bounded else None)
    made.set_params(batch_size=8)
    return made


def training(classifier):
    fgsm = attacks.create("fgsm", classifier, 0.1)
    return trainers.WeightedAdversarialTrainer(classifier, [fgsm], (0.5, 0.5))


@pytest.fixture
def fitted(classifier):
    net = make_small_net()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    return estimators.classifier(net, SHAPE, 10, device="cpu", optimizer=optimizer)


@pytest.mark.parametrize("name", [*NAMES, "carlini"])
@pytest.mark.parametrize(
    "change, said",
    [(lambda x: 255 * x, "divide by 255"), (lambda x: 2 * x - 1, "looks normalised"), (lambda x: x * np.nan, "NaN")],
)
def test_an_attack_refuses_images_of_another_range(classifier, digits, name, change, said):
    with pytest.raises(ValueError, match=f"^x must lie in .*{said}"):
        attack(name, classifier).generate(change(digits[2][:4]), digits[3][:4])


@pytest.mark.parametrize("name", ["fgsm", "pgd", "bim-l2", "deepfool-linf"])
def test_a_rounding_above_one_is_clipped_with_a_warning(classifier, digits, name):
    x, y = digits[2][:8].copy(), digits[3][:8]
    x[0, 0, 0, 0] = 1
    np.random.seed(0)
    wanted = attack(name, classifier).generate(x, y)
    x[0, 0, 0, 0] = 1.0000002
    np.random.seed(0)
    with pytest.warns(UserWarning, match=r"x lies in .*clipped to \[0, 1\]"):
        found = attack(name, classifier).generate(x, y)
    np.testing.assert_array_equal(found, wanted)


def test_the_range_is_that_of_the_classifier(trained_net, digits):
    x, y = digits[2][:4], digits[3][:4]
    grey = estimators.classifier(trained_net, SHAPE, 10, device="cpu", clip_values=(0.0, 255.0))
    assert attack("fgsm", grey).generate(255 * x, y).max() <= 255
    with pytest.raises(ValueError, match=r"must lie in the classifier's 0\.\.255, found"):
        attack("pgd", grey).generate(300 * x, y)
    without = estimators.classifier(trained_net, SHAPE, 10, device="cpu", clip_values=None)
    assert attack("fgsm", without).generate(x - 3, y).max() < 0


def test_both_classes_of_fgsm_are_known(classifier):
    assert is_fgsm(attacks.create("fgsm", classifier, 0.1)) and is_fgsm(FastGradientMethod(classifier, np.inf, 0.1))


def test_trainings_detectors_and_preprocessors_refuse_the_same(fitted, classifier, digits):
    grey, y = 255 * digits[0][:64], digits[1][:64]
    detector = detectors.SubnetworkDetector(classifier, position=1)
    calls = [
        lambda: training(fitted).fit(grey, y, 32, 1),
        lambda: detector.fit(grey, y % 2),
        lambda: detector.scores(grey),
        lambda: preprocessors.VAEReformer(SHAPE, device="cpu").train(grey),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\], found 0\.\.255; divide by 255"):
            call()
    schedule = Schedule(1, 0.1, 0.0, batch_size=32, pad=1, flip=False)
    for images in (grey, digits[0][:64], digits[0][:64].astype(np.float64)):
        with pytest.raises(ValueError, match="train must hold uint8 images in 0..255, .*not float"):
            trainers.train_classifier(make_small_net(), (images, y), (images, y), schedule)


@pytest.mark.parametrize(
    "name", ["fgsm", "pgd-l2", "deepfool-l2", "deepfool-linf", "fmn-l1", "apgd-ce", "fab-t", "carlini"]
)
def test_the_users_default_type_changes_nothing(classifier, digits, name):
    found = []
    for kind in (torch.float32, torch.float64):
        np.random.seed(0)
        torch.set_default_dtype(kind)
        try:
            found.append(attack(name, classifier).generate(digits[2][:3], digits[3][:3]))
        finally:
            torch.set_default_dtype(torch.float32)
    assert found[1].dtype == np.float32
    np.testing.assert_allclose(*found, atol=1e-5)
