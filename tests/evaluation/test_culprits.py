"""Models that only seem robust are each called out by the check that fits; honest ones, robust or not, pass everything."""

import numpy as np
import pytest
import torch
from conftest import make_small_net
from torch import nn

import advbench

EPS = 0.1


class Changed(nn.Module):
    """A network with something done to its images, and something to its logits."""

    def __init__(self, net, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x):
        return self.after(self.net(self.before(x)))


class Hiding(nn.Module):
    """Another network, which is easily beaten, answers where a gradient is wanted."""

    def __init__(self, net):
        super().__init__()
        self.net, self.decoy = net, nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x):
        return self.decoy(x) if x.requires_grad else self.net(x)


class Optimising(nn.Module):
    """Takes a step against the gradient of its own confidence first, as a purifier does."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        with torch.enable_grad():
            probe = x.detach().requires_grad_(True)
            loss = self.net(probe).logsumexp(1).sum()
            (gradient,) = torch.autograd.grad(loss, probe)
        return self.net(x - 0.001 * gradient)


class Leaking(nn.Module):
    """Wrong on half of the images as they are, and right wherever one was perturbed: the perturbation leaks the label."""

    def __init__(self, x, y):
        super().__init__()
        self.known, self.y = torch.from_numpy(x).flatten(1), torch.from_numpy(y)
        self.weight = nn.Parameter(torch.eye(64, 10))

    def forward(self, x):
        distance, of = torch.cdist(x.detach().flatten(1), self.known).min(1)
        label = torch.where((distance < 0.05) & (of % 2 == 0), (self.y[of] + 1) % 10, self.y[of])
        return 5 * nn.functional.one_hot(label, 10) - 2 + 0.01 * x.flatten(1) @ self.weight


@pytest.fixture(scope="module")
def images(digits):
    return digits[2][:64], digits[3][:64]


@pytest.fixture(scope="module")
def robust_net(digits):
    """The small network, trained on images of PGD with three steps."""
    net, generator = make_small_net(), torch.Generator().manual_seed(0)
    x, y = torch.from_numpy(digits[0]), torch.from_numpy(digits[1]).long()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=20 * (len(x) // 64))
    for _ in range(20):
        for part in torch.randperm(len(x), generator=generator)[: len(x) // 64 * 64].split(64):
            net.eval()
            delta = (2 * torch.rand(x[part].shape, generator=generator) - 1) * EPS
            for _ in range(3):
                delta.requires_grad_(True)
                loss = nn.functional.cross_entropy(net((x[part] + delta).clamp(0, 1)), y[part])
                (gradient,) = torch.autograd.grad(loss, delta)
                delta = (delta.detach() + EPS / 2 * gradient.sign()).clamp(-EPS, EPS)
            net.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(net((x[part] + delta).clamp(0, 1)), y[part]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def failed(model, images, **more):
    result = advbench.evaluate(model, images, **{"eps": EPS, "attacks": "fast", "checks": 24, **more})
    return {check.name: check.measured for check in result.checks if not check.passed}, result


CULPRITS = {
    "masked": (lambda net, x, y: Changed(net, before=lambda x: x.detach()), "gradients", "detach or no_grad"),
    "random": (
        lambda net, x, y: Changed(net, lambda x: x + 0.2 * torch.randn_like(x)),
        "deterministic",
        "two predictions",
    ),
    "quantised": (
        lambda net, x, y: Changed(net, lambda x: (x * 7).byte().float() / 7),
        "gradients",
        "conversion to integers",
    ),
    "rounding": (lambda net, x, y: Changed(net, after=torch.round), "gradients", "rounding"),
    "label-leaking": (lambda net, x, y: Leaking(x, y), "falls with eps", "accuracy changes by at most +"),
    "hiding from gradients": (lambda net, x, y: Hiding(net), "gradients", "not finite for 100.0%"),
    "optimising at inference": (
        lambda net, x, y: Optimising(net),
        "no gradients at inference",
        "computes gradients itself",
    ),
}


@pytest.mark.parametrize("name", CULPRITS)
def test_a_model_that_only_seems_robust_is_called_out_by_name(trained_net, images, name):
    make, check, said = CULPRITS[name]
    found, _ = failed(make(trained_net, *images), images)
    assert said in found.get(check, ""), found


def test_logits_over_a_temperature_are_named_and_have_the_figures_of_the_logits(trained_net, images):
    _, honest = failed(trained_net, images)
    _, scaled = failed(Changed(trained_net, after=lambda z: 1e4 * z), images)
    (gradients,) = (check for check in scaled.checks if check.name == "gradients")
    assert "temperature: the largest" in gradients.measured
    # the steps that scaled logits give are not the same, and may beat an image more or less
    assert abs(scaled.robust_accuracy[EPS].value - honest.robust_accuracy[EPS].value) <= 2 / len(images[0])


def test_an_honest_model_passes_everything(trained_net, images):
    found, result = failed(trained_net, images)
    assert found == {} and result.robust_accuracy[EPS].value < 0.3


def test_an_honest_robust_model_passes_everything(robust_net, images):
    found, result = failed(robust_net, images, attacks="fgsm,pgd,apgd-ce,square")
    assert found == {} and result.robust_accuracy[EPS].value > 0.4
    names = {check.name for check in result.checks}
    indicators = {"silent success", "incomplete optimisation", "transfer failure", "unconstrained failure"}
    assert indicators | {"restarts find no more", "no gradients at inference", "binarization test"} <= names
    shown = result._rows[result._rows.exhibit == "indicators"]
    assert set(shown.attack) == {"pgd", "apgd-ce"} and set(shown.metric) == indicators


def test_square_with_few_queries_calls_out_what_gradients_did_not_find(trained_net, images):
    found, result = failed(Changed(trained_net, before=lambda x: x.detach()), images)
    assert "Square is weaker" in found
    assert np.isfinite(result.per_image.distance).sum() > 5
