"""Small things that many tests stand on: a linear model with known optima, and a small trained network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from advbench import data, estimators
from advbench.models.tapped import Normalize, TappedModule
from advbench.trainers import Schedule, train_classifier

SHAPE = (1, 8, 8)


class SmallNet(TappedModule):
    """Two taps beyond the input, batch norm, for 8 x 8 digits."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [
                nn.Sequential(
                    Normalize((0.3,), (0.35,)),
                    nn.Conv2d(1, 16, 3, padding=1, bias=False),
                    nn.BatchNorm2d(16),
                    nn.ReLU(),
                ),
                nn.Sequential(nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU()),
            ]
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 10))


class Linear(nn.Module):
    """f(x) = W x + b, whose nearest boundary is known in closed form."""

    def __init__(self, classes: int = 4, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layer = nn.Linear(64, classes)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(classes, 64, generator=generator))
            self.layer.bias.copy_(-0.5 * self.layer.weight.sum(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1))


def make_small_net(seed: int = 0) -> SmallNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallNet().eval()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """No test reads or writes the user's data cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def digits():
    """(x_train, y_train, x_test, y_test) with images float32 in [0, 1], 1 x 8 x 8."""
    train, test = (data.load("digits", split, shape=SHAPE) for split in ("train", "test"))
    return train.x.astype(np.float32) / 255, train.y, test.x.astype(np.float32) / 255, test.y


@pytest.fixture(scope="session")
def trained_net(digits):
    train, test = (data.load("digits", split, shape=SHAPE) for split in ("train", "test"))
    net = make_small_net()
    schedule = Schedule(epochs=12, lr=0.1, weight_decay=1e-4, batch_size=64, pad=1, flip=False)
    history = train_classifier(net, (train.x, train.y), (test.x, test.y), schedule)
    assert max(entry["validation_accuracy"] for entry in history) > 0.85
    return net


@pytest.fixture(scope="session")
def classifier(trained_net):
    """The trained small network, exact gradients."""
    return estimators.classifier(trained_net, SHAPE, 10, device="cpu")


@pytest.fixture(scope="session")
def linear():
    return estimators.classifier(Linear().eval(), SHAPE, 4, device="cpu")


@pytest.fixture(scope="session")
def interior():
    """Images near the middle of [0, 1], so that no attack meets the clip."""
    return (0.5 + 0.01 * np.random.default_rng(0).standard_normal((32, *SHAPE))).astype(np.float32)


@pytest.fixture
def finished_run(tmp_path):
    """A run directory with one row, one chart and one target, made without any computing."""
    from advbench import evaluation
    from advbench.report import charts
    from advbench.runs import Run

    config = {
        "recipe": "r",
        "preset": "small",
        "dataset": "d",
        "seed": 0,
        "note": "",
        "settings": [],
        "config": {"n": 3},
    }
    run = Run(tmp_path / "finished", config)
    run.record_environment("cpu")
    row = evaluation.proportion(9, 10).row("accuracy", target="M1", accept_low=0.8, reported=0.91)
    rows = run.rows("clean", lambda: [row])
    table = rows.assign(group="a")[["group", "value", "reported"]]
    run.exhibit("one", "One", "A caption.", charts.scatter(table, "value", "reported", "group"), table)
    return run.directory
