"""Small things that many tests stand on: a linear model with known optima, and a small trained network."""

from __future__ import annotations

import logging
import os
import re
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from advbench import data, estimators, metrics
from advbench.checkpoint import Checkpoint
from advbench.cli import main
from advbench.data.find import Images
from advbench.data.pixels import Pixels
from advbench.models.tapped import Normalize, TappedModule
from advbench.report import Attacked, bundle, charts
from advbench.seeds import own_global_state
from advbench.study.run import Run
from advbench.study.schema import About
from advbench.trainers import Schedule, train_classifier

if "PYTEST_XDIST_WORKER" in os.environ:  # several share the cores, and so do the processes that they start
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # under nohup, for one: what tests interrupt has to notice
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHAPE = (1, 8, 8)

USERS_CACHE = data.cache_dir()


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


class Answer(nn.Module):
    """A linear model of four classes whose answer, or whose images before it, are changed."""

    def __init__(self, change=lambda z: z, before=lambda x: x):
        super().__init__()
        self.net, self.change, self.before = Linear(), change, before

    def forward(self, x):
        return self.change(self.net(self.before(x)))


class Counter(nn.Module):
    """A network that counts the images that pass it, forward and, by the gradients that reach its output, backward."""

    def __init__(self, net):
        super().__init__()
        self.net, self.forwards, self.backwards = net, 0, 0

    def forward(self, x):
        self.forwards += len(x)
        out = self.net(x)
        if out.requires_grad:
            out.register_hook(self._count)
        return out

    @property
    def both(self):
        return self.forwards + self.backwards

    def _count(self, gradient):
        self.backwards += len(gradient)


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its memory from /proc")


def memory(name):
    """VmRSS (now) or VmHWM (at most so far) of this process in bytes."""
    (kibibytes,) = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kibibytes) * 1024


def make_small_net(seed: int = 0) -> SmallNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallNet().eval()


class Around(nn.Module):
    """A network with something done to its images."""

    def __init__(self, net, change):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x):
        return self.net(self.change(x))


def around(net, change):
    """Such a network as an estimator."""
    return estimators.classifier(Around(net, change).eval(), SHAPE, 10, device="cpu")


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


@pytest.fixture(autouse=True)
def own_draws():
    """A test draws the same whatever ran before it in its process."""
    with own_global_state(0):
        yield


@pytest.fixture(autouse=True)
def own_log():
    """A test that runs a command does not take the log away from the others."""
    log = logging.getLogger("advbench")
    before = list(log.handlers), log.propagate, log.level
    yield
    log.handlers[:], log.propagate = before[:2]
    log.setLevel(before[2])


@pytest.fixture(autouse=True)
def shared_net_unchanged(request):
    """A test that changes the network that others stand on fails itself, and not one of theirs."""
    if "trained_net" not in request.fixturenames:
        yield
        return
    net = request.getfixturevalue("trained_net")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    yield
    net.zero_grad(set_to_none=True)  # stock ART leaves gradients behind
    after = net.state_dict()
    assert not any(module.training for module in net.modules())
    assert all(
        after[name].dtype == tensor.dtype and torch.equal(after[name], tensor) for name, tensor in before.items()
    )


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


class Thresholded:
    """As classifier and as detector: what it says of an image follows from the image's mean alone."""

    def predict(self, x):
        mean = x.reshape(len(x), -1).mean(axis=1)
        return np.stack([np.zeros_like(mean), 100 * (mean - 0.5)], axis=1)

    def scores(self, x):
        return x.reshape(len(x), -1).mean(axis=1)


def explorer_files(classes=("dark", "light")):
    """Twelve grey images of which the first six are dark; one attack lights up every second one a lot, one all a little."""
    level = np.linspace(0.2, 0.8, 12, dtype=np.float32)
    x = np.tile(level[:, None, None, None], (1, 1, 4, 4))
    y = (level > 0.5).astype(np.int64)
    bright = np.where(np.arange(12)[:, None, None, None] % 2 == 0, np.minimum(x + 0.5, 1), x).astype(np.float32)
    judge = Thresholded()
    attacked = [
        Attacked("lamp", 0.5, bright, judge, detector=judge, threshold=0.75),
        Attacked("candle", 0.01, x + np.float32(0.01), judge, detector=judge, threshold=0.75),
        Attacked("candle", 0.002, x + np.float32(0.002), judge, detector=judge, threshold=0.75),
    ]
    return bundle(x, y, classes, attacked)


