import pytest
import torch
from torch import nn

from advbench import models


@pytest.mark.parametrize("name, pooling", [("vgg", nn.MaxPool2d), ("vgg-average", nn.AvgPool2d)])
def test_it_has_the_reports_parameters_and_taps(name, pooling):
    net, x = models.create(name), torch.rand(2, 3, 32, 32)
    assert sum(p.numel() for p in net.parameters()) == 308_394
    assert sum(isinstance(m, pooling) for m in net.modules()) == 3
    shapes = [tuple(net.features(x, position).shape[1:]) for position in range(net.taps)]
    assert shapes == [(3, 32, 32), (32, 16, 16), (64, 8, 8), (128, 4, 4)]
    assert net(x).shape == (2, 10)


def test_batch_norm_comes_after_relu_with_the_constants_of_keras():
    layers = [m for m in models.create("vgg").modules() if not list(m.children())]
    order = [type(m).__name__ for m in layers]
    once = ["Conv2d", "ReLU", "BatchNorm2d"]
    assert order[1:9] == [*once, *once, "MaxPool2d", "Dropout"]
    norms = [m for m in layers if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)} and len(norms) == 6
    assert {m.p for m in layers if isinstance(m, nn.Dropout)} == {0.3}


def test_the_penalty_is_on_the_kernels_of_convolutions_alone():
    """The step of SGD is the gradient of l2 * sum(w^2) over the kernels."""
    net = models.create("vgg")
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.SGD(net.decayed(1e-2), lr=1.0)
    kernels = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]
    (0.0 * sum(p.sum() for p in net.parameters())).backward()
    optimizer.step()
    for name, p in net.named_parameters():
        shrunk = any(p is kernel for kernel in kernels)
        torch.testing.assert_close(p.detach(), before[name] * (1 - 0.02 * shrunk))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(before)


def test_it_is_saved_and_loaded_whole(tmp_path):
    net, x = models.create("vgg-average", seed=3), torch.rand(2, 3, 32, 32)
    spec = models.ModelSpec("vgg-average", (3, 32, 32), 10, (0.0,), (1.0,))
    models.save(tmp_path / "net.safetensors", net, spec)
    again, read = models.load(tmp_path / "net.safetensors")
    assert read == spec and torch.equal(again(x), net(x))
