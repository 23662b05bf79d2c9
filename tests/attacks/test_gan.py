"""The learned attack: its network against the report's table, its loss against its definition, its state against itself."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import SHAPE, make_small_net
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advbench import estimators
from advbench.attacks import GANAttack
from advbench.attacks.gan_network import AttackerNetwork
from advbench.errors import UsageError

WIDTH = {"width": 8}


@pytest.fixture(scope="module")
def trained(classifier, digits):
    attack = GANAttack(classifier, t=0.3, **WIDTH)
    attack.fit(digits[0], digits[1], batch_size=50, nb_epochs=4)
    return attack


def test_the_layers_of_the_reports_table():
    net, x = AttackerNetwork((1, 28, 28)).eval(), torch.rand(2, 1, 28, 28)
    assert sum(p.numel() for p in net.parameters()) == 8_608_897
    shapes = []
    for layer in net.layers:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes[:4] == [(64, 14, 14), (128, 7, 7), (256, 4, 4), (512, 2, 2)]
    assert shapes[4:] == [(256, 4, 4), (128, 7, 7), (64, 14, 14), (1, 28, 28)]
    assert sum(p.numel() for p in AttackerNetwork((1, 28, 28), 64, True).parameters()) == 8_608_897 + 2


@pytest.mark.parametrize("size", [(28, 28), (9, 14), (8, 8), (3, 1), (33, 30)])
def test_any_size_comes_out_as_it_went_in(size):
    x = torch.rand(3, 2, *size)
    assert AttackerNetwork((2, *size), 4).eval()(x).shape == x.shape


@pytest.mark.parametrize("shape", [(28, 28), (1, 0, 28), (1, 1, 28, 28)])
def test_a_shape_that_does_not_fit_is_named(shape):
    with pytest.raises(ValueError, match="shape must be"):
        AttackerNetwork(shape)


@settings(max_examples=25, deadline=None)
@given(
    t=st.floats(1e-3, 1), bounded=st.sampled_from(["tanh", "clamp"]), statistics=st.sampled_from(["running", "batch"])
)
def test_the_perturbation_never_exceeds_t(trained, digits, t, bounded, statistics):
    attack = GANAttack(trained.classifiers, t, bounded, statistics=statistics, **WIDTH)
    attack.network.load_state_dict(trained.network.state_dict())
    attack.finish_training()
    assert np.abs(attack.perturbation(digits[2][:20])).max() <= np.float32(t)


def test_the_attacked_image_is_the_sum_and_only_clip_cuts_it(trained, digits):
    x = digits[2][:50]
    trained.set_params(clip=False)
    np.testing.assert_array_equal(trained.generate(x), x + trained.perturbation(x))
    assert trained.generate(x).min() < 0
    trained.set_params(clip=True)
    np.testing.assert_array_equal(trained.generate(x), np.clip(x + trained.perturbation(x), 0, 1))
    trained.set_params(clip=False)


def test_it_beats_random_noise_of_the_same_bound(trained, classifier, digits):
    _, _, x, y = digits
    noise = 0.3 * np.random.default_rng(0).choice([-1, 1], x.shape).astype(np.float32)

    def accuracy(images):
        return (classifier.predict(images).argmax(1) == y).mean()

    assert accuracy(trained.generate(x)) < accuracy(x + noise) - 0.2


def test_the_history_is_what_the_attack_does(classifier, digits):
    _, _, x, y = digits
    other = estimators.classifier(make_small_net(1), SHAPE, 10, device="cpu")
    attack = GANAttack(classifier, t=0.3, **WIDTH)
    history = attack.fit(x, y, 50, 3, epoch_images=100, validation=(x, y), watched={"other": other})
    attacked = attack.generate(x)
    for suffix, one in (("", classifier), ("_other", other)):
        logits = one.predict(attacked)
        assert history[-1][f"attacked_accuracy{suffix}"] == pytest.approx((logits.argmax(1) == y).mean())
        loss = -np.log(np.exp(logits)[range(len(y)), y] / np.exp(logits).sum(1)).mean()
        assert history[-1][f"attacked_loss{suffix}"] == pytest.approx(loss, rel=1e-4)
    assert [entry["epoch"] for entry in history] == [1, 2, 3]


def test_the_classifier_stays_bit_for_bit(digits):
    net = make_small_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    GANAttack(estimators.classifier(net, SHAPE, 10, device="cpu"), **WIDTH).fit(digits[0][:100], digits[1][:100], 50, 2)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert not net.training


def test_one_step_is_adam_on_minus_the_cross_entropy(classifier, digits):
    """Against torch's own backward pass through the classifier."""
    x, y = (torch.from_numpy(a[:20]) for a in digits[:2])
    attack, reference = (GANAttack(classifier, t=0.2, seed=4, **WIDTH) for _ in range(2))
    attack.train_batch(torch.optim.Adam(attack.network.parameters(), 1e-3), x, y)
    net = reference.network.train()
    loss = -F.cross_entropy(classifier.model.eval()(x + 0.2 * net(x)), y)
    loss.backward()
    torch.optim.Adam(net.parameters(), 1e-3).step()
    classifier.model.zero_grad()
    for one, other in zip(attack.network.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_loss_of_several_is_the_mean_of_each(digits):
    several = [estimators.classifier(make_small_net(seed), SHAPE, 10, device="cpu") for seed in range(3)]
    x, y = (torch.from_numpy(a[:20]) for a in digits[:2])
    with torch.no_grad():
        together = GANAttack(several, **WIDTH).loss(x, y)
        alone = [GANAttack(one, **WIDTH).loss(x, y) for one in several]
    assert float(together) == pytest.approx(float(sum(alone)) / 3, rel=1e-6)


def test_batch_statistics_are_those_of_the_batch_and_leave_no_trace(trained, digits):
    x = digits[2][:30]
    before = {name: tensor.clone() for name, tensor in trained.network.state_dict().items()}
    running = trained.perturbation(x)
    trained.set_params(statistics="batch", batch_size=30)
    batch = trained.perturbation(x)
    trained.set_params(statistics="running")
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.network.state_dict().items())
    np.testing.assert_array_equal(trained.perturbation(x), running)
    import copy

    with torch.no_grad():
        expected = 0.3 * copy.deepcopy(trained.network).train()(torch.from_numpy(x))
    np.testing.assert_array_equal(batch, expected.numpy())
    assert not np.allclose(batch, running)


