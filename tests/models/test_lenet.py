import numpy as np
import pytest
import torch
from torch import nn

from advbench import models
from advbench.models.lenet import LeNet


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_reports_parameter_counts():
    net = models.create("lenet")
    assert parameters(net) == 431_080
    layers = [module for module in net.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert [parameters(layer) for layer in layers] == [520, 25_050, 400_500, 5_010]
    assert sum(isinstance(module, nn.ReLU) for module in net.modules()) == 1


def test_the_reports_shapes_at_the_taps():
    net = LeNet()
    x = torch.rand(2, 1, 28, 28)
    assert [tuple(net.features(x, i).shape[1:]) for i in range(net.taps)] == [
        (1, 28, 28),
        (20, 12, 12),
        (50, 4, 4),
        (500, 1, 1),
    ]


def test_it_is_the_convolutional_network_of_the_report():
    """The linear layers are MatConvNet's 4 x 4 and 1 x 1 convolutions."""
    net = models.create("lenet", seed=1)
    x = torch.rand(3, 1, 28, 28)
    features = net.features(x, 2)
    fc1, fc2 = net.stages[2][1], net.head[1]
    hidden = torch.relu(nn.functional.conv2d(features, fc1.weight.view(500, 50, 4, 4), fc1.bias))
    logits = nn.functional.conv2d(hidden, fc2.weight.view(10, 500, 1, 1), fc2.bias)[:, :, 0, 0]
    torch.testing.assert_close(net(x), logits)


def test_weights_are_drawn_as_the_author_drew_them():
    net = models.create("lenet", seed=0)
    weight = net.stages[2][1].weight
    assert weight.std().item() == pytest.approx(0.1, rel=0.02)
    assert not net.stages[2][1].bias.any()


def test_the_preprocessing_maps_the_first_centred_image_to_zero_to_one():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (50, 1, 28, 28), dtype=np.uint8)
    net = LeNet()
    net.standardize(torch.from_numpy(x))
    centred = x / 255 - (x / 255).mean(0)
    low, high = centred[0].min(), centred[0].max()
    ours = net.stages[0][0](torch.from_numpy((x / 255).astype(np.float32)))
    np.testing.assert_allclose(ours, (centred - low) / (high - low), atol=1e-5)
    assert (ours[0].min().item(), ours[0].max().item()) == pytest.approx((0, 1), abs=1e-6)
    assert net.width == pytest.approx(high - low)


def test_the_preprocessing_is_kept_with_the_weights(tmp_path):
    net = models.create("lenet")
    net.standardize(torch.randint(0, 256, (9, 1, 28, 28), dtype=torch.uint8))
    spec = models.ModelSpec("lenet", (1, 28, 28), 10, (0.0,), (1.0,))
    models.save(tmp_path / "lenet.safetensors", net, spec)
    again, _ = models.load(tmp_path / "lenet.safetensors")
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(net(x), again(x))
