"""An evaluation split over processes: the same figures wherever a piece is computed, and only pieces in flight are in memory."""

import os
import pickle
from functools import partial
from threading import Lock

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn
from work import square, visible_gpu

import advbench
from advbench import data, estimators
from advbench.cli import main
from advbench.data.pixels import Pixels
from advbench.errors import UsageError
from advbench.evaluation import pieces
from advbench.evaluation.battery import battery
from advbench.evaluation.pieces import Layout, Piece
from advbench.study import workers

QUICK = {"attacks": "fgsm,pgd", "eps": (0.02, 0.1), "checks": 2, "keep_images": True}
NEVER = lambda: pytest.fail("the work was estimated")  # noqa: E731


@pytest.fixture(scope="module")
def images(digits):
    return digits[2][:52], digits[3][:52]


@pytest.fixture(scope="module")
def alone(trained_net, images, tmp_path_factory):
    return advbench.evaluate(trained_net, images, workers=1, out=tmp_path_factory.mktemp("one") / "run", **QUICK)


def bytes_of(run):
    files = [*run.glob("arrays/*/*.npy"), run / "results.csv", run / "per_image.csv"]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in files if path.exists()}


@pytest.mark.parametrize("count", [2, 3])
def test_every_file_is_the_same_for_any_number_of_workers(trained_net, images, alone, tmp_path, count):
    advbench.evaluate(trained_net, images, workers=count, out=tmp_path / "run", **QUICK)
    wanted = bytes_of(alone.directory)
    assert bytes_of(tmp_path / "run") == wanted and len(wanted) > 12
    assert not (tmp_path / "run" / "checkpoints" / "pgd-0.1").exists()


def test_an_evaluation_goes_on_with_the_pieces_that_are_missing(trained_net, images, alone, tmp_path, monkeypatch):
    attack, computed = pieces.attack_piece, []

    def counted(classifier, piece, most):
        if len(computed) == most:
            raise KeyboardInterrupt
        computed.append((piece.attack.name, piece.eps, piece.number))
        return attack(classifier, piece)

    call = partial(advbench.evaluate, trained_net, images, workers=1, out=tmp_path / "run", **QUICK)
    monkeypatch.setattr(pieces, "attack_piece", partial(counted, most=6))
    with pytest.raises(KeyboardInterrupt):
        call()
    monkeypatch.setattr(pieces, "attack_piece", partial(counted, most=100))
    call()
    assert len(set(computed)) == len(computed) > 8
    assert bytes_of(tmp_path / "run") == bytes_of(alone.directory)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 300, 1000, 5000, 10**6])
def test_the_pieces_make_up_the_images_and_none_is_too_large(n):
    parts = pieces.split(n, (3, 32, 32), 5461, torch.device("cpu"))
    assert [i for part in parts for i in (part.start, part.stop)][1:-1:2] == [part.start for part in parts][1:]
    assert parts[0].start == 0 and parts[-1].stop == n and max(part.stop - part.start for part in parts) <= 5461
    assert len(parts) >= min(16, n // 16)


def test_no_more_pieces_are_made_than_are_in_flight():
    made, most, done = 0, 0, 0

    def endless():
        nonlocal made
        for number in range(40):
            made += 1
            yield number

    processes = workers.Workers(2)
    try:
        for _ in processes.results(None, torch.device("cpu"), None, square, endless()):
            done += 1
            most = max(most, made - done)
    finally:
        processes.stop()
    assert done == 40 and most <= 2 * workers.AHEAD


def test_a_mapped_data_set_is_sent_by_its_place(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3 * 32 * 32 * 1000, dtype=np.uint8).reshape(1000, 3, 32, 32))
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    dataset = data.Dataset("d", "train", stored, np.zeros(1000, np.int64), ("a",))
    with open(tmp_path / "sent", "wb") as stream:
        workers._Pickler(stream).dump(dataset)
    assert (tmp_path / "sent").stat().st_size < stored.nbytes / 100
    found = pickle.loads((tmp_path / "sent").read_bytes())
    assert isinstance(found.x, np.memmap) and np.array_equal(found.x, stored)
    with open(tmp_path / "part", "wb") as stream:  # a part of it has no place of its own
        workers._Pickler(stream).dump(stored[10:20])
    assert np.array_equal(pickle.loads((tmp_path / "part").read_bytes()), stored[10:20])


def test_a_piece_costs_its_images_as_they_are_stored():
    stored = np.zeros((64, 3, 32, 32), np.uint8)
    (attack,) = battery("fgsm", "linf", "gradients")
    piece = Piece(0, attack, 0.1, 1, Pixels(stored), np.zeros(64, np.int64), False, (0.1,), np.inf)
    assert len(pickle.dumps(piece)) < stored.nbytes + 2000


