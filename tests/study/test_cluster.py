"""A study on a real Dask cluster of two workers on this machine, one of which is killed."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import TINY
from work import killed_once

from advbench.errors import UsageError
from advbench.evaluation import Options
from advbench.evaluation import start as evaluate
from advbench.evaluation.pieces import Layout
from advbench.study import configure, find, start
from advbench.study.cluster import Cluster
from advbench.study.execution import rebuild

distributed = pytest.importorskip("distributed")

RECIPE = "training-mnist"
SETTINGS = tuple(f"{key}={value}" for key, value in TINY[RECIPE].items())


@contextmanager
def running(folder, workers):
    """``dask scheduler`` and so many ``dask worker``, as a user starts them."""
    file = folder / "scheduler.json"
    common = {
        "cwd": folder,
        "env": {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        "stderr": subprocess.DEVNULL,
    }
    dask = [sys.executable, "-m", "dask"]
    to = ["--scheduler-file", str(file)]
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    processes = [subprocess.Popen([*dask, "scheduler", *to, *local, "--port", "0"], **common)]
    one = ["--nthreads", "1", "--local-directory", str(folder)]
    processes += [subprocess.Popen([*dask, "worker", *to, *local, *one], **common) for _ in range(workers)]
    try:
        while not file.exists():
            assert all(process.poll() is None for process in processes)
            time.sleep(0.1)
        with distributed.Client(scheduler_file=str(file), timeout=60) as client:
            while len(client.scheduler_info()["workers"]) < workers:
                assert all(process.poll() is None for process in processes)
                time.sleep(0.1)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(60)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    with running(tmp_path_factory.mktemp("dask"), 2) as address:
        yield address


def test_a_cluster_computes_what_one_process_does_bit_for_bit(scheduler, tmp_path):
    options = {"dataset": "digits", "device": "cpu", "settings": SETTINGS}
    alone = start(find(RECIPE), out=tmp_path / "alone", workers=1, **options)
    store = str(tmp_path / "store")
    shared = start(find(RECIPE), out=tmp_path / "shared", store=store, scheduler=scheduler, **options)
    assert (shared.directory / "results.csv").read_bytes() == (alone.directory / "results.csv").read_bytes()
    for path in (alone.directory / "models").glob("*.safetensors"):
        assert (shared.directory / "models" / path.name).read_bytes() == path.read_bytes()
    assert not (shared.directory / "checkpoints").exists()  # nothing was trained in this process


def test_a_worker_that_is_killed_costs_its_stage_again_and_no_more(scheduler, tmp_path):
    config = configure(find(RECIPE).preset("quick"), SETTINGS).model_dump(mode="json")
    request = {"recipe": RECIPE, "dataset": "digits", "seed": 0, "note": "", "config": config}
    cluster = Cluster(
        scheduler, rebuild, json.dumps({**request, "preset": "quick"}), None, "cpu", str(tmp_path / "store")
    )
    places = [tmp_path / name for name in ("a", "b", "victim", "c", "d")]
    cluster.each(killed_once, places)
    begun = {place.name: len(place.read_text().split()) for place in places}
    assert begun == {"a": 1, "b": 1, "victim": 2, "c": 1, "d": 1}
    kept = [path.stem for path in (tmp_path / "store").rglob("stages/*.json")]
    assert sorted(kept) == ["a", "b", "c", "d", "victim"]


def test_an_evaluation_on_a_cluster_gives_the_files_of_one_process(scheduler, tmp_path):
    """The workers have neither the images nor the file of the network."""
    (tmp_path / "net.py").write_text(
        "import torch\n\ndef make():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
    )
    options = Options.parse(
        model=f"{tmp_path}/net.py:make", data="digits", shape=(1, 8, 8), n=40, eps=0.1, attacks="pgd", checks=2
    )
    alone, shared = (
        evaluate(options, tmp_path / name, "cpu", layout=layout)
        for name, layout in (("alone", Layout(1)), ("shared", Layout(scheduler=scheduler)))
    )
    for name in ("results.csv", "per_image.csv", "arrays/pgd-0.1/distance.npy", "arrays/pgd-0.1/passes.npy"):
        assert (shared.directory / name).read_bytes() == (alone.directory / name).read_bytes()


@pytest.mark.parametrize("store, message", [(None, "--scheduler needs --store"), ("store", "needs a recipe that is")])
def test_what_cannot_work_is_refused_at_once(store, message, tmp_path):
    recipe = find(RECIPE) if store is None else replace(find(RECIPE), file="mine.py")
    with pytest.raises(UsageError, match=message):
        start(recipe, dataset="digits", out=tmp_path / "run", store=store, scheduler="tcp://127.0.0.1:1")


def test_a_scheduler_that_does_not_answer_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="no Dask scheduler answers at nowhere"):
        Cluster("nowhere", rebuild, "{}", None, "cpu", str(tmp_path)).each(killed_once, [tmp_path])


def test_a_scheduler_without_workers_is_one_line(tmp_path):
    with running(tmp_path, 0) as empty, pytest.raises(UsageError, match="has no workers; dask worker tcp"):
        Cluster(empty, rebuild, "{}", None, "cpu", str(tmp_path)).each(killed_once, [tmp_path])
