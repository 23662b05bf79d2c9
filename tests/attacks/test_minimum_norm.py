"""DDN, sigma-zero and sparse random search against optima of a linear model, against adv-lib's, and their passes."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import Linear
from torch import nn

from advbench import attacks, estimators, metrics
from advbench.attacks import DDN, SigmaZero, SparseRS


def size(delta, p):
    return np.linalg.norm(delta.reshape(len(delta), -1), ord=p, axis=1)


@pytest.fixture(scope="module")
def two_classes():
    return estimators.classifier(Linear(classes=2).eval(), (1, 8, 8), 2, device="cpu")


@pytest.fixture(scope="module")
def fewest(two_classes, interior):
    """The fewest values that are enough: those that change the difference of the logits most, each up to the clip."""
    w = two_classes.model.layer.weight.detach().numpy()
    f = two_classes.predict(interior)
    direction = np.where(f.argmax(1) == 0, 1, -1)[:, None] * (w[1] - w[0])[None]
    x = interior.reshape(len(interior), -1)
    gain = np.sort(np.where(direction > 0, direction * (1 - x), -direction * x), axis=1)[:, ::-1].cumsum(1)
    return (gain <= np.abs(f[:, 1] - f[:, 0])[:, None]).sum(1) + 1


def test_ddn_is_near_the_optimum_of_a_linear_model_and_never_below(two_classes, interior):
    w = two_classes.model.layer.weight.detach().numpy()
    f = two_classes.predict(interior)
    best = np.abs(f[:, 1] - f[:, 0]) / np.linalg.norm(w[1] - w[0])
    adversarial = attacks.create("ddn-l2", two_classes, max_iter=200).generate(interior)
    assert (two_classes.predict(adversarial).argmax(1) != f.argmax(1)).all()
    found = size(adversarial - interior, 2)
    assert (found >= best - 1e-5).all() and np.median(found / best) < 1.05


def test_ddn_is_as_good_where_float32_rounds_the_cross_entropy_of_logits_away(trained_net, digits):
    class Scaled(nn.Module):
        def forward(self, x):
            return 1e4 * trained_net(x)

    x, y = digits[2][:24], digits[3][:24]
    found = []
    for module in (trained_net, Scaled().eval()):
        classifier = estimators.classifier(module, (1, 8, 8), 10, device="cpu")
        adversarial = attacks.create("ddn-l2", classifier, max_iter=100).generate(x, y)
        assert (classifier.predict(adversarial).argmax(1) != y).all()
        found.append(np.median(size(adversarial - x, 2)))
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_sigma_zero_changes_hardly_more_values_than_a_linear_model_needs(two_classes, interior, fewest):
    adversarial = attacks.create("sigma-zero", two_classes, max_iter=300).generate(interior)
    assert (two_classes.predict(adversarial) != 0).all()
    assert (two_classes.predict(adversarial).argmax(1) != two_classes.predict(interior).argmax(1)).all()
    found = size(adversarial - interior, 0)
    assert (found >= fewest).all() and np.median(found - fewest) <= 1


def test_sparse_rs_succeeds_soon_above_the_optimum_and_never_below(two_classes, interior, fewest):
    y = two_classes.predict(interior).argmax(1)
    for i in np.argsort(fewest)[::8]:
        for eps, flips in ((int(fewest[i]) - 1, False), (int(fewest[i]) + 2, True)):
            if eps:
                attack = SparseRS(two_classes, eps=eps, max_iter=400)
                adversarial = attack.generate(interior[i : i + 1], y[i : i + 1])
                assert (two_classes.predict(adversarial).argmax(1) != y[i : i + 1]).all() == flips
                assert size(adversarial - interior[i : i + 1], 0)[0] <= eps


@pytest.fixture
def advlib(monkeypatch):
    try:
        import visdom  # noqa: F401  for drawings, which nobody looks at here
    except ImportError:
        monkeypatch.setitem(sys.modules, "visdom", ModuleType("visdom"))
    return pytest.importorskip("adv_lib.attacks", reason="needs adv-lib")


@pytest.mark.parametrize("name, p", [("ddn", 2), ("sigma_zero", 0)])
def test_it_is_as_good_as_adv_libs(classifier, trained_net, digits, advlib, name, p):
    x, y = digits[2][:64], digits[3][:64]
    right = classifier.predict(x).argmax(1) == y
    steps, options = {"ddn": ("steps", {"levels": None}), "sigma_zero": ("num_steps", {})}[name]
    peer = getattr(advlib, name)
    theirs = peer(trained_net, torch.from_numpy(x), torch.from_numpy(y), **{steps: 100}, **options).numpy()
    ours = {"ddn": DDN, "sigma_zero": SigmaZero}[name](classifier, max_iter=100).generate(x, y)
    beaten = [right & (classifier.predict(each).argmax(1) != y) for each in (ours, theirs)]
    assert beaten[0].sum() >= beaten[1].sum() > 0.9 * right.sum()
    distance = [np.where(beat, size(each - x, p), np.inf)[right] for beat, each in zip(beaten, (ours, theirs))]
    assert np.median(distance[0]) <= 1.01 * np.median(distance[1])
    assert np.isclose(*distance, rtol=1e-3).mean() > 0.9  # the same algorithm, but for rounding


@pytest.mark.parametrize("kind", [DDN, SigmaZero])
def test_a_step_costs_one_forward_and_one_backward_pass_an_image(classifier, digits, kind):
    x, y = digits[2][:40], (digits[3][:40] + (np.arange(40) < 3)) % 10
    right = int((classifier.predict(x).argmax(1) == y).sum())
    with metrics.counted(classifier) as passes:
        kind(classifier, max_iter=12, batch_size=16).generate(x, y)
    assert passes.backward == 12 * right < 12 * 40
    assert passes.forward == 12 * right + 40 + right  # the clean images, and a last look at what was found


def test_sparse_rs_asks_for_scores_until_an_image_is_beaten(classifier, digits):
    x, y = digits[2][:8], digits[3][:8]
    right = int((classifier.predict(x).argmax(1) == y).sum())
    for eps, least, most in ((64, right, 30 * right), (1, 20 * right, 50 * right)):
        attack = SparseRS(classifier, eps=eps, max_iter=50)
        with metrics.counted(classifier) as passes:
            adversarial = attack.generate(x, y)
        assert passes.backward == 0 and 8 + least <= passes.forward <= 8 + most
        np.testing.assert_array_equal(adversarial, attack.generate(x, y))
        assert adversarial.min() >= 0 and adversarial.max() <= 1 and size(adversarial - x, 0).max() <= eps


@pytest.mark.parametrize("kind", [DDN, SigmaZero])
def test_a_model_without_a_gradient_leaves_images_as_they_are(trained_net, digits, kind):
    class Flat(torch.nn.Module):
        def forward(self, x):
            return trained_net(x.detach()) + 0 * x.sum()

    flat = estimators.classifier(Flat().eval(), (1, 8, 8), 10, device="cpu")
    x = digits[2][:8]
    adversarial = kind(flat, max_iter=3).generate(x)
    np.testing.assert_array_equal(adversarial, x)


@pytest.mark.parametrize(
    "kind, arguments",
    [
        (DDN, {"norm": 1}),
        (DDN, {"radius": 0}),
        (SigmaZero, {"norm": 2}),
        (SigmaZero, {"tau": -1}),
        (SparseRS, {"eps": 2.5}),
        (SparseRS, {"alpha": 0}),
    ],
)
def test_the_wrong_argument_is_named(classifier, kind, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        kind(classifier, **arguments)
