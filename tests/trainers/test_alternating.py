import numpy as np
import pytest
import torch
import torch.nn.functional as F
from art.defences.trainer.trainer import Trainer
from conftest import SHAPE, make_small_net

from advbench import estimators
from advbench.attacks import GANAttack
from advbench.loop import batches
from advbench.seeds import derive
from advbench.trainers import AlternatingTrainer, train_with_adam


def make(seed=0, **arguments):
    classifier = estimators.classifier(make_small_net(), SHAPE, 10, device="cpu")
    attack = GANAttack(classifier, t=0.2, width=8, seed=seed)
    return AlternatingTrainer(classifier, attack, seed=seed, **arguments)


def state(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def changed(before, module):
    return any(not torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_it_is_arts_trainer():
    trainer = make()
    assert isinstance(trainer, Trainer) and trainer.get_classifier() is trainer.attack.estimator


def test_the_attacker_goes_first_and_each_step_moves_one_network(digits, monkeypatch):
    """Two optimizer steps a batch: after the first only A has moved, after the second only the classifier."""
    trainer = make()
    networks = {"A": trainer.attack.network, "C": trainer.classifier.model}
    seen, kept = [], {name: state(module) for name, module in networks.items()}
    modes = []
    step = torch.optim.Adam.step

    def watched_step(self, *args):
        modes.append(trainer.classifier.model.training)
        before = {name: state(module) for name, module in networks.items()}
        statistics_moved = [name for name, module in networks.items() if changed(kept[name], module)]
        result = step(self, *args)
        moved = [
            name
            for name, module in networks.items()
            if any(not torch.equal(before[name][key], value) for key, value in module.named_parameters())
        ]
        seen.append((moved, statistics_moved))
        kept.update({name: state(module) for name, module in networks.items()})
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", watched_step)
    trainer.fit(digits[0][:60], digits[1][:60], batch_size=20, nb_epochs=1)
    # before its parameters move, the forward pass in training mode has moved the batch norm's averages of that network
    assert seen == [(["A"], ["A"]), (["C"], ["C"])] * 3
    assert modes == [False, True] * 3


def test_a_batch_costs_one_pass_of_the_attacker_and_two_of_the_classifier(digits, monkeypatch):
    trainer = make()
    count = {"A": 0, "C": 0}
    for name, module in (("A", trainer.attack.network), ("C", trainer.classifier.model)):
        module.register_forward_hook(lambda *_, name=name: count.__setitem__(name, count[name] + 1))
    trainer.fit(digits[0][:60], digits[1][:60], batch_size=20, nb_epochs=2)
    assert count == {"A": 6, "C": 12}


def test_more_steps_of_the_attacker_cost_a_pass_of_both_each(digits, monkeypatch):
    trainer, moved = make(attack_steps=3), []
    step = torch.optim.Adam.step

    def watched_step(self, *args):
        moved.append("C" if next(trainer.attack.network.parameters()).grad is None else "A")
        return step(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", watched_step)
    count = {"A": 0, "C": 0}
    for name, module in (("A", trainer.attack.network), ("C", trainer.classifier.model)):
        module.register_forward_hook(lambda *_, name=name: count.__setitem__(name, count[name] + 1))
    trainer.fit(digits[0][:40], digits[1][:40], batch_size=20, nb_epochs=1)
    assert "".join(moved) == "AAAC" * 2
    assert count == {"A": 6, "C": 8}


def test_two_batches_are_two_plain_adams(digits):
    """Against a loop with an optimizer for each network."""
    x, y = digits[0][:40], digits[1][:40]
    trainer, reference = make(), make()
    trainer.fit(x, y, batch_size=40, nb_epochs=2)
    a, c = reference.attack.network, reference.classifier.model
    optimizers = [torch.optim.Adam(module.parameters(), 1e-3) for module in (a, c)]
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    for epoch in range(2):
        (order,) = batches(40, 40, epoch, None, derive(0, "alternating order"))
        attacked = images[order] + 0.2 * a.train()(images[order])
        (-F.cross_entropy(c.eval()(attacked), labels[order])).backward()
        optimizers[0].step()
        c.zero_grad()
        F.cross_entropy(c.train()(attacked.detach()), labels[order]).backward()
        optimizers[1].step()
        a.zero_grad(), c.zero_grad()
    for mine, other in ((trainer.attack.network, a), (trainer.classifier.model, c)):
        for name, tensor in other.named_parameters():
            if tensor.ndim > 1:  # a bias before batch norm has no gradient but rounding, which Adam blows up
                torch.testing.assert_close(mine.get_parameter(name), tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share, clean", [(0.0, 0), (0.5, 10), (1.0, 20)])
def test_the_share_of_the_batch_that_stays_clean(digits, share, clean):
    trainer = make(clean_share=share)
    x = digits[0][:20]
    seen = []
    trainer.classifier.model.register_forward_hook(
        lambda module, inputs, _: seen.append(inputs[0].clone()) if module.training else None
    )
    trainer.fit(x, digits[1][:20], batch_size=20, nb_epochs=1)
    untouched = [any(np.array_equal(image, one) for one in x) for image in seen[0].numpy()]
    assert sum(untouched) == clean


def test_it_learns_to_withstand_its_attacker(digits, classifier):
    """The alternating classifier loses less to an attacker of the same kind than a clean one does."""
    x, y, x_test, y_test = digits
    trainer = make()
    train_with_adam(trainer.classifier, x, y, 50, 3)
    history = trainer.fit(x, y, 50, 2, validation=(x_test, y_test))
    against_clean = GANAttack(classifier, t=0.2, width=8)
    clean_history = against_clean.fit(x, y, 50, 2, validation=(x_test, y_test))
    assert history[-1]["attacked_accuracy"] > clean_history[-1]["attacked_accuracy"] + 0.1
    predicted = trainer.classifier.predict(x_test).argmax(1)
    assert history[-1]["clean_accuracy"] == pytest.approx((predicted == y_test).mean())


def test_training_is_the_same_after_a_kill(digits, tmp_path, killed_after_two_epochs):
    def train(checkpoint=None):
        trainer = make(seed=3)
        history = trainer.fit(digits[0][:200], digits[1][:200], 50, 4, 150, checkpoint=checkpoint)
        states = {**state(trainer.attack.network), **{f"c/{k}": v for k, v in state(trainer.classifier.model).items()}}
        return states, [(entry["loss"], entry["classifier_loss"]) for entry in history]

    whole, losses = train()
    with killed_after_two_epochs():
        train(tmp_path / "checkpoint")
    resumed, resumed_losses = train(tmp_path / "checkpoint")
    assert resumed_losses == losses
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_wrong_argument_is_named(classifier):
    other = estimators.classifier(make_small_net(), SHAPE, 10, device="cpu")
    with pytest.raises(ValueError, match="clean_share must be"):
        make(clean_share=1.5)
    with pytest.raises(ValueError, match="attack_steps must be"):
        make(attack_steps=0)
    with pytest.raises(ValueError, match="lr must be"):
        make(lr=0)
    for attack in (GANAttack(other, width=8), GANAttack([classifier, other], width=8)):
        with pytest.raises(ValueError, match="attack must be on the classifier"):
            AlternatingTrainer(classifier, attack)
