import pytest
import torch
from torch import nn

from advbench.attacks.gan_network import AttackerNetwork
from advbench.models import convolution
from advbench.models.lenet import LeNet

DOWN = [  # channels in, out, size, kernel, stride, padding; the last are left to PyTorch
    (3, 6, (4, 4), 5, 2, 2),
    (2, 5, (7, 5), 3, 2, 1),
    (4, 3, (6, 6), (3, 2), (2, 1), (0, 1)),
    (1, 4, (14, 11), 5, 1, 0),
    (1, 4, (13, 14), 5, 2, 2),
    (3, 4, (12, 12), 3, 1, 1),
]
UP = [  # ... and output padding
    (6, 3, (2, 2), 5, 2, 2, 1),
    (5, 2, (4, 3), 5, 2, 2, (0, 1)),
    (4, 3, (3, 3), (3, 2), (2, 3), (0, 1), 0),
    (3, 4, (8, 8), 3, 2, 1, 0),
]


def agree(ours, theirs, x):
    theirs.load_state_dict(ours.state_dict())
    results = []
    for layer in (ours, theirs):
        inputs = x.clone().requires_grad_(True)
        out = layer(inputs)
        weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
        results.append([out, *torch.autograd.grad((out * weights).sum(), [inputs, *layer.parameters()])])
    for found, wanted in zip(*results, strict=True):
        assert found.shape == wanted.shape
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.detach().abs().max()))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", DOWN)
def test_conv2d_is_pytorchs(case, bias, memory_format):
    channels, maps, size, *geometry = case
    make = [kind(channels, maps, *geometry, bias=bias) for kind in (convolution.Conv2d, nn.Conv2d)]
    agree(make[0].to(memory_format=memory_format), make[1], torch.randn(3, channels, *size))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", UP)
def test_conv_transpose2d_is_pytorchs(case, bias, memory_format):
    channels, maps, size, *geometry = case
    make = [kind(channels, maps, *geometry, bias=bias) for kind in (convolution.ConvTranspose2d, nn.ConvTranspose2d)]
    agree(make[0].to(memory_format=memory_format), make[1], torch.randn(3, channels, *size))


@pytest.mark.parametrize(
    "options", [{"groups": 2}, {"dilation": 2}, {"padding_mode": "circular", "padding": 1}, {"padding": "same"}]
)
def test_other_convolutions_are_left_to_pytorch(options):
    ours, theirs = (kind(2, 4, 2, **options) for kind in (convolution.Conv2d, nn.Conv2d))
    agree(ours, theirs, torch.randn(3, 2, 4, 4))


def test_double_precision_is_left_to_pytorch():
    layer = convolution.Conv2d(1, 4, 3).double()
    assert torch.autograd.gradcheck(layer, torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True))


def test_gradients_are_only_computed_where_they_are_asked_for():
    layer = convolution.Conv2d(3, 6, 5, 2, 2).requires_grad_(False)
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None


def used(module, x):
    """The names of the functions in the graph of ``module(x)``."""
    found, waiting = set(), [module(x).grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [following for following, _ in node.next_functions]
    return [type(node).__name__ for node in found]


def test_the_matrix_products_are_where_they_pay():
    names = used(AttackerNetwork((1, 28, 28), width=4), torch.rand(2, 1, 28, 28))
    assert (names.count("_DownBackward"), names.count("_UpBackward")) == (2, 2)
    assert used(LeNet(), torch.rand(2, 1, 28, 28)).count("_OneChannelBackward") == 1
