"""Work in other processes: it is done in the run's own folder, and a failure is one line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from work import Notes, die, do, fail, note, row

from advbench.errors import AdvbenchError, UsageError
from advbench.study import Run, Study
from advbench.study.workers import Workers


@pytest.fixture
def make(tmp_path):
    config = {"recipe": "r", "preset": "small", "dataset": "d", "seed": 0, "note": "", "settings": [], "config": {}}
    run = Run(tmp_path / "run", config)
    started = []

    def study(count):
        started.append(Workers(count))
        return Study(None, run, None, None, torch.device("cpu"), 0, started[-1])

    yield study
    for workers in started:
        workers.stop()


def test_one_worker_is_this_process_on_one_thread(make):
    threads = torch.get_num_threads()
    study = make(1)
    study.each(note, ["a", "b"])
    text = [(study.run.directory / f"{name}.txt").read_text() for name in "ab"]
    assert text == [f"{os.getpid()} 1"] * 2 and torch.get_num_threads() == threads


def test_two_workers_are_other_processes_on_one_thread_each(make):
    study = make(2)
    study.each(note, ["a", "b", "c"])
    text = [(study.run.directory / f"{name}.txt").read_text().split() for name in "abc"]
    assert str(os.getpid()) not in {pid for pid, _ in text} and {threads for _, threads in text} == {"1"}


def test_two_workers_are_the_same_processes_for_all_work_of_a_study(make):
    study = make(2)
    study.each(note, ["a", "b", "c"])
    first = {(study.run.directory / f"{name}.txt").read_text() for name in "abc"}
    study.each(note, ["d"])
    assert (study.run.directory / "d.txt").read_text() in first


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_in_a_worker_reaches_the_caller(make, workers):
    with pytest.raises(UsageError, match="no [ab]"):
        make(workers).each(fail, ["a", "b"])


def test_a_worker_that_dies_is_one_line(make):
    with pytest.raises(AdvbenchError, match="a worker process died"):
        make(2).each(die, ["a", "b"])


@pytest.mark.parametrize("workers", [1, 2])
def test_measurements_are_made_once_in_the_workers_and_join_in_their_order(make, workers):
    study = make(workers)
    study.run.table("row-a-1", lambda: [{"metric": "cached", "value": 9.0}])
    study.measure_each(row, Notes(study), [("c", 3.0), ("a", 1.0), ("b", 2.0)], independent=True)
    found = study.run.results()
    assert found[["metric", "value"]].values.tolist() == [["c", 3.0], ["cached", 9.0], ["b", 2.0]]
    assert found.exhibit.tolist()[::2] == ["row"] * 2 and found.split.tolist()[::2] == ["test"] * 2
    assert not (study.run.directory / "a.txt").exists()
    processes = {(study.run.directory / f"{name}.txt").read_text().split()[0] for name in "bc"}
    assert (str(os.getpid()) in processes) is (workers == 1)


def test_two_stages_of_one_name_are_refused(make):
    study = make(1)
    with pytest.raises(AdvbenchError, match="two stages of row have the same name"):
        study.measure_each(row, Notes(study), [("a", 1.0), ("a", 1.0)])


@pytest.mark.parametrize("among_items", [False, True])
def test_a_recipe_by_path_has_one_worker(make, monkeypatch, among_items):
    module = ModuleType("advbench_file_mine")
    exec("def work(study, item): (study.run.directory / item).write_text('x')", vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    study = make(2)
    if among_items:
        study.each(do, [(module.work, "a"), (module.work, "b")])
    else:
        study.each(module.work, ["a", "b"])
    assert (study.run.directory / "b").exists()


def test_workers_that_are_done_leave_nothing_behind(tmp_path):
    """Python would say so on the user's terminal, after the last line of the study."""
    script = f"""
import torch
from pathlib import Path
from advbench.study import Run, Study
from advbench.study.workers import Workers
from work import hold_a_lock
if __name__ == "__main__":
    workers = Workers(2)
    run = Run(Path({str(tmp_path / "run")!r}), {{}})
    Study(None, run, None, None, torch.device("cpu"), 0, workers).each(hold_a_lock, ["a", "b", "c"])
    workers.stop()
"""
    (tmp_path / "study.py").write_text(script)
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, str(tmp_path / "study.py")], env=here, capture_output=True, timeout=120)
    assert done.returncode == 0 and done.stderr == b""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, how):
    """A worker that went on would write into a run that another process computes by now."""
    script = f"""
import sys, torch
from pathlib import Path
from advbench.study import Run, Study
from advbench.study.workers import Workers
from work import wait
if __name__ == "__main__":
    workers = Workers(2)
    try:
        run = Run(Path({str(tmp_path / "run")!r}), {{}})
        Study(None, run, None, None, torch.device("cpu"), 0, workers).each(wait, ["a", "b"])
    finally:
        workers.stop()
"""
    (tmp_path / "study.py").write_text(script)
    here = str(Path(__file__).parents[1])
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "study.py")],
        env={**os.environ, "PYTHONPATH": here},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    notes = [tmp_path / "run" / f"{name}.txt" for name in "ab"]
    eventually(lambda: all(note.exists() and note.read_text() for note in notes))
    workers = [int(note.read_text().split()[0]) for note in notes]
    assert all(alive(pid) for pid in workers)
    parent.send_signal(how)
    _, text = parent.communicate(timeout=60)
    assert parent.returncode != 0 and text.count(b"Traceback") == (how == signal.SIGINT)
    eventually(lambda: not any(alive(pid) for pid in workers))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path(f"/proc/{pid}/stat").exists() else True


def eventually(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
