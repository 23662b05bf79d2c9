"""Independent pieces of a study, one after another or in several processes: the result is the same."""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Thread
from typing import Any, TypeVar

import numpy as np
import torch

from advbench import progress
from advbench.errors import AdvbenchError

Context = TypeVar("Context")
Item = TypeVar("Item")
AHEAD = 2
"""Pieces in flight for each worker: one that it computes and one that waits."""


class Workers:
    """The processes that do the independent pieces of one study.

    They start with the first pieces and end with :meth:`stop`. On a CPU each piece computes on one thread, so that the
    number of workers changes no result; and small networks gain little from a second one.

    :param count: how many; 1 for this process alone.
    :param gpus: how many GPUs they share; each worker sees one of them alone. None for what this process sees.
    """

    def __init__(self, count: int = 1, gpus: int | None = None) -> None:
        self.count, self.gpus = count, gpus
        self._pool: ProcessPoolExecutor | None = None
        self._idle = True

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
        done = self.results(context, device, log_to_file, work, items)
        for _ in progress.track(done, f"stages, {self.count} at a time", len(items), alone=False):
            pass

    def results(
        self,
        context: Context,
        device: torch.device,
        log_to_file: Callable[[], Any] | None,
        work: Callable[[Context, Item], Any],
        items: Iterable[Item],
    ) -> Iterator[Any]:
        """What ``work(context, item)`` returns for every item, as they are done; ``AHEAD`` items a worker are in flight.

        The parameters and errors are those of :meth:`each`.
        """
        pool, waiting = self._started(context, device, log_to_file), iter(items)
        self._idle = False
        running = {pool.submit(_work, work, item) for item in islice(waiting, AHEAD * self.count)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                while done:
                    yield done.pop().result()
                    running |= {pool.submit(_work, work, item) for item in islice(waiting, 1)}
            self._idle = True
        except BrokenProcessPool as error:
            raise AdvbenchError("a worker process died; the same command goes on from here") from error

    def stop(self) -> None:
        """End all processes; at once where pieces are not finished, which are given up.

        Idle ones end by themselves: a terminated one leaves locks behind, of which Python warns on the terminal.
        """
        if self._pool is not None:
            self._pool.shutdown(wait=self._idle, cancel_futures=True)
            for worker in () if self._idle else active_children():
                worker.terminate()
            self._pool = None
            self._file.unlink(missing_ok=True)

    def _started(
        self, context: Any, device: torch.device, log_to_file: Callable[[], Any] | None
    ) -> ProcessPoolExecutor:
        if self._pool is None:
            # by a file: a process that dies before it has read a long message leaves its parent writing for ever
            with NamedTemporaryFile(suffix=".study", delete=False) as file:
                _Pickler(file).dump((context, device, log_to_file))
            processes = get_context("spawn")  # a copy of a process that has loaded torch may die in its threads
            begin = file.name, processes.Value("i", 0), self.gpus
            self._pool = ProcessPoolExecutor(self.count, processes, _begin, begin)
            self._file = Path(file.name)
        return self._pool


class _Pickler(pickle.Pickler):
    """Sends a mapped file by its place: every worker maps it, and they share its pages."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap) and value.mode == "r" and value.filename:
            order = "C" if value.flags.c_contiguous else "F"
            return np.memmap, (value.filename, value.dtype, "r", value.offset, value.shape, order)
        return NotImplemented


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


def _begin(path: str, number: Any, gpus: int | None) -> None:
    global _context
    with number:
        rank, number.value = number.value, number.value + 1
    if gpus is not None:  # before CUDA starts
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu_of(rank, gpus, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Thread(target=_end_with_parent, daemon=True).start()
    with open(path, "rb") as stream:
        _context, device, log_to_file = pickle.load(stream)  # noqa: S301 the parent wrote it, for its own user
    progress.log_in_child()
    if log_to_file is not None:
        log_to_file()
    if device.type == "cpu":
        torch.set_num_threads(1)


def gpu_of(rank: int, gpus: int, visible: str) -> str:
    """The GPU of a worker, as ``CUDA_VISIBLE_DEVICES`` names it.

    :param visible: those that this machine lends, in the same form; empty for all.
    """
    names = visible.split(",") if visible else [str(number) for number in range(gpus)]
    return names[rank % gpus]


def _end_with_parent() -> None:
    """A parent that was killed holds its run no more: another process may compute there now."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(work: Callable[[Any, Item], Any], item: Item) -> Any:
    return work(_context, item)
