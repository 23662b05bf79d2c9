"""Agreement with foolbox and torchattacks on one trained model."""

import numpy as np
import pytest
import torch

from advbench import attacks
from advbench.attacks import DeepFool

foolbox = pytest.importorskip("foolbox", reason="needs the extra 'peers'")
torchattacks = pytest.importorskip("torchattacks", reason="needs the extra 'peers'")

EPS = 0.05


@pytest.fixture(scope="module")
def batch(digits):
    _, _, x, y = digits
    return torch.from_numpy(x[:128]), torch.from_numpy(y[:128])


def by_foolbox(attack, net, batch, epsilons):
    x, y = batch
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    return attack(model, x, y, epsilons=epsilons)[1].numpy()


def same_share(ours, theirs):
    """The share of pixels on which two attacks agree; a sign at a gradient of rounding size may differ."""
    return np.isclose(ours, theirs, atol=1e-5).mean()


def test_fgsm(classifier, trained_net, batch):
    x, y = batch
    ours = attacks.create("fgsm", classifier, eps=EPS).generate(x.numpy(), y.numpy())
    assert (
        same_share(
            ours, by_foolbox(foolbox.attacks.LinfFastGradientAttack(random_start=False), trained_net, batch, EPS)
        )
        > 0.999
    )
    assert same_share(ours, torchattacks.FGSM(trained_net, eps=EPS)(x, y).detach().numpy()) > 0.999


def test_linf_iterative(classifier, trained_net, batch):
    x, y = batch
    ours = attacks.create("bim", classifier, eps=EPS, eps_step=0.01, max_iter=10).generate(x.numpy(), y.numpy())
    peer = foolbox.attacks.LinfPGD(abs_stepsize=0.01, steps=10, random_start=False)
    assert same_share(ours, by_foolbox(peer, trained_net, batch, EPS)) > 0.99
    other = torchattacks.PGD(trained_net, eps=EPS, alpha=0.01, steps=10, random_start=False)
    assert same_share(ours, other(x, y).detach().numpy()) > 0.99


def test_l2_iterative(classifier, trained_net, batch):
    x, y = batch
    ours = attacks.create("bim-l2", classifier, eps=0.5, eps_step=0.1, max_iter=10).generate(x.numpy(), y.numpy())
    peer = foolbox.attacks.L2PGD(abs_stepsize=0.1, steps=10, random_start=False)
    theirs = by_foolbox(peer, trained_net, batch, 0.5)
    fooled = [(classifier.predict(adversarial).argmax(1) != y.numpy()).mean() for adversarial in (ours, theirs)]
    assert abs(fooled[0] - fooled[1]) < 0.02


@pytest.mark.parametrize("norm", [2, np.inf])
def test_deepfool(classifier, trained_net, batch, norm):
    x, y = batch[0].numpy(), batch[1].numpy()
    right = classifier.predict(x).argmax(1) == y
    peer = foolbox.attacks.L2DeepFoolAttack if norm == 2 else foolbox.attacks.LinfDeepFoolAttack
    theirs = by_foolbox(peer(steps=50, candidates=10, overshoot=0.02), trained_net, batch, None)
    ours = DeepFool(classifier, norm).generate(x, y)
    assert (classifier.predict(ours).argmax(1) != y).all()
    distance = [
        np.median(np.linalg.norm((adversarial - x)[right].reshape(right.sum(), -1), ord=norm, axis=1))
        for adversarial in (ours, theirs)
    ]
    assert distance[0] <= 1.02 * distance[1]
