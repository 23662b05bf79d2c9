"""Every trainer leaves the user's module as it was, but for its weights, and trains what it would train without us."""

from functools import partial

import numpy as np
import pytest
import torch
from conftest import SHAPE, make_small_net
from torch import nn

from advbench import attacks, estimators
from advbench.detectors import SubnetworkDetector
from advbench.trainers import (
    AlternatingTrainer,
    DynamicDetectorTrainer,
    GradAlignTrainer,
    MixedAdversarialTrainer,
    Schedule,
    StaticAdversarialTrainer,
    WeightedAdversarialTrainer,
    train_classifier,
    train_with_adam,
)


class Viewed(nn.Module):
    """A view after a convolution, which channels last would break."""

    def __init__(self, norm=None):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1, bias=norm is None), norm or nn.Identity()
        self.head = nn.Linear(256, 10)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.conv(x))).view(len(x), -1))


class Attention(nn.Module):
    """Tokens by flatten and transpose, and a branch that skips them."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 2, stride=2, bias=False)
        self.mix, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 10)

    def forward(self, x):
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        return self.head((tokens + self.mix(tokens, tokens, tokens, need_weights=False)[0]).mean(1))


class Shared(nn.Module):
    """One convolution called twice, and a shuffle of its channels by a view."""

    def __init__(self):
        super().__init__()
        self.stem, self.again = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        x = torch.tanh(self.again(self.stem(x)))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.again(x).mean((2, 3)))


def frozen():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 10))
    net[0].requires_grad_(False)
    return net


def hooked():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 10))
    net[0].register_forward_hook(lambda module, given, out: 1.5 * out)
    return net


SHAPES = {
    "known layers": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(144, 10)
    ),
    "view": Viewed,
    "view, batch norm": lambda: Viewed(nn.BatchNorm2d(4)),
    "attention": Attention,
    "shared, shuffled": Shared,
    "frozen": frozen,
    "hooked": hooked,
    "channels last": lambda: Attention().to(memory_format=torch.channels_last),
}


def by_standard(classifier, x, y):
    images = ((255 * x).astype(np.uint8), y)
    train_classifier(classifier.model, images, images, Schedule(1, 0.05, 0.0, batch_size=16))


def by_pgd(kind, weights, classifier, x, y):
    made = [attacks.create("bim", classifier, 0.1, 0.05, 2)]
    trainer = kind(classifier, made, weights) if weights else kind(classifier, made[0])
    trainer.fit(x, y, 16, 1)


def by_alternating(classifier, x, y):
    AlternatingTrainer(classifier, attacks.GANAttack(classifier, width=4)).fit(x, y, 16, 1)


TRAINERS = {
    "standard": by_standard,
    "adam": lambda classifier, x, y: train_with_adam(classifier, x, y, 16, 1),
    "mixed": partial(by_pgd, MixedAdversarialTrainer, None),
    "weighted": partial(by_pgd, WeightedAdversarialTrainer, (0.5, 0.5)),
    "fgsm": lambda classifier, x, y: WeightedAdversarialTrainer(
        classifier, [attacks.create("fgsm", classifier, 0.1)], (0.5, 0.5)
    ).fit(x, y, 16, 1),
    "static": lambda classifier, x, y: StaticAdversarialTrainer(classifier).fit(x, y, np.sign(x - 0.5), 0.1, 16, 1),
    "alternating": by_alternating,
    "gradalign": lambda classifier, x, y: GradAlignTrainer(classifier, 0.1).fit(x, y, 16, 1),
}


def about(module):
    """All that a trainer has to leave alone."""
    return [
        [(name, part.training, len(part._forward_hooks), len(part._forward_pre_hooks)) for name, part in module.named_modules()],
        [(name, tensor.stride(), tensor.dtype, tensor.requires_grad) for name, tensor in module.state_dict(keep_vars=True).items()],
        [id(parameter) for parameter in module.parameters()],
    ]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainer_leaves_the_module_as_it_was_but_for_its_weights(trainer, shape, digits):
    torch.manual_seed(0)
    module = SHAPES[shape]().eval()
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 0.05)
    classifier = estimators.classifier(module, SHAPE, 10, device="cpu", optimizer=optimizer)
    before, weights = about(module), {name: tensor.clone() for name, tensor in module.state_dict().items()}
    TRAINERS[trainer](classifier, digits[0][:32], digits[1][:32])
    assert about(module) == before
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, weights[name]) != parameter.requires_grad, name
        assert parameter.isfinite().all()


@pytest.mark.parametrize("shape", ["view", "attention", "shared, shuffled", "hooked"])
def test_a_step_is_that_of_plain_pytorch(shape, digits):
    torch.manual_seed(0)
    module = SHAPES[shape]()
    other = SHAPES[shape]()
    other.load_state_dict(module.state_dict())
    optimizer, plain = (torch.optim.SGD(net.parameters(), 0.1) for net in (module, other))
    classifier = estimators.classifier(module, SHAPE, 10, device="cpu", optimizer=optimizer)
    x, y = digits[0][:16], digits[1][:16]
    WeightedAdversarialTrainer(classifier, [], (1.0,)).fit(x, y, 16, 1)
    nn.functional.cross_entropy(other.train()(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    plain.step()
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_dynamic_training_of_a_detector_leaves_its_classifier_alone(digits):
    net = make_small_net().eval()
    classifier = estimators.classifier(net, SHAPE, 10, device="cpu")
    before, weights = about(net), {name: tensor.clone() for name, tensor in net.state_dict().items()}
    DynamicDetectorTrainer(SubnetworkDetector(classifier, 1), max_iter=2).fit(digits[0][:32], digits[1][:32], 16, 1)
    assert about(net) == before
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
