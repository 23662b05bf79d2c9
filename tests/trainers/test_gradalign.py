"""FGSM-RS with GradAlign against closed forms, finite differences and a count of passes."""

import copy

import numpy as np
import pytest
import torch
from art.defences.trainer import Trainer
from conftest import SHAPE, make_small_net
from torch import nn

from advbench import estimators
from advbench.trainers import GradAlignTrainer
from advbench.trainers.gradalign import misalignment, paper_weight

EPS = 0.1


class Plain(nn.Module):
    """Smooth, small, and a count of its passes: forward ones, and backward ones by the gradients that reach its output."""

    forwards = backwards = 0

    def __init__(self, classes=10):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, classes))

    def forward(self, x):
        self.forwards += 1
        out = self.net(x)
        if out.requires_grad:
            out.register_hook(self._count)
        return out

    def _count(self, gradient):
        self.backwards += 1


def wrapped(module, classes=10, clip=(0.0, 1.0), lr=0.1, loss=None):
    optimizer = torch.optim.SGD(module.parameters(), lr)
    return estimators.classifier(module, SHAPE, classes, device="cpu", optimizer=optimizer, clip_values=clip, loss=loss)


def test_the_cosine_of_known_vectors_at_any_scale():
    first = torch.tensor([[3.0, 0.0], [1e-30, 0.0], [1.0, 0.0], [0.0, 0.0]])
    second = torch.tensor([[5.0, 0.0], [0.0, 1e-30], [-2.0, 0.0], [1.0, 1.0]])
    assert misalignment(first, second).item() == pytest.approx((0 + 1 + 2) / 3)
    assert misalignment(first[3:], second[3:]).item() == 0


def test_the_gradients_of_a_linear_model_with_two_classes_are_aligned(digits):
    """grad l = (p - y) (w1 - w0): its direction is the same everywhere, so only the loss at x' is left."""
    x, y = torch.from_numpy(digits[0][:16]), torch.from_numpy(digits[1][:16] % 2)
    module, losses = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), []
    for weight in (0.0, 1000.0):
        trainer = GradAlignTrainer(wrapped(module, 2), EPS, weight)
        torch.manual_seed(0)
        losses.append(trainer._backward(x, y, y).item())
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)


def test_the_term_of_a_quadratic_loss_is_its_closed_form():
    """l = sum(a x^2) / 2 has the gradient a x, and 1 - cos(a x, a (x + eta)) follows by hand."""

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.linspace(0.5, 2, 64))

        def forward(self, x):
            return torch.stack([(self.a * x.flatten(1).square()).sum(1) / 2, torch.zeros(len(x))], 1)

    class First(nn.Module):
        def forward(self, outputs, y):
            return outputs[:, 0].mean()

    module, x = Quadratic(), torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(5, dtype=torch.int64)
    trainer = GradAlignTrainer(wrapped(module, 2, clip=None, loss=First()), EPS, weight=3.0)
    torch.manual_seed(1)
    found = trainer._backward(x, y, y).item()
    torch.manual_seed(1)
    eta = (EPS * (2 * torch.rand_like(x) - 1)).flatten(1).double().numpy()
    a, flat = module.a.detach().double().numpy(), x.flatten(1).double().numpy()
    u, v = a * flat, a * (flat + eta)
    cosines = (u * v).sum(1) / np.sqrt((u**2).sum(1) * (v**2).sum(1))
    moved = flat + np.clip(eta + 1.25 * EPS * np.sign(v), -EPS, EPS)
    expected = (a * moved**2).sum(1).mean() / 2 + 3 * (1 - cosines.mean())
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_that_of_finite_differences(digits):
    """In double precision, along random directions in weight space; sgn is constant almost everywhere."""
    x, y = torch.from_numpy(digits[0][:8]).double(), torch.from_numpy(digits[1][:8])
    module = Plain().double()
    trainer = GradAlignTrainer(wrapped(module), EPS, weight=2.0)
    weights = list(module.parameters())

    def objective():
        module.zero_grad()
        torch.manual_seed(0)
        return trainer._backward(x, y, y).item()

    objective()
    gradients = [weight.grad.clone() for weight in weights]
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        along = [torch.randn(w.shape, generator=generator, dtype=torch.float64) for w in weights]
        ends = []
        for h in (1e-6, -1e-6):
            with torch.no_grad():
                for weight, direction in zip(weights, along, strict=True):
                    weight += h * direction
            ends.append(objective())
            with torch.no_grad():
                for weight, direction in zip(weights, along, strict=True):
                    weight -= h * direction
        slope = sum((g * d).sum() for g, d in zip(gradients, along, strict=True)).item()
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("weight, forwards, backwards", [(0.0, 2, 2), (0.2, 3, 5)])
def test_the_passes_of_a_step(digits, weight, forwards, backwards):
    module = Plain()
    trainer = GradAlignTrainer(wrapped(module), EPS, weight)
    module.forwards = module.backwards = 0
    trainer.fit(digits[0][:32], digits[1][:32], batch_size=8, nb_epochs=2)
    assert (module.forwards, module.backwards) == (8 * forwards, 8 * backwards)