def test_a_kept_attack_is_the_same(trained, classifier, digits, tmp_path):
    trained.save(tmp_path / "attack.safetensors")
    again = GANAttack.load(tmp_path / "attack.safetensors", classifier)
    np.testing.assert_array_equal(again.generate(digits[2]), trained.generate(digits[2]))
    assert repr(again) == repr(trained)


def test_training_is_the_same_after_a_kill(classifier, digits, tmp_path, killed_after_two_epochs):
    def train(checkpoint=None):
        attack = GANAttack(classifier, t=0.1, seed=5, **WIDTH)
        history = attack.fit(digits[0][:300], digits[1][:300], 50, 4, 200, checkpoint=checkpoint)
        return attack.network.state_dict(), [entry["loss"] for entry in history]

    whole, losses = train()
    with killed_after_two_epochs():
        train(tmp_path / "checkpoint")
    resumed, resumed_losses = train(tmp_path / "checkpoint")
    assert resumed_losses == losses
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_global_random_state_is_left_alone(classifier, digits):
    state = torch.random.get_rng_state()
    GANAttack(classifier, **WIDTH).fit(digits[0][:50], digits[1][:50], 25, 1)
    assert torch.equal(state, torch.random.get_rng_state())


def test_an_untrained_attack_says_so(classifier, digits, tmp_path):
    attack = GANAttack(classifier, **WIDTH)
    for act in (attack.generate, attack.perturbation):
        with pytest.raises(ValueError, match="untrained"):
            act(digits[2])
    with pytest.raises(ValueError, match="untrained"):
        attack.save(tmp_path / "attack")


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"t": 0}, "t must be in"),
        ({"t": 1.01}, "t must be in"),
        ({"t": np.nan}, "t must be in"),
        ({"bounded": "sign"}, "bounded must be"),
        ({"statistics": "none"}, "statistics must be"),
        ({"lr": 0}, "lr must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"width": 0}, "width must be"),
    ],
)
def test_the_wrong_argument_is_named(classifier, arguments, named):
    with pytest.raises(ValueError, match=named):
        GANAttack(classifier, **arguments)


def test_classifiers_that_do_not_fit_are_refused(classifier, trained, tmp_path):
    wide = estimators.classifier(nn.Sequential(nn.Flatten(), nn.Linear(81, 10)), (1, 9, 9), 10, device="cpu")
    few = estimators.classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), SHAPE, 3, device="cpu")
    for other in (wide, few, "a classifier"):
        with pytest.raises(ValueError, match="classifier must"):
            GANAttack([classifier, other], **WIDTH)
    with pytest.raises(ValueError, match="classifier must"):
        GANAttack([])
    trained.save(tmp_path / "attack.safetensors")
    with pytest.raises(ValueError, match=r"classifier must have input_shape \(1, 8, 8\)"):
        GANAttack.load(tmp_path / "attack.safetensors", wide)


def test_another_file_is_refused(classifier, tmp_path):
    with pytest.raises(UsageError, match="no GANAttack at"):
        GANAttack.load(tmp_path / "none", classifier)
    (tmp_path / "text").write_text("not safetensors")
    with pytest.raises(UsageError, match="not a GANAttack"):
        GANAttack.load(tmp_path / "text", classifier)
