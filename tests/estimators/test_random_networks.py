"""60 networks of the building blocks that people use: the estimator's gradient is the model's own, however it is changed."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, vector_to_parameters
from torchvision.ops import SqueezeExcitation

from advbench import estimators

X = np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32)
Y = np.arange(4)
WIDTH = 4  # channels of every block, in and out; the size stays 8 x 8


class Block(nn.Module):
    """A function of images and layers, with its own forward."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function(self, x)


class Shifted(nn.Module):
    """Reads a buffer, and counts its calls in another that changes nothing but later outputs."""

    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.randn(WIDTH, 1, 1))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x + self.shift * self.calls.sin()


class Switched(nn.Module):
    """An attribute that is no tensor decides what it does."""

    def __init__(self):
        super().__init__()
        self.inverted, self.scale = False, 1.0

    def forward(self, x):
        return self.scale * (1 - x if self.inverted else x)


class Tokens(nn.Module):
    """Attention over the pixels."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        tokens = self.layer(x.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).reshape(x.shape).contiguous()


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x):
        return x + self.attention(x, x, x, need_weights=False)[0]


class DotProducts(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x):
        return x + F.scaled_dot_product_attention(*self.qkv(x).chunk(3, -1))


def conv(size=3, **options):
    return nn.Conv2d(WIDTH, WIDTH, size, padding="same", **options)


def hooked(layer, register, hook):
    getattr(layer, register)(hook)
    return layer


def tied():
    first, second = conv(), conv()
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second)


def twice():
    layer = nn.Sequential(conv(), nn.BatchNorm2d(WIDTH))
    return nn.Sequential(layer, nn.Softplus(), layer)


def encoder():
    return nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True, activation=F.gelu)


def shuffled(block, x):
    return x.view(len(x), 2, 2, 8, 8).transpose(1, 2).reshape(x.shape)


def flipped(block, x):
    return x.flip(3) if torch.rand(()) < 0.5 else x


def decided(block, x):
    return block.conv(x) if x.std() > 0.4 else x.sin()


BLOCKS = {
    "conv and batch norm": lambda: nn.Sequential(conv(bias=False), nn.BatchNorm2d(WIDTH), nn.SiLU()),
    "batch norm first": lambda: nn.Sequential(nn.BatchNorm2d(WIDTH), nn.GELU(), conv(1)),
    "batch norm without weights": lambda: nn.Sequential(conv(groups=2), nn.BatchNorm2d(WIDTH, affine=False), nn.Tanh()),
    "batch norm of the batch": lambda: nn.Sequential(conv(), nn.BatchNorm2d(WIDTH, track_running_stats=False)),
    "group norm": lambda: nn.Sequential(nn.GroupNorm(2, WIDTH), conv((3, 1)), nn.ELU(inplace=True)),
    "layer norm": lambda: Tokens(nn.LayerNorm(WIDTH)),
    "layer norm of images": lambda: nn.LayerNorm((WIDTH, 8, 8)),
    "rms norm": lambda: Tokens(nn.RMSNorm(WIDTH)),
    "instance norm": lambda: nn.Sequential(nn.InstanceNorm2d(WIDTH, affine=True), nn.Softplus()),
    "instance norm with statistics": lambda: nn.InstanceNorm2d(WIDTH, track_running_stats=True),
    "local response norm": lambda: nn.LocalResponseNorm(2),
    "weight norm": lambda: parametrizations.weight_norm(conv()),
    "spectral norm": lambda: nn.Sequential(parametrizations.spectral_norm(conv()), nn.BatchNorm2d(WIDTH)),
    "channel shuffle by view": lambda: Block(shuffled),
    "flatten and unflatten": lambda: nn.Sequential(nn.Flatten(), nn.Unflatten(1, (WIDTH, 8, 8)), conv()),
    "permuted": lambda: Block(lambda block, x: block.conv(x.permute(0, 1, 3, 2)), conv=conv()),
    "pixel shuffle": lambda: nn.Sequential(nn.PixelShuffle(2), nn.Conv2d(1, WIDTH, 2, 2), nn.BatchNorm2d(WIDTH)),
    "residual": lambda: Block(
        lambda block, x: x + block.body(x), body=nn.Sequential(conv(), nn.BatchNorm2d(WIDTH), nn.SiLU(), conv())
    ),
    "two branches": lambda: Block(
        lambda block, x: torch.cat([block.left(x), block.right(x)], 1),
        left=nn.Conv2d(WIDTH, 2, 1),
        right=nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Conv2d(WIDTH, 2, 1)),
    ),
    "branch on the data": lambda: Block(decided, conv=conv()),
    "squeeze and excitation": lambda: SqueezeExcitation(WIDTH, 2, nn.SiLU),
    "dilated, up and down": lambda: nn.Sequential(
        conv(dilation=2), nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")
    ),
    "transposed convolution": lambda: nn.ConvTranspose2d(WIDTH, WIDTH, 3, padding=1),
    "multi-head attention": lambda: Tokens(Attention()),
    "dot product attention": lambda: Tokens(DotProducts()),
    "transformer layer": lambda: Tokens(encoder()),
    "tied weights": tied,
    "one layer twice": twice,
    "forward hook": lambda: nn.Sequential(
        hooked(conv(), "register_forward_hook", lambda layer, inputs, output: output.sin()), nn.BatchNorm2d(WIDTH)
    ),
    "forward pre-hook": lambda: hooked(conv(), "register_forward_pre_hook", lambda layer, inputs: (2 * inputs[0],)),
    "backward hook": lambda: hooked(
        conv(), "register_full_backward_hook", lambda layer, of_input, of_output: (of_input[0].clamp(-1e-3, 1e-3),)
    ),
    "buffers": Shifted,
    "switch": Switched,
    "noise": lambda: Block(lambda block, x: x + 0.1 * torch.randn_like(x)),
    "dropout that stays on": lambda: Block(lambda block, x: F.dropout(x, 0.3, training=True)),
    "random flip": lambda: Block(flipped),
    "in place": lambda: Block(lambda block, x: block.conv(x).mul_(2).sub_(1).tanh_(), conv=conv()),
}
HEADS = {
    "flat": lambda: nn.Sequential(nn.Flatten(), nn.Linear(WIDTH * 64, 10)),
    "pooled": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(WIDTH * 4, 10)),
    "viewed": lambda: Block(lambda block, x: block.linear(x.view(len(x), -1)), linear=nn.Linear(WIDTH * 64, 10)),
    "mean": lambda: Block(lambda block, x: block.linear(x.mean((2, 3))), linear=nn.Linear(WIDTH, 10)),
}


class OwnRoot(nn.Module):
    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x


ROOTS = (nn.Sequential, OwnRoot)


def optimizer_step(module):
    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    F.cross_entropy(module(torch.from_numpy(X)), torch.from_numpy(Y)).backward()
    optimizer.step()
    optimizer.zero_grad()


def state_dict(module):
    state = module.state_dict()
    changed = {name: 0.8 * tensor + 0.05 for name, tensor in state.items() if tensor.is_floating_point()}
    module.load_state_dict({**state, **changed})


def data(module):
    for parameter in module.parameters():
        parameter.data.mul_(1.2)
        parameter.data = parameter.data.flip(0)


def vector(module):
    n = sum(parameter.numel() for parameter in module.parameters())
    vector_to_parameters(0.3 * torch.randn(n), module.parameters())


def in_place(module):
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.mul_(1.1).add_(0.01)


def swapped(module):
    parts = module if isinstance(module, nn.Sequential) else module.parts
    parts[1] = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.BatchNorm2d(WIDTH), nn.Sigmoid()).eval()


def added_hook(module):
    layer = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    layer.register_forward_hook(lambda layer, inputs, output: output.cos())


def switched(module):
    for layer in module.modules():
        if isinstance(layer, Switched):
            layer.inverted, layer.scale = True, 0.7
        if isinstance(layer, nn.CELU):
            layer.alpha = 3.0
        if isinstance(layer, nn.modules.batchnorm._NormBase):
            layer.eps = 0.1


CHANGES = [optimizer_step, state_dict, data, vector, in_place, swapped, added_hook, switched]


@st.composite
def architectures(draw, block):
    """The root, blocks with this one among them, and the head, by name."""
    blocks = draw(st.lists(st.sampled_from(list(BLOCKS)), min_size=2, max_size=4))
    blocks.insert(draw(st.integers(0, len(blocks))), block)
    return draw(st.sampled_from(ROOTS)), tuple(blocks), draw(st.sampled_from(list(HEADS)))


def network(root, blocks, head):
    torch.manual_seed(0)
    module = root(nn.Conv2d(3, WIDTH, 1), *(BLOCKS[block]() for block in blocks), nn.CELU(), HEADS[head]())
    module.train()
    with torch.no_grad():
        module(torch.rand(16, 3, 8, 8))  # statistics that are not those of the beginning
    return module.eval()


def own_gradient(module):
    x = torch.from_numpy(X.copy()).requires_grad_(True)
    torch.manual_seed(1)
    return torch.autograd.grad(F.cross_entropy(module(x.clone()), torch.from_numpy(Y)), x)[0].numpy()


def assert_own_gradient(classifier, module):
    wanted = own_gradient(copy.deepcopy(module))  # a copy: a call may change its state
    torch.manual_seed(1)
    found = classifier.loss_gradient(X, Y)
    assert np.abs(wanted).max() > 0
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_networks_of_random_blocks_have_their_own_gradient_whatever_changes():
    seen = set()
    for number, block in enumerate(BLOCKS):

        @seed(number)
        @settings(max_examples=2, deadline=None, database=None)
        @given(architectures(block))
        def check(architecture):
            module = network(*architecture)
            classifier = estimators.classifier(module, (3, 8, 8), 10, device="cpu")
            assert_own_gradient(classifier, module)
            for change in CHANGES:
                change(module)
                assert_own_gradient(classifier, module)
            seen.add(architecture)

        check()
    roots, blocks, heads = zip(*seen, strict=True)
    assert len(seen) >= 60 and set().union(*blocks) == set(BLOCKS)
    assert set(roots) == set(ROOTS) and set(heads) == set(HEADS)


@pytest.mark.parametrize("block", BLOCKS)
def test_each_block_in_precision_fast_has_its_own_gradient_up_to_bfloat16(block, monkeypatch):
    from advbench import device

    monkeypatch.setattr(device, "has_bfloat16", lambda _: True)
    module = network(nn.Sequential, (block,), "pooled")
    classifier = estimators.classifier(module, (3, 8, 8), 10, "fast", device="cpu")
    wanted = own_gradient(copy.deepcopy(module)).ravel()
    torch.manual_seed(1)
    found = classifier.loss_gradient(X, Y).ravel()
    assert found @ wanted > 0.98 * np.linalg.norm(found) * np.linalg.norm(wanted)
