"""Work in other processes: done, in the run's own folder, and with one line where it fails."""

import os

import pytest
import torch
from work import die, fail, note

from advbench.errors import AdvbenchError, UsageError
from advbench.runs import Run
from advbench.study import Study


@pytest.fixture
def make(tmp_path):
    config = {"recipe": "r", "preset": "small", "dataset": "d", "seed": 0, "note": "", "settings": [], "config": {}}
    run = Run(tmp_path / "run", config)
    return lambda workers: Study(None, run, None, None, torch.device("cpu"), 0, workers)


def test_one_worker_is_this_process_on_one_thread(make):
    threads = torch.get_num_threads()
    study = make(1)
    study.each(note, ["a", "b"])
    said = [(study.run.directory / f"{name}.txt").read_text() for name in "ab"]
    assert said == [f"{os.getpid()} 1"] * 2 and torch.get_num_threads() == threads


def test_two_workers_are_other_processes_on_one_thread_each(make):
    study = make(2)
    study.each(note, ["a", "b", "c"])
    said = [(study.run.directory / f"{name}.txt").read_text().split() for name in "abc"]
    assert str(os.getpid()) not in {pid for pid, _ in said} and {threads for _, threads in said} == {"1"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_in_a_worker_reaches_the_caller(make, workers):
    with pytest.raises(UsageError, match="no a"):
        make(workers).each(fail, ["a", "b"])


def test_a_worker_that_dies_is_one_line(make):
    with pytest.raises(AdvbenchError, match="a worker process died"):
        make(2).each(die, ["a", "b"])


def test_a_recipe_by_path_has_one_worker(make):
    from types import ModuleType

    module = ModuleType("advbench_recipe_mine")
    exec("def work(study, item): (study.run.directory / item).write_text('x')", vars(module))
    import sys

    sys.modules[module.__name__] = module
    try:
        study = make(2)
        study.each(module.work, ["a", "b"])
    finally:
        del sys.modules[module.__name__]
    assert (study.run.directory / "b").exists()
