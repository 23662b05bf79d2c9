"""On a linear classifier, whose nearest boundary is known in closed form, and against foolbox."""

import numpy as np
import pytest

from advbench import attacks


def nearest(classifier, x, y, never=()):
    """The l2 distance to the nearest half space in which another class beats y."""
    w = classifier.model.layer.weight.detach().numpy().astype(np.float64)
    z = classifier.predict(x).astype(np.float64)
    distance = np.full(z.shape, np.inf)
    for i, label in enumerate(y):
        for k in set(range(z.shape[1])) - {label, *never}:
            distance[i, k] = (z[i, label] - z[i, k]) / np.linalg.norm(w[label] - w[k])
    return distance.min(1)


def test_it_comes_close_to_the_nearest_boundary(linear, interior):
    y = linear.predict(interior).argmax(1)
    attack = attacks.CarliniWagnerL2(linear, learning_rate=1e-4, binary_search_steps=9, max_iter=400)
    adversarial = attack.generate(interior, y)
    assert (linear.predict(adversarial).argmax(1) != y).all()
    distance = np.linalg.norm((adversarial - interior).reshape(32, -1), axis=1)
    best = nearest(linear, interior, y)
    far = best > 0.002  # five steps of Adam
    assert far.sum() > 16
    assert (distance > 0.999 * best).all()
    assert np.median((distance / best)[far]) < 1.02 and (distance / best)[far].max() < 1.1


def test_confidence_is_a_margin_of_logits(linear, interior):
    y = linear.predict(interior).argmax(1)
    attack = attacks.CarliniWagnerL2(linear, confidence=2.0, binary_search_steps=6, max_iter=200)
    z = linear.predict(attack.generate(interior, y))
    own = z[np.arange(32), y]
    z[np.arange(32), y] = -np.inf
    assert (z.max(1) - own > 2 - 1e-3).all()


def test_a_class_that_must_never_win_does_not(linear, interior):
    y = np.zeros(32, dtype=np.int64)
    plain = attacks.CarliniWagnerL2(linear, binary_search_steps=5, max_iter=100)
    common = np.bincount(linear.predict(plain.generate(interior, y)).argmax(1), minlength=4).argmax()
    restricted = attacks.CarliniWagnerL2(linear, binary_search_steps=5, max_iter=100, never=(int(common),))
    found = linear.predict(restricted.generate(interior, y)).argmax(1)
    assert not np.isin(found, [0, common]).any()


def test_an_image_for_which_none_was_found_is_returned_unchanged(linear, interior):
    attack = attacks.CarliniWagnerL2(linear, max_iter=1)  # its first iterate is the image
    y = linear.predict(interior).argmax(1)
    np.testing.assert_array_equal(attack.generate(interior, y), interior)


def test_it_is_as_near_as_foolbox_on_a_trained_network(classifier, digits):
    foolbox = pytest.importorskip("foolbox")
    import torch

    x, y = digits[2][:24], digits[3][:24]
    right = classifier.predict(x).argmax(1) == y
    x, y = x[right], y[right]
    model = foolbox.PyTorchModel(classifier.model, bounds=(0, 1), device="cpu")
    theirs = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=5, steps=200, stepsize=0.01, initial_const=0.1)
    images = theirs(model, torch.from_numpy(x), torch.from_numpy(y), epsilons=None)[1].numpy()
    attack = attacks.CarliniWagnerL2(classifier, binary_search_steps=5, max_iter=200)
    ours = attack.generate(x, y)
    assert (classifier.predict(ours).argmax(1) != y).mean() >= (classifier.predict(images).argmax(1) != y).mean()
    distances = [np.median(np.linalg.norm((a - x).reshape(len(x), -1), axis=1)) for a in (ours, images)]
    assert distances[0] < 1.05 * distances[1]


def test_wrong_arguments_are_named(linear):
    for wrong in ({"confidence": -1}, {"max_iter": 0}, {"initial_const": 0}, {"never": (7,)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            attacks.CarliniWagnerL2(linear, **wrong)
