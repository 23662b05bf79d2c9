"""Static adversarial training against a plain loop, and its mistakes."""

import copy

import numpy as np
import pytest
import torch
from art.defences.trainer import Trainer
from conftest import SHAPE, make_small_net
from torch import nn

from advbench import estimators
from advbench.trainers import StaticAdversarialTrainer


def wrapped(module, clip=None, **options):
    optimizer = torch.optim.SGD(module.parameters(), **{"lr": 0.1, **options})
    return estimators.classifier(module, SHAPE, 10, device="cpu", optimizer=optimizer, clip_values=clip)


@pytest.fixture
def batch(digits):
    x, y = digits[0][:16], digits[1][:16]
    direction = np.random.default_rng(0).choice([-1, 0, 1], x.shape).astype(np.int8)
    return x, y, direction


@pytest.mark.parametrize("clip", [None, (0.0, 1.0)])
def test_a_whole_batch_is_the_clean_images_and_the_moved_ones(batch, clip):
    x, y, direction = batch
    module, eps = make_small_net().eval(), np.linspace(0, 0.3, len(x)).astype(np.float32)
    plain = copy.deepcopy(module).train()
    moved = x + eps[:, None, None, None] * direction
    moved = moved if clip is None else moved.clip(*clip)
    both = torch.from_numpy(np.concatenate([x, moved]).astype(np.float32))
    loss = nn.functional.cross_entropy(plain(both), torch.from_numpy(np.concatenate([y, y])))
    gradients = torch.autograd.grad(loss, list(plain.parameters()))
    expected = [p.detach() - 0.1 * g for p, g in zip(plain.parameters(), gradients, strict=True)]
    trainer = StaticAdversarialTrainer(wrapped(module, clip))
    assert isinstance(trainer, Trainer)
    (entry,) = trainer.fit(x, y, direction, eps, batch_size=2 * len(x), nb_epochs=1)
    assert entry["loss"] == pytest.approx(loss.item(), rel=1e-4)
    for found, wanted in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach().contiguous(), wanted, rtol=1e-3, atol=1e-5)


def test_training_is_the_same_after_a_kill(batch, tmp_path, killed_after_two_epochs):
    x, y, direction = batch

    def train(path):
        module = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 10))
        torch.nn.init.zeros_(module[2].weight)
        torch.nn.init.zeros_(module[2].bias)
        trainer = StaticAdversarialTrainer(wrapped(module, momentum=0.9))
        history = trainer.fit(
            x, y, direction, 0.1, batch_size=8, nb_epochs=4, rate=lambda epoch: 0.1 / (1 + epoch), checkpoint=path
        )
        return module.state_dict(), [entry["loss"] for entry in history]

    whole, losses = train(tmp_path / "whole")
    with killed_after_two_epochs():
        train(tmp_path / "killed")
    resumed, again = train(tmp_path / "killed")
    assert again == losses and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_each_mistake_names_the_argument(batch):
    x, y, direction = batch
    trainer = StaticAdversarialTrainer(wrapped(make_small_net()))
    with pytest.raises(ValueError, match="direction must have the shape of x"):
        trainer.fit(x, y)
    with pytest.raises(ValueError, match="eps must be a number or 16 numbers"):
        trainer.fit(x, y, direction, np.zeros(3))
    with pytest.raises(ValueError, match="classifier must have an optimizer"):
        StaticAdversarialTrainer(estimators.classifier(make_small_net(), SHAPE, 10, device="cpu"))
