"""Weighted and mixed training against the formula, ART's own FGSM and a count of passes."""

import copy

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from art.defences.trainer import Trainer
from conftest import SHAPE, make_small_net
from torch import nn

from advbench import estimators
from advbench.trainers import MixedAdversarialTrainer, WeightedAdversarialTrainer

EPS = 0.1


class Plain(nn.Module):
    """No layer that couples images or differs between training and evaluation."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 32), nn.Tanh(), nn.Linear(32, 10)
            )

    def forward(self, x):
        return self.net(x)


def wrapped(module, lr=0.1, clip=(0.0, 1.0), momentum=0.0):
    optimizer = torch.optim.SGD(module.parameters(), lr, momentum=momentum)
    return estimators.classifier(module, SHAPE, 10, device="cpu", optimizer=optimizer, clip_values=clip)


def fgsm(classifier, **kwargs):
    return FastGradientMethod(classifier, np.inf, EPS, **kwargs)


def batch(digits, n=32):
    return digits[0][:n], digits[1][:n]


def one_step(trainer, x, y, **kwargs):
    trainer.fit(x, y, batch_size=len(x), nb_epochs=1, **kwargs)
    return [parameter.detach().clone() for parameter in trainer.classifier.model.parameters()]


def expected_step(module, x, y, terms, lr=0.1):
    """w - lr * grad of the sum of weight * mean cross-entropy over (weight, images)."""
    module = copy.deepcopy(module)
    loss = sum(
        weight * nn.functional.cross_entropy(module(torch.from_numpy(images)), torch.from_numpy(y))
        for weight, images in terms
    )
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    return [p.detach() - lr * g for p, g in zip(module.parameters(), gradients, strict=True)]


def assert_same(ours, theirs, atol=1e-6):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.3, 0.7), (0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("clip", [(0.0, 1.0), None])
def test_a_step_is_that_of_the_weighted_loss_with_arts_fgsm(digits, weights, clip):
    x, y = batch(digits)
    module = Plain()
    adversarial = fgsm(wrapped(copy.deepcopy(module), clip=clip)).generate(x, y)
    assert (adversarial.min() < 0) == (clip is None)
    expected = expected_step(module, x, y, [(weights[0], x), (weights[1], adversarial)])
    classifier = wrapped(module, clip=clip)
    assert_same(one_step(WeightedAdversarialTrainer(classifier, [fgsm(classifier)], weights), x, y), expected)


def test_any_number_of_attacks(digits):
    x, y = batch(digits)
    module = Plain()
    copied = wrapped(copy.deepcopy(module))
    steps = {"eps": 0.05, "eps_step": 0.02, "max_iter": 3, "verbose": False}
    terms = [(0.2, x), (0.3, fgsm(copied).generate(x, y))]
    terms.append((0.5, ProjectedGradientDescent(copied, np.inf, **steps).generate(x, y)))
    expected = expected_step(module, x, y, terms)
    classifier = wrapped(module)
    attacks = [fgsm(classifier), ProjectedGradientDescent(classifier, np.inf, **steps)]
    assert_same(one_step(WeightedAdversarialTrainer(classifier, attacks, (0.2, 0.3, 0.5)), x, y), expected)


def test_a_targeted_attack_aims_at_the_targets_and_learns_the_truth(digits):
    x, y = batch(digits)
    module, targets = Plain(), (batch(digits)[1] + 1) % 10
    adversarial = fgsm(wrapped(copy.deepcopy(module)), targeted=True).generate(x, np.eye(10, dtype=np.float32)[targets])
    expected = expected_step(module, x, y, [(0.5, x), (0.5, adversarial)])
    classifier = wrapped(module)
    trainer = WeightedAdversarialTrainer(classifier, [fgsm(classifier, targeted=True)], (0.5, 0.5))
    assert_same(one_step(trainer, x, y, targets=targets), expected)


def test_mixed_is_the_mean_over_both_halves_of_the_batch(digits):
    x, y = batch(digits)
    module = Plain()
    adversarial = fgsm(wrapped(copy.deepcopy(module))).generate(x, y)
    whole = np.concatenate([x, adversarial])
    expected = expected_step(module, whole, np.concatenate([y, y]), [(1.0, whole)])
    classifier = wrapped(module)
    assert_same(one_step(MixedAdversarialTrainer(classifier, fgsm(classifier)), x, y), expected)


def test_mixed_with_batch_norm_shares_the_statistics_of_the_whole_batch(digits):
    x, y = batch(digits)
    module = make_small_net()
    adversarial = fgsm(wrapped(copy.deepcopy(module))).generate(x, y)
    whole = torch.from_numpy(np.concatenate([x, adversarial]))
    reference = copy.deepcopy(module).train()
    reference(whole)
    classifier = wrapped(module)
    one_step(MixedAdversarialTrainer(classifier, fgsm(classifier)), x, y)
    torch.testing.assert_close(module.stages[0][2].running_mean, reference.stages[0][2].running_mean)


class Counted(Plain):
    """Counts forward passes and, through the output's gradient, backward passes."""

    forwards = backwards = 0

    def forward(self, x):
        self.forwards += 1
        out = super().forward(x)
        if out.requires_grad:
            out.register_hook(self._count)
        return out

    def _count(self, gradient):
        self.backwards += 1


