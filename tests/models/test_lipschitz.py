"""Operator norms against dense matrices, and the network against its bound."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd.functional import jacobian

from advbench import models
from advbench.models.lipschitz import SpectralConv2d, SpectralLinear


def test_the_bound_on_a_convolution_is_above_its_norm_and_close():
    torch.manual_seed(0)
    layer = SpectralConv2d(2, 3, (6, 6)).eval()
    torch.nn.init.normal_(layer.weight)
    layer.iterate(300)
    dense = jacobian(lambda x: F.conv2d(x, layer.normalised(), padding=1), torch.zeros(1, 2, 6, 6)).reshape(108, 72)
    norm = float(torch.linalg.matrix_norm(dense.detach(), ord=2))
    assert norm == pytest.approx(1, abs=1e-3)
    assert norm <= layer.norm_bound() <= 1.15 * norm


def test_the_norm_of_a_linear_layer_is_one_after_power_iteration():
    torch.manual_seed(0)
    layer = SpectralLinear(20, 7).eval()
    torch.nn.init.normal_(layer.weight)
    assert layer.norm_bound() > 1.001  # a probe that does not fit any more is no bound; the figure says so
    layer.iterate(300)
    assert layer.norm_bound() == pytest.approx(1, abs=1e-4)


def test_training_mode_turns_the_probe_and_eval_mode_leaves_it():
    layer = SpectralLinear(20, 7)
    torch.nn.init.normal_(layer.weight)
    before = layer.probe.clone()
    layer.eval()(torch.ones(1, 20))
    assert torch.equal(before, layer.probe)
    layer.train()(torch.ones(1, 20)).sum().backward()
    assert not torch.equal(before, layer.probe) and layer.weight.grad is not None


def test_no_pair_of_images_is_further_apart_than_the_bound_allows():
    net = models.create("lipschitz")
    bound = net.lipschitz_bound()
    assert 10 * 0.9 < bound < 10 * 2
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(8, 3, 32, 32, generator=generator)
    for length in (1e-2, 1.0):
        step = F.normalize(torch.randn(x.shape, generator=generator).flatten(1)).view_as(x) * length
        moved = (net(x + step) - net(x)).norm(dim=1)
        assert (moved <= bound * length * (1 + 1e-4)).all()


def test_the_taps_and_a_file_of_it(tmp_path):
    net, x = models.create("lipschitz", seed=1), torch.rand(2, 3, 32, 32)
    shapes = [tuple(net.features(x, position).shape[1:]) for position in range(net.taps)]
    assert shapes == [(3, 32, 32), (32, 16, 16), (64, 8, 8), (128, 4, 4)]
    spec = models.ModelSpec("lipschitz", (3, 32, 32), 10, (0.0,), (1.0,))
    models.save(tmp_path / "net.safetensors", net, spec)
    again, _ = models.load(tmp_path / "net.safetensors")
    assert torch.equal(again(x), net(x)) and again.lipschitz_bound() == net.lipschitz_bound()


def test_a_normalisation_raises_the_bound():
    narrow = models.create(models.ModelSpec("lipschitz", mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.5)))
    np.testing.assert_allclose(narrow.lipschitz_bound(), 4 * models.create("lipschitz").lipschitz_bound(), rtol=1e-6)


def test_smaller_images_are_padded_and_the_bound_holds_for_them():
    spec = models.ModelSpec("lipschitz", (1, 28, 28), 10, (0.0,), (1.0,))
    net, x = models.create(spec), torch.rand(4, 1, 28, 28)
    assert torch.equal(net(x), net(F.pad(x, (2, 2, 2, 2))))
    with torch.no_grad():
        moved = (net(x + 0.1) - net(x)).norm(dim=1)
    assert (moved <= net.lipschitz_bound() * 0.1 * 28).all()
    for size in (27, 34):
        with pytest.raises(ValueError, match=f"not {size} x {size}"):
            net(torch.rand(1, 1, size, size))
