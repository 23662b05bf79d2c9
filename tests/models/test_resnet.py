from dataclasses import replace

import pytest
import torch
from torch import nn

from advbench import models
from advbench.errors import UsageError


def test_it_has_the_papers_layers_and_parameters():
    """32 weight layers on the longest path, 466,714 parameters with two 1x1 shortcuts (He et al. option B)."""
    net = models.create("resnet32")
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.kernel_size == (3, 3) for m in convolutions) == 31
    assert sum(m.kernel_size == (1, 1) for m in convolutions) == 2
    assert sum(p.numel() for p in net.parameters()) == 466_714


def test_the_taps_are_where_the_paper_puts_them():
    net, x = models.create("resnet32"), torch.rand(2, 3, 32, 32)
    shapes = [tuple(net.features(x, position).shape[1:]) for position in range(net.taps)]
    assert shapes == [(3, 32, 32), (16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]
    assert torch.equal(net.features(x, 0), x)
    for position in range(net.taps):
        torch.testing.assert_close(net.forward_from(net.features(x, position), position), net(x))
    with pytest.raises(ValueError, match=r"position must be 0\.\.4"):
        net.features(x, 5)


def test_a_seed_gives_the_same_weights_and_leaves_the_global_state_alone():
    state = torch.random.get_rng_state()
    first, again, other = (models.create("resnet32", seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    weights = [net.stages[0][1].weight for net in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_normalisation_is_inside():
    spec = models.ModelSpec("resnet32", mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    normalised = models.create(spec).stages[0][0](torch.full((1, 3, 1, 1), 0.35)).flatten()
    torch.testing.assert_close(normalised, torch.tensor([0.5, 0.6, 0.4]))


@pytest.mark.parametrize("field", ["mean", "std"])
def test_one_channel_is_not_normalised_as_three(field):
    spec = replace(models.ModelSpec("resnet32", (1, 16, 16), mean=(0.5,), std=(0.5,)), **{field: (0.5, 0.5, 0.5)})
    with pytest.raises(UsageError, match=rf"{field} of resnet32 must have one number a channel \(1\), found 3"):
        models.create(spec)


def test_an_unknown_name_says_what_was_meant():
    with pytest.raises(UsageError, match="did you mean 'resnet32'"):
        models.create("resnet23")