@pytest.mark.parametrize("clip", [(0.0, 1.0), None])
def test_without_the_term_a_step_is_that_of_fgsm_from_a_random_start(digits, clip):
    """Wong et al., algorithm 3, written out."""
    x, y = (torch.from_numpy(array[:16]) for array in digits[:2])
    module = Plain()
    plain = copy.deepcopy(module)
    trainer = GradAlignTrainer(wrapped(module, clip=clip), EPS, weight=0.0)
    torch.manual_seed(2)
    trainer._backward(x, y, y)
    torch.manual_seed(2)
    delta = (EPS * (2 * torch.rand_like(x) - 1)).requires_grad_()
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(plain(x + delta), y), delta)
    moved = x + (delta + 1.25 * EPS * gradient.sign()).clamp(-EPS, EPS)
    moved = (moved if clip is None else moved.clamp(*clip)).detach()
    assert (moved.min() < 0) == (clip is None)
    nn.functional.cross_entropy(plain(moved), y).backward()
    for found, wanted in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad)


def test_the_term_aligns_gradients_and_keeps_batch_statistics_out_of_them(digits):
    """Trained with a heavy term, a network with batch norm is more nearly linear within eps than without it."""
    x, y = digits[0][:256], digits[1][:256]
    bent = {}
    for weight in (0.0, 20.0):
        module = make_small_net()
        seen = []
        module.stages[0][2].register_forward_hook(lambda layer, _in, _out, seen=seen: seen.append(layer.training))
        trainer = GradAlignTrainer(wrapped(module, lr=0.05), 0.3, weight)
        assert isinstance(trainer, Trainer) and trainer.get_classifier() is trainer.classifier
        seen.clear()
        trainer.fit(x, y, batch_size=32, nb_epochs=4)
        assert seen.count(True) == 4 * 8 and not module.training
        at, off = torch.from_numpy(x), 0.3 * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) - 1)
        labels = torch.from_numpy(y)
        bent[weight] = misalignment(*(trainer._gradient(images, labels).detach() for images in (at, at + off))).item()
    assert bent[20.0] < 0.7 * bent[0.0]


def test_the_weights_of_the_paper():
    assert paper_weight(8 / 255) == pytest.approx(0.2) and paper_weight(16 / 255) == pytest.approx(2.0)
    assert paper_weight(0.3) == 2.0
    assert GradAlignTrainer(wrapped(Plain()), 8 / 255).weight == pytest.approx(0.2)


def test_training_is_the_same_after_a_kill(digits, tmp_path, killed_after_two_epochs):
    def train(path):
        trainer = GradAlignTrainer(wrapped(Plain()), EPS)
        history = trainer.fit(digits[0][:64], digits[1][:64], batch_size=16, nb_epochs=4, checkpoint=path)
        return trainer.classifier.model.state_dict(), [entry["loss"] for entry in history]

    whole, losses = train(tmp_path / "whole")
    with killed_after_two_epochs():
        train(tmp_path / "killed")
    resumed, again = train(tmp_path / "killed")
    assert again == losses and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_each_mistake_names_the_argument():
    for arguments, said in (
        ({"eps": 0.0}, "eps must be positive"),
        ({"eps": EPS, "weight": -1.0}, "weight must be non-negative"),
        ({"eps": EPS, "step": 0.0}, "step must be positive"),
    ):
        with pytest.raises(ValueError, match=said):
            GradAlignTrainer(wrapped(Plain()), **arguments)
    with pytest.raises(ValueError, match="classifier must have an optimizer"):
        GradAlignTrainer(estimators.classifier(Plain(), SHAPE, 10, device="cpu"), EPS)