@pytest.mark.parametrize(
    "make, passes",
    [
        (lambda c: WeightedAdversarialTrainer(c, [], (1.0,)), 1),
        (lambda c: WeightedAdversarialTrainer(c, [fgsm(c)], (0.5, 0.5)), 2),
        (lambda c: WeightedAdversarialTrainer(c, [fgsm(c)], (0.0, 1.0)), 2),
        (lambda c: WeightedAdversarialTrainer(c, [fgsm(c), fgsm(c)], (0.2, 0.4, 0.4)), 3),
        (lambda c: MixedAdversarialTrainer(c, fgsm(c)), 2),
    ],
)
def test_a_weighted_fgsm_step_costs_two_passes(digits, make, passes):
    x, y = batch(digits)
    module = Counted()
    trainer = make(wrapped(module))
    module.forwards = module.backwards = 0
    trainer.fit(x, y, batch_size=8, nb_epochs=2)
    assert (module.forwards, module.backwards) == (8 * passes, 8 * passes)


def test_the_passes_of_mixed_training_with_batch_norm(digits):
    """Crafting, and one pass over the double batch."""
    x, y = batch(digits)
    module = make_small_net()
    calls = []
    module.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    classifier = wrapped(module)
    calls.clear()
    MixedAdversarialTrainer(classifier, fgsm(classifier)).fit(x, y, batch_size=32, nb_epochs=1)
    assert calls == [32, 64]


def test_training_makes_a_network_withstand_fgsm(digits):
    x, y, x_test, y_test = digits
    accuracy = {}
    for name, weights in (("standard", (1.0, 0.0)), ("weighted", (0.5, 0.5))):
        classifier = wrapped(Plain(), lr=0.05, momentum=0.9)
        trainer = WeightedAdversarialTrainer(classifier, [fgsm(classifier)], weights)
        assert isinstance(trainer, Trainer) and trainer.get_classifier() is classifier
        history = trainer.fit(x, y, batch_size=32, nb_epochs=8)
        assert history[-1]["loss"] < history[0]["loss"]
        adversarial = fgsm(classifier).generate(x_test, y_test)
        accuracy[name] = (classifier.predict(adversarial).argmax(1) == y_test).mean()
    assert accuracy["weighted"] > accuracy["standard"] + 0.1


def random_pgd(classifier):
    return ProjectedGradientDescent(classifier, np.inf, 0.1, 0.05, max_iter=2, num_random_init=1, verbose=False)