def sent_and_received(module, own=()):
    classifier = estimators.classifier(module, (1, 8, 8), 10, device="cpu")
    x = Pixels(np.random.default_rng(0).random((20, 1, 8, 8)).astype(np.float32))
    return classifier, pieces._received(pieces._sent(classifier, own, x)), x[:]


def test_a_model_of_no_importable_class_arrives_with_its_weights():
    class Local(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, x):
            return self.layer(x.flatten(1)) * SCALE

    classifier, other, x = sent_and_received(Local())
    np.testing.assert_array_equal(classifier.predict(x), other.predict(x))
    assert len(pieces._sent(classifier, (), Pixels(x)).classifier) < 20_000  # 650 parameters, and the class


SCALE = 3.0


class DependsOnTheProcess(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x.flatten(1)) * (1 + os.getpid() % 1000)


def test_a_model_that_differs_elsewhere_is_refused(images):
    net = DependsOnTheProcess().eval()
    own = net(torch.from_numpy(images[0])).argmax(1).numpy()  # what is right is attacked, and so sent
    with pytest.raises(UsageError, match="gives other outputs in another process"):
        advbench.evaluate(net, (images[0], own), workers=2, **QUICK)


class Unsendable(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.lock = nn.Linear(64, 10), Lock()

    def forward(self, x):
        return self.layer(x.flatten(1))


def test_a_model_that_cannot_be_sent_is_one_line_or_stays_here(monkeypatch):
    classifier = estimators.classifier(Unsendable(), (1, 8, 8), 10, device="cpu")
    x = Pixels(np.zeros((4, 1, 8, 8), np.float32))
    with (
        pytest.raises(UsageError, match=r"cannot be sent .*; leave out --workers"),
        pieces.computed(classifier, (), x, Layout(2), NEVER),
    ):
        pass
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pieces.computed(classifier, (), x, Layout("auto"), lambda: 1e15) as compute:
        assert compute.func is map


def test_workers_start_by_themselves_where_the_work_repays_them(classifier, images, monkeypatch):
    x = Pixels(images[0])
    work = partial(pieces.operations, classifier, x, battery("standard", "linf", "gradients"), 2)
    forward = 2 * (
        16 * 9 * 64 + 24 * 16 * 9 * 16 + 96 * 10
    )  # multiplications and additions of the two convolutions and the layer
    assert 0 < work() / (forward * len(x)) <= 2 * 8 * 200
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert pieces._worthwhile(torch.device("cpu"), work) is None
    assert pieces._worthwhile(torch.device("cpu"), lambda: 1e13) > 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert pieces._worthwhile(torch.device("cpu"), NEVER) is None


@pytest.mark.parametrize(
    "given, message",
    [
        ({"devices": 2}, "--devices 2: this machine has 0 GPUs; on a CPU take --workers"),
        ({"scheduler": "tcp://1", "workers": 2}, "--scheduler has workers of its own"),
    ],
)
def test_a_layout_that_cannot_be_is_one_line(trained_net, images, given, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match=message):
        advbench.evaluate(trained_net, images, **given, **QUICK)


def test_each_worker_sees_one_gpu_of_those_that_are_lent(monkeypatch):
    assert [workers.gpu_of(rank, 2, "") for rank in range(4)] == ["0", "1", "0", "1"]
    assert [workers.gpu_of(rank, 2, "5,GPU-8a") for rank in range(3)] == ["5", "GPU-8a", "5"]
    processes = workers.Workers(2, gpus=2)
    try:
        found = set(processes.results(None, torch.device("cpu"), None, visible_gpu, range(20)))
    finally:
        processes.stop()
    assert found <= {"0", "1"} and found


def test_the_command_takes_workers_for_a_file_that_they_cannot_import(tmp_path, images):
    (tmp_path / "scale_of_pieces.py").write_text("SCALE = 2.0\n")
    (tmp_path / "net.py").write_text(
        "import torch, scale_of_pieces\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.layer = torch.nn.Linear(64, 10)\n"
        "    def forward(self, x):\n        return self.layer(x.flatten(1)) * scale_of_pieces.SCALE\n"
    )
    np.savez(tmp_path / "digits.npz", x=images[0], y=images[1])
    words = [
        "evaluate",
        f"{tmp_path}/net.py:Net",
        "--data",
        f"{tmp_path}/digits.npz",
        "--attacks",
        "pgd",
        "--checks",
        "2",
    ]
    for count in ("1", "2"):
        done = CliRunner().invoke(main, [*words, "--workers", count, "--out", f"{tmp_path}/{count}"])
        assert done.exit_code == 0, done.output
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")
