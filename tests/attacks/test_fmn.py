"""FMN against the optimum of a linear model, against foolbox's, and its passes against the algorithm."""

import numpy as np
import pytest
import torch
from conftest import Linear

from advbench import attacks, estimators, metrics
from advbench.attacks import FMN

NORMS = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}
DUAL = {"linf": 1, "l2": 2, "l1": np.inf}


def size(delta, norm):
    return np.linalg.norm(delta.reshape(len(delta), -1), ord=NORMS[norm], axis=1)


@pytest.fixture(scope="module")
def two_classes():
    return estimators.classifier(Linear(classes=2).eval(), (1, 8, 8), 2, device="cpu")


@pytest.mark.parametrize("norm", DUAL)
def test_it_is_near_the_optimum_of_a_linear_model_and_never_below(two_classes, interior, norm):
    """Two classes: |f_1 - f_0| / ||w_1 - w_0||_q, q dual to the norm, where the clip is not met: the images are mid-grey."""
    w = two_classes.model.layer.weight.detach().numpy()
    f = two_classes.predict(interior)
    best = np.abs(f[:, 1] - f[:, 0]) / np.linalg.norm(w[1] - w[0], ord=DUAL[norm])
    inside = best < 0.4
    adversarial = attacks.create(f"fmn-{norm}", two_classes, max_iter=300).generate(interior)
    assert (two_classes.predict(adversarial).argmax(1) != f.argmax(1)).all()
    found = size(adversarial - interior, norm)
    assert inside.sum() > 20 and (found >= best - 1e-5).all()
    assert np.median(found[inside] / best[inside]) < 1.02 and (found[inside] / best[inside]).max() < 1.1


def test_in_l0_a_linear_model_needs_the_fewest_values_that_are_enough(two_classes, interior):
    """The optimum takes the values that can change the difference of the logits most, each up to the clip."""
    w = two_classes.model.layer.weight.detach().numpy()
    f = two_classes.predict(interior)
    sign = np.where(f.argmax(1) == 0, 1, -1)[:, None]  # towards the other class
    direction = sign * (w[1] - w[0])[None]
    x = interior.reshape(len(interior), -1)
    gain = np.sort(np.where(direction > 0, direction * (1 - x), -direction * x), axis=1)[:, ::-1].cumsum(1)
    best = (gain <= np.abs(f[:, 1] - f[:, 0])[:, None]).sum(1) + 1
    adversarial = FMN(two_classes, 0, max_iter=300).generate(interior)
    assert (two_classes.predict(adversarial).argmax(1) != f.argmax(1)).all()
    found = size(adversarial - interior, "l0")
    assert (found >= best).all() and np.median(found - best) <= 1


@pytest.mark.parametrize("norm", NORMS)
def test_it_is_as_good_as_foolboxes(classifier, trained_net, digits, norm):
    foolbox = pytest.importorskip("foolbox", reason="needs the extra 'peers'")
    name = {"linf": "LInf", "l2": "L2", "l1": "L1", "l0": "L0"}[norm]
    x, y = digits[2][:128], digits[3][:128]
    right = classifier.predict(x).argmax(1) == y
    peer = getattr(foolbox.attacks, f"{name}FMNAttack")(steps=100)
    model = foolbox.PyTorchModel(trained_net, bounds=(0, 1), device="cpu")
    theirs = peer(model, torch.from_numpy(x), torch.from_numpy(y), epsilons=None)[1].numpy()
    ours = FMN(classifier, NORMS[norm], 100).generate(x, y)
    beaten = [right & (classifier.predict(each).argmax(1) != y) for each in (ours, theirs)]
    assert beaten[0].sum() > 0.99 * right.sum() and beaten[0].sum() >= beaten[1].sum() > 0.5 * right.sum()
    distance = [np.where(beat, size(each - x, norm), np.inf)[right] for beat, each in zip(beaten, (ours, theirs))]
    assert np.median(distance[0]) <= 1.01 * np.median(distance[1])
    both = np.isfinite(distance[0]) & np.isfinite(distance[1])
    assert np.median(distance[0][both] / distance[1][both]) <= 1.01


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_costs_one_forward_and_one_backward_pass_an_image(classifier, digits, norm):
    x, y = digits[2][:40], (digits[3][:40] + (np.arange(40) < 3)) % 10
    right = int((classifier.predict(x).argmax(1) == y).sum())
    assert right < 40
    with metrics.counted(classifier) as passes:
        FMN(classifier, NORMS[norm], 25, batch_size=16).generate(x, y)
    assert passes.backward == 25 * right
    assert passes.forward == 25 * right + 40 + right  # the clean images, and a last look at what was found


def test_misclassified_images_stay_and_the_batch_size_does_not_matter(classifier, digits):
    x, y = digits[2][:64], (digits[3][:64] + (np.arange(64) < 3)) % 10
    wrong = classifier.predict(x).argmax(1) != y
    adversarial = FMN(classifier, max_iter=30).generate(x, y)
    np.testing.assert_array_equal(adversarial[wrong], x[wrong])
    assert wrong.any() and adversarial.min() >= 0 and adversarial.max() <= 1
    np.testing.assert_allclose(FMN(classifier, max_iter=30, batch_size=7).generate(x, y), adversarial, atol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_what_was_found_is_adversarial_alone_and_in_any_batch(norm):
    """Many steps end at the boundary itself, where the rounding of another batch decides."""
    classifier = estimators.load("small-cnn-cifar10-fgsm-0.01", device="cpu")
    x = np.random.default_rng(0).random((32, 3, 32, 32), dtype=np.float32)
    y = classifier.predict(x).argmax(1)
    adversarial = FMN(classifier, NORMS[norm], 200).generate(x, y)
    for size in (1, 3, 32):
        assert (classifier.predict(adversarial, batch_size=size).argmax(1) != y).all()


def test_a_model_without_a_gradient_leaves_images_as_they_are(trained_net, digits):
    class Flat(torch.nn.Module):
        def forward(self, x):
            return trained_net(x.detach()) + 0 * x.sum()

    flat = estimators.classifier(Flat().eval(), (1, 8, 8), 10, device="cpu")
    for norm in NORMS.values():
        adversarial = FMN(flat, norm, 10).generate(digits[2][:8])
        np.testing.assert_array_equal(adversarial, digits[2][:8])


@pytest.mark.parametrize("arguments", [{"norm": 3}, {"max_iter": 0}, {"alpha": 0}, {"gamma": -1}, {"batch_size": 0}])
def test_the_wrong_argument_is_named(classifier, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        FMN(classifier, **arguments)
