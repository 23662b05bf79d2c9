"""The reformer against closed forms, ART's contract, and an attacker who knows it."""

import numpy as np
import pytest
import torch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from conftest import SHAPE
from torch import nn

from advbench import attacks, estimators
from advbench.estimators import expectation
from advbench.preprocessors import VAEReformer
from advbench.preprocessors.network import VAE, divergence
from advbench.seeds import own_global_state


@pytest.fixture(scope="module")
def reformer(digits):
    made = VAEReformer(SHAPE, latent=16, width=8, beta=0.2, device="cpu")
    made.train(digits[0], batch_size=32, nb_epochs=12, lr=3e-3)
    return made


def test_the_divergence_is_that_of_two_gaussians():
    """N(m, s^2) from N(0, 1): (m^2 + s^2 - 1 - log s^2) / 2 a dimension."""
    mean, variance = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 4.0]])
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, variance.sqrt()), torch.distributions.Normal(0.0, 1.0)
    ).sum(1)
    torch.testing.assert_close(divergence(mean, variance.log()), theirs)
    assert divergence(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0


def test_it_keeps_shape_and_range_and_learns_what_images_look_like(reformer, digits):
    assert isinstance(reformer, PreprocessorPyTorch) and reformer.apply_predict and not reformer.apply_fit
    x = digits[2][:64]
    fresh = VAEReformer(SHAPE, latent=16, width=8, device="cpu")
    with own_global_state():
        (reformed, labels), (noise, _) = reformer(x, digits[3][:64]), fresh(x)
    assert reformed.shape == x.shape and reformed.min() >= 0 and reformed.max() <= 1
    assert np.array_equal(labels, digits[3][:64])
    assert ((reformed - x) ** 2).mean() < 0.5 * ((noise - x) ** 2).mean()


def test_one_draw_is_not_another(reformer, digits):
    with own_global_state():
        first, second = reformer(digits[2][:4])[0], reformer(digits[2][:4])[0]
    assert not np.array_equal(first, second)


def test_art_differentiates_through_it_as_the_composition_does(reformer, digits, trained_net):
    """One draw from the same seed: ART's own chain and the module in front of the classifier give one gradient."""
    x, y = digits[2][:8], digits[3][:8]
    chained = estimators.TorchClassifier(
        trained_net, nn.CrossEntropyLoss(), SHAPE, 10, preprocessing_defences=[reformer], device_type="cpu"
    )
    composed = estimators.classifier(nn.Sequential(reformer.network, Plain(trained_net)), SHAPE, 10, device="cpu")
    gradients = []
    for classifier in (chained, composed):
        classifier.loss_gradient(x, y)
        with own_global_state(3):
            gradients.append(classifier.loss_gradient(x, y))
    np.testing.assert_allclose(*gradients, atol=1e-5 * np.abs(gradients[0]).max() + 1e-7)
    assert np.abs(gradients[0]).max() > 0


class Plain(nn.Module):
    """Hides the taps, so that batch norm is left as it is: the two paths then round alike."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)


def test_the_mean_gradient_is_the_mean_over_draws(reformer, digits):
    x, y = digits[2][:8], digits[3][:8]
    module = reformer.in_front_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    one, ten = (expectation(module, SHAPE, 10, draws, "cpu") for draws in (1, 10))
    with own_global_state(1):
        singles = np.stack([one.loss_gradient(x, y) for _ in range(10)])
    with own_global_state(1):
        np.testing.assert_allclose(ten.loss_gradient(x, y), singles.mean(0), rtol=1e-4, atol=1e-8)
    with own_global_state(2):
        means = np.stack([ten.loss_gradient(x, y) for _ in range(10)])
    assert means.std(0).mean() < 0.5 * singles.std(0).mean()


def test_who_knows_it_breaks_what_who_does_not_leaves(reformer, digits, trained_net):
    x, y = digits[2][:48], digits[3][:48]
    composed = expectation(reformer.in_front_of(trained_net), SHAPE, 10, 4, "cpu")
    alone = estimators.classifier(trained_net, SHAPE, 10, device="cpu")
    accuracy = {}
    for name, victim in (("naive", alone), ("adaptive", composed)):
        with own_global_state():
            adversarial = attacks.create("bim", victim, 0.15, max_iter=10).generate(x, y)
            accuracy[name] = (composed.predict(adversarial).argmax(1) == y).mean()
    assert accuracy["adaptive"] < accuracy["naive"] - 0.1


def test_it_is_saved_and_loaded_whole(reformer, digits, tmp_path):
    reformer.save(tmp_path / "vae.safetensors")
    again = VAEReformer.load(tmp_path / "vae.safetensors", device="cpu")
    assert (again.shape, again.latent, again.width, again.beta) == (SHAPE, 16, 8, 0.2)
    assert all(
        torch.equal(a, b) for a, b in zip(again.network.parameters(), reformer.network.parameters(), strict=True)
    )
    with own_global_state():
        first = reformer(digits[2][:4])[0]
    with own_global_state():
        # A tensor that lies elsewhere in memory may be added up in another order.
        np.testing.assert_allclose(again(digits[2][:4])[0], first, atol=1e-5)


def test_training_is_the_same_after_a_kill(digits, tmp_path, killed_after_two_epochs):
    def train(path):
        made = VAEReformer(SHAPE, latent=4, width=4, device="cpu")
        history = made.train(digits[0][:64], batch_size=16, nb_epochs=4, checkpoint=path)
        return made.network.state_dict(), [entry["loss"] for entry in history]

    whole, losses = train(tmp_path / "whole")
    with killed_after_two_epochs():
        train(tmp_path / "killed")
    resumed, again = train(tmp_path / "killed")
    assert again == losses and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_each_mistake_names_the_argument(digits):
    with pytest.raises(ValueError, match="multiples of 4"):
        VAE((1, 10, 8))
    with pytest.raises(ValueError, match="latent must be positive"):
        VAEReformer(SHAPE, latent=0, device="cpu")
    with pytest.raises(ValueError, match="x must lie in"):
        VAEReformer(SHAPE, latent=4, width=4, device="cpu").train(digits[0][:8] * 255)