def test_the_same_seed_trains_the_same_network_and_leaves_the_global_generators_alone(digits):
    x, y = batch(digits, 64)
    runs = []
    for _ in range(2):
        classifier = wrapped(Plain())
        np.random.seed(len(runs))
        state = np.random.get_state()[1].copy()
        trainer = WeightedAdversarialTrainer(classifier, [random_pgd(classifier)], (0.5, 0.5))
        trainer.fit(x, y, batch_size=16, nb_epochs=2, seed=3)
        assert np.array_equal(state, np.random.get_state()[1])
        runs.append([p.detach().clone() for p in classifier.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_training_is_the_same_after_a_kill(digits, tmp_path, killed_after_two_epochs):
    x, y = batch(digits, 64)

    def train(path, epochs=4):
        classifier = wrapped(Plain(), momentum=0.9)
        trainer = WeightedAdversarialTrainer(classifier, [random_pgd(classifier)], (0.5, 0.5))
        history = trainer.fit(x, y, batch_size=16, nb_epochs=epochs, checkpoint=path)
        return classifier.model.state_dict(), [entry["loss"] for entry in history]

    whole, losses = train(tmp_path / "whole")
    with killed_after_two_epochs():
        train(tmp_path / "killed")
    resumed, again = train(tmp_path / "killed")
    assert again == losses
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_what_each_epoch_returns_joins_the_history(digits):
    x, y = batch(digits)
    classifier = wrapped(Plain(), momentum=0.9)

    seen = []

    def forget():
        assert classifier.optimizer.state and not classifier.model.training
        classifier.optimizer.state.clear()
        seen.append(len(seen) + 1)
        return {"seen": 10 * len(seen)}

    history = WeightedAdversarialTrainer(classifier, [], (1.0,)).fit(x, y, nb_epochs=2, each_epoch=forget)
    assert [entry["seen"] for entry in history] == [10, 20]


def test_each_mistake_names_the_argument(digits):
    x, y = batch(digits)
    classifier, other = wrapped(Plain()), wrapped(Plain())
    attack = fgsm(classifier)
    for attacks, weights, said in (
        ([attack], (0.5, 0.6), "weights must .* sum to 1"),
        ([attack], (1.5, -0.5), "weights must not be negative"),
        ([attack], (1.0,), "weights must hold 2 numbers"),
        ([fgsm(other)], (0.5, 0.5), "attacks must be attacks on the classifier"),
    ):
        with pytest.raises(ValueError, match=said):
            WeightedAdversarialTrainer(classifier, attacks, weights)
    with pytest.raises(ValueError, match="classifier must have an optimizer"):
        WeightedAdversarialTrainer(estimators.classifier(Plain(), SHAPE, 10, device="cpu"), [], (1.0,))
    targeted = WeightedAdversarialTrainer(classifier, [fgsm(classifier, targeted=True)], (0.5, 0.5))
    with pytest.raises(ValueError, match="targets are needed"):
        targeted.fit(x, y)
    with pytest.raises(ValueError, match="x must lie in"):
        WeightedAdversarialTrainer(classifier, [], (1.0,)).fit(x * 255, y)
    with pytest.raises(ValueError, match="y must"):
        WeightedAdversarialTrainer(classifier, [], (1.0,)).fit(x, y + 1)


def test_art_preprocessing_that_changes_images_is_refused(digits):
    from art.estimators.classification import PyTorchClassifier

    x, y = batch(digits)
    for preprocessing, refused in (((0.5, 0.5), True), ((0.0, 1.0), False)):
        module = Plain()
        optimizer = torch.optim.SGD(module.parameters(), 0.1)
        classifier = PyTorchClassifier(
            module, nn.CrossEntropyLoss(), SHAPE, 10, optimizer, preprocessing=preprocessing, device_type="cpu"
        )
        if refused:
            with pytest.raises(ValueError, match="ART preprocessing"):
                WeightedAdversarialTrainer(classifier, [], (1.0,))
        else:
            WeightedAdversarialTrainer(classifier, [], (1.0,)).fit(x, y, nb_epochs=1)


def test_random_eps_moves_each_image_by_its_own_share(digits):
    x, y = (torch.from_numpy(a) for a in batch(digits, 64))
    classifier = wrapped(Plain(), clip=None)
    trainer = WeightedAdversarialTrainer(classifier, [fgsm(classifier)], (0.5, 0.5), random_eps=True)
    eps = float(trainer.attacks[0].eps)
    moved = (trainer._crafted(trainer.attacks[0], x, y, torch.ones_like(x)) - x).flatten(1)
    assert float(moved.std(1).max()) < 1e-6 and 0 <= float(moved.min()) < 0.2 * eps
    assert 0.8 * eps < float(moved.max()) <= eps * (1 + 1e-5)


def test_the_rate_of_an_epoch_is_the_optimizers(digits):
    x, y = batch(digits)
    classifier, seen = wrapped(Plain()), []

    def look():
        seen.append(classifier.optimizer.param_groups[0]["lr"])
        return {}

    trainer = WeightedAdversarialTrainer(classifier, [], (1.0,))
    trainer.fit(x, y, nb_epochs=2, each_epoch=look, rate=lambda epoch: 0.5**epoch)
    assert seen == [1.0, 0.5]