def make_run(directory, hostile="", seed=0, value=9):
    """A run directory with four claims, two charts and an explorer, made without any computing.

    :param hostile: is put into every name that a recipe, a model or a user may choose.
    """
    config = {
        "recipe": f"r{hostile}",
        "preset": "small",
        "dataset": f"d{hostile}",
        "seed": seed,
        "note": "",
        "settings": [],
        "config": {"n": 3, "name": hostile},
    }
    run = Run(directory, config)
    run.record_environment("cpu")
    says = {"M1": f"The network is right{hostile}.", "M4": "Half of them are errors."}
    claims = [{"id": claim, "says": sentence} for claim, sentence in says.items()]
    run.record_about(About(question=f"Is it so{hostile}?", command=f"r{hostile}", claims=claims))
    target = {"target": "M1", "accept_low": 0.5, "reported": 0.91}
    run.rows(
        "clean",
        lambda: [
            metrics.proportion(value, 10).row("accuracy", model=f"net{hostile}", **target),
            metrics.proportion(3, 10).row(f"flips{hostile}", attack="fgsm", target="M2", accept_high=0.05),
            metrics.Figure(float("nan"), 0).row("never", target="M3", accept_high=0.2),
            metrics.proportion(10, 20).row("errors", target="M4", accept_high=0.6),
        ],
    )
    table = pd.DataFrame({"group": ["a", f"b{hostile}", "c"], "value": [0.9, 0.5, 0.7], "reported": [0.91, None, 0.8]})
    chart = charts.scatter(table, "value", "reported", "group")
    run.exhibit("one", f"One{hostile}", "A caption.", chart, table, claims=("M1", "M2"))
    cells = pd.DataFrame({"fit": ["a", "b"] * 2, "test": ["a"] * 2 + ["b"] * 2, "value": [0.9, 0.6, 0.7, 1.0]})
    run.exhibit("matrix", "A matrix", "Cells.", charts.heat_map(cells, "fit", "test"), cells)
    run.explorer(lambda: explorer_files((f"dark{hostile}", "light")))
    return run


@pytest.fixture
def finished_run(tmp_path):
    """The directory of a finished run, made without any computing."""
    return make_run(tmp_path / "finished").directory


@pytest.fixture
def killed_after_two_epochs(monkeypatch):
    """A context in which a training is interrupted once it has kept its second epoch."""

    @contextmanager
    def killed():
        save = Checkpoint.save

        def save_and_die(self, module, optimizer, best, history):
            save(self, module, optimizer, best, history)
            if len(history) == 2:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "save", save_and_die)
            with pytest.raises(KeyboardInterrupt):
                yield

    return killed


@pytest.fixture(scope="module")
def run(request, tmp_path_factory):
    """The directory of the recipe run, not interrupted, that a module asks for by ARGUMENTS."""
    out = tmp_path_factory.mktemp("runs") / "run"
    result = CliRunner().invoke(main, [*request.module.ARGUMENTS, "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def rows(run):
    """The rows of its results.csv."""
    return pd.read_csv(run / "results.csv")


@pytest.fixture
def one_check(monkeypatch):
    """The checks take most of the time of a small evaluation, and have tests of their own."""
    from advbench.evaluation import study
    from advbench.metrics import sanity

    monkeypatch.setattr(
        study,
        "run_checks",
        lambda subject, wanted: (
            check.row(exhibit="check", norm=subject.norm, eps=1.0)
            for check in sanity.same_twice(subject.classifier, subject.images.x[:2])
        ),
    )


@pytest.fixture
def pictures(interior):
    return Images("pictures", Pixels(interior), np.arange(32) % 4)
