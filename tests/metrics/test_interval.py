"""Interval bounds beside ART's, a closed form, attacks and random images."""

import threading

import numpy as np
import pytest
import torch
from conftest import Linear, make_small_net
from torch import nn

from advbench import attacks, estimators
from advbench.metrics.interval import Unbounded, certified


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    return generator.random((24, 1, 8, 8), np.float32)


def labels(module, x):
    with torch.no_grad():
        return module(torch.from_numpy(x)).argmax(1).numpy()


def dense(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).eval()


@pytest.mark.parametrize("eps", [0.001, 0.01, 0.03])
def test_for_one_linear_layer_the_bound_is_exact(interior, eps):
    """A linear model is beaten exactly where eps |w_y - w_j|_1 exceeds the margin, in closed form."""
    module = nn.Sequential(nn.Flatten(), Linear().layer).eval()
    y = labels(module, interior)
    weight, logits = module[1].weight.detach().numpy(), module(torch.from_numpy(interior)).detach().numpy()
    rows = np.arange(len(y))
    margin = logits[rows, y][:, None] - logits - eps * np.abs(weight[y][:, None] - weight).sum(2)
    margin[rows, y] = np.inf
    np.testing.assert_array_equal(certified(module, interior, y, eps), margin.min(1) > 1e-5)


def test_the_bound_is_at_least_as_tight_as_arts_and_agrees_on_the_outputs(images):
    """ART bounds the outputs; here the last layer is joined with the margins, so ours proves whatever ART's proves."""
    from art.estimators.certification.interval import PyTorchIntervalDense, PyTorchIntervalReLU

    module = dense()
    theirs = [PyTorchIntervalDense(64, 32), PyTorchIntervalReLU(), PyTorchIntervalDense(32, 10)]
    for part, own in ((theirs[0], module[1]), (theirs[2], module[3])):
        part.weight.data, part.bias.data = own.weight.detach(), own.bias.detach()
    y, x = labels(module, images), images.reshape(len(images), 64)
    proven = 0
    for eps in (0.0005, 0.002, 0.005):
        bounds = np.stack([np.clip(x - eps, 0, 1), np.clip(x + eps, 0, 1)], 1)
        found = torch.from_numpy(bounds)
        for part in theirs:
            found = part(found)
        low, high = found.detach().numpy().transpose(1, 0, 2)
        others = np.where(np.eye(10, dtype=bool)[y], -np.inf, high).max(1)
        by_art = low[np.arange(len(y)), y] > others + 1e-5
        ours = certified(module, images, y, eps)
        assert (by_art <= ours).all()
        proven += by_art.sum()
    assert proven > 10


@pytest.mark.parametrize("eps", [0.002, 0.01])
def test_nothing_that_is_proven_is_beaten(trained_net, digits, eps):
    """With batch norm, normalisation, strides and pooling, against PGD and the corners of the box."""
    x, y = digits[2][:64], digits[3][:64]
    proven = certified(trained_net, x, y, eps)
    classifier = estimators.classifier(trained_net, (1, 8, 8), 10, device="cpu")
    beaten = classifier.predict(attacks.create("pgd", classifier, eps, max_iter=30).generate(x, y)).argmax(1) != y
    corners = np.random.default_rng(0).choice([-eps, eps], (20, *x.shape)).astype(np.float32)
    for corner in corners:
        beaten |= classifier.predict(np.clip(x + corner, 0, 1)).argmax(1) != y
    assert not (proven & beaten).any()
    assert proven.any()


def test_at_eps_zero_right_is_proven_and_wrong_is_not(trained_net, digits):
    x, y = digits[2][:64], digits[3][:64]
    np.testing.assert_array_equal(certified(trained_net, x, y, 0.0), labels(trained_net, x) == y)


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e6])
def test_the_scale_of_the_logits_proves_nothing_more_and_nothing_less(images, scale):
    plain, scaled = dense(), dense()
    with torch.no_grad():
        for parameter in scaled[3].parameters():
            parameter *= scale
    y = labels(plain, images)
    proven = certified(plain, images, y, 0.002)
    assert proven.any() and not proven.all()
    np.testing.assert_array_equal(certified(scaled, images, y, 0.002), proven)


def test_a_batch_norm_that_turns_its_input_over_is_bounded(images):
    net = make_small_net()
    with torch.no_grad():
        for part in net.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.neg_()
    y = labels(net, images)
    assert certified(net, images, y, 0.0).all()
    before = net.head[-1].weight.clone()
    found = certified(net, images, y, 0.001)
    assert torch.equal(before, net.head[-1].weight) and next(net.parameters()).dtype is torch.float32
    for sign in (-0.001, 0.001):
        assert (labels(net, np.clip(images + np.float32(sign), 0, 1)) == y)[found].all()


class Own(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10].sin()


@pytest.mark.parametrize(
    "module",
    [
        Own(),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.GELU()),
        nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(64, 10)),
        nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(64, 10)),
    ],
)
def test_a_layer_that_no_rule_bounds_is_refused(images, module):
    with pytest.raises(Unbounded):
        certified(module.eval(), images, labels(module, images), 0.01)


def test_a_hook_is_no_part_of_a_known_layer(images):
    module = dense()
    module[1].register_forward_hook(lambda layer, inputs, outputs: -outputs)
    with pytest.raises(Unbounded):
        certified(module, images, labels(module, images), 0.01)


class Locked(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.lock = dense(), threading.Lock()

    def forward(self, x):
        with self.lock:
            return self.net(x)


class OwnCopy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = dense()

    def forward(self, x):
        return self.net(x)

    def __deepcopy__(self, memo):
        return self


def with_locked_layer():
    module = dense()
    module[1].lock = threading.Lock()
    return module


@pytest.mark.parametrize("make", [Locked, OwnCopy, with_locked_layer])
def test_a_module_that_cannot_be_copied_is_left_as_it_is(images, make):
    module = make()
    with pytest.raises(Unbounded):
        certified(module, images, labels(module, images), 0.01)
    assert {each.dtype for each in module.parameters()} == {torch.float32}


def test_what_hangs_on_a_chain_of_layers_is_not_copied(images):
    """The chain is walked, its layers alone are copied."""
    module = dense()
    y = labels(module, images)
    expected = certified(module, images, y, 0.001)
    module.lock = threading.Lock()
    np.testing.assert_array_equal(certified(module, images, y, 0.001), expected)
    assert expected.any()
