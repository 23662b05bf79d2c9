import pytest
import torch
from torch import nn
from torchvision.models import vgg16

from advbench import models
from advbench.models.weights import fill


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    return vgg16(weights=None).eval()


def test_the_logits_are_those_of_torchvisions_network_with_the_same_weights(theirs, tmp_path):
    """Ten of its rows selected, for images that are normalised outside there and inside here."""
    rows = [3, 1, 999, 500, 7, 8, 9, 10, 11, 12]
    ours = models.create("vgg16")
    state = dict(theirs.state_dict())
    for kind in ("weight", "bias"):
        state[f"classifier.6.{kind}"] = state[f"classifier.6.{kind}"][rows]
    fill(ours.published(head=True), state, tmp_path)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs((x - mean) / std)[:, rows], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name, parameters", [("vgg16-linear", 14_714_688 + 5130), ("vgg16-narrow", 230_568 + 650)])
def test_the_taps_follow_the_poolings(name, parameters):
    net, x = models.create(name), torch.rand(1, 3, 64, 64)
    assert sum(p.numel() for p in net.parameters()) == parameters
    widths = [3, *(width // net.narrower for width in (64, 128, 256, 512, 512))]
    shapes = [tuple(net.features(x, position).shape[1:]) for position in range(net.taps)]
    assert shapes == [(width, 64 >> i, 64 >> i) for i, width in enumerate(widths)]
    kinds = [type(layer) for stage in net.stages for layer in stage]
    assert kinds.count(nn.Conv2d) == kinds.count(nn.ReLU) == 13 and kinds.count(nn.MaxPool2d) == 5


def test_reading_a_tap_twice_gives_the_same():
    """ReLU works in place, so a tap must not be what the next stage writes to."""
    net, x = models.create("vgg16-narrow"), torch.rand(2, 3, 32, 32)
    features = net.features(x, 4)
    before = features.clone()
    logits = net.forward_from(features, 4)
    assert torch.equal(features, before) and torch.equal(logits, net(x))


def test_the_linear_head_reads_standardised_features():
    net, x = models.create("vgg16-narrow"), torch.rand(5, 3, 32, 32)
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(10, 64, generator=generator), torch.randn(10, generator=generator)
    mean, std = torch.randn(64, generator=generator), torch.rand(64, generator=generator) + 0.5
    net.set_linear(weight, bias, mean, std)
    wanted = (net.pooled(x) - mean) / std @ weight.T + bias
    torch.testing.assert_close(net(x), wanted, rtol=1e-4, atol=1e-4)
