"""Independent pieces of a study, one after another or in several processes: the result is the same."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from tempfile import NamedTemporaryFile
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from advbench import progress
from advbench.errors import AdvbenchError

if TYPE_CHECKING:
    from advbench.study import Study

Item = TypeVar("Item")


def each(study: Study, work: Callable[[Study, Item], Any], items: Sequence[Item]) -> None:
    """Call ``work(study, item)`` for every item, in ``study.workers`` processes; what it makes must be kept by the run.

    On a CPU each piece computes on one thread, so the number of workers changes no result; and small networks gain
    little from a second one.

    :param work: a function of a module that other processes can import; of a recipe given by path, work is done
        in this process. The same is true of functions among the items.
    """
    workers = min(study.workers, len(items))
    if workers > 1 and not all(_importable(function) for function in (work, *_functions(items))):
        progress.log.warning("a recipe given by path has one worker")
        workers = 1
    if workers <= 1:
        with one_thread(study.device):
            for item in progress.track(items, "stages", len(items)):
                work(study, item)
        return
    with NamedTemporaryFile(suffix=".study") as kept:
        # by a file: a process that dies before it has read a long message leaves its parent writing for ever
        pickle.dump(study, kept)
        kept.flush()
        with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (kept.name,)) as pool:
            try:
                running = [pool.submit(_work, work, item) for item in items]
                for done in progress.track(running, f"stages, {workers} at a time", len(items)):
                    done.result()
            except BrokenProcessPool as error:
                raise AdvbenchError("a worker process died; the same command goes on from here") from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in active_children():
                    worker.terminate()
                raise


def _functions(items: Sequence[Any]) -> Iterator[Callable]:
    """Those that items are, or that tuples among them hold."""
    for item in items:
        if isinstance(item, tuple):
            yield from _functions(item)
        elif callable(item):
            yield item


def _importable(function: Callable) -> bool:
    module = sys.modules.get(function.__module__)
    return module is None or module.__spec__ is not None


def default_workers(device: torch.device) -> int:
    """One a core, at most four, for each holds its own libraries and data; one on a GPU."""
    return min(os.cpu_count() or 1, 4) if device.type == "cpu" else 1


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU compute on one thread as long as the context lasts."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


_study: Study | None = None  # of this worker process


def _begin(path: str) -> None:
    global _study
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Thread(target=_end_with_parent, daemon=True).start()
    with open(path, "rb") as stream:
        _study = study = pickle.load(stream)  # noqa: S301 the parent wrote it, for its own user
    progress.log_in_child()
    study.run.log_to_file()
    if study.device.type == "cpu":
        torch.set_num_threads(1)


def _end_with_parent() -> None:
    """A parent that was killed holds its run no more: another process may compute there now."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(work: Callable[[Study, Item], Any], item: Item) -> None:
    assert _study is not None
    work(_study, item)
