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
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Thread
from typing import Any, TypeVar

import torch

from advbench import progress
from advbench.errors import AdvbenchError

Context = TypeVar("Context")
Item = TypeVar("Item")


class Workers:
    """The processes that do the independent pieces of one study.

    They start with the first pieces and end with :meth:`stop`. On a CPU each piece computes on one thread, so that the
    number of workers changes no result; and small networks gain little from a second one.

    :param count: how many; 1 for this process alone.
    """

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Workers, ()  # a worker has none of its own

    def each(
        self,
        context: Context,
        device: torch.device,
        log_to_file: Callable[[], Any],
        work: Callable[[Context, Item], Any],
        items: Sequence[Item],
    ) -> None:
        """Call ``work(context, item)`` for every item; what it makes must be kept by a run.

        :param context: is sent to the workers once, with the first pieces.
        :param log_to_file: makes a worker log to the run's file as well.
        :param work: a function of a module that other processes can import; the work of a recipe given by path is done
            in this process. The same is true of functions among the items.
        :raises AdvbenchError: if a worker process died.
        """
        importable = all(_importable(function) for function in (work, *_functions(items)))
        if self.count > 1 and len(items) > 1 and not importable:
            progress.log.warning("a recipe given by path has one worker")
        if self.count <= 1 or not importable or (self._pool is None and len(items) <= 1):
            with one_thread(device):
                for item in progress.track(items, "stages", len(items)):
                    work(context, item)
            return
        pool = self._started(context, device, log_to_file)
        try:
            running = [pool.submit(_work, work, item) for item in items]
            for done in progress.track(running, f"stages, {self.count} at a time", len(items), alone=False):
                done.result()
        except BrokenProcessPool as error:
            raise AdvbenchError("a worker process died; the same command goes on from here") from error

    def stop(self) -> None:
        """End all processes at once; pieces that are not finished are given up."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for worker in active_children():
                worker.terminate()
            self._pool = None
            self._file.unlink(missing_ok=True)

    def _started(self, context: Any, device: torch.device, log_to_file: Callable[[], Any]) -> ProcessPoolExecutor:
        if self._pool is None:
            # by a file: a process that dies before it has read a long message leaves its parent writing for ever
            with NamedTemporaryFile(suffix=".study", delete=False) as file:
                pickle.dump((context, device, log_to_file), file)
            self._pool = ProcessPoolExecutor(self.count, get_context("spawn"), _begin, (file.name,))
            self._file = Path(file.name)
        return self._pool


def _functions(items: Sequence[Any]) -> Iterator[Callable]:
    """The functions and classes among the items and among the members of tuples."""
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


_context: Any = None  # of this worker process


def _begin(path: str) -> None:
    global _context
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Thread(target=_end_with_parent, daemon=True).start()
    with open(path, "rb") as stream:
        _context, device, log_to_file = pickle.load(stream)  # noqa: S301 the parent wrote it, for its own user
    progress.log_in_child()
    log_to_file()
    if device.type == "cpu":
        torch.set_num_threads(1)


def _end_with_parent() -> None:
    """A parent that was killed holds its run no more: another process may compute there now."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(work: Callable[[Any, Item], Any], item: Item) -> None:
    work(_context, item)
