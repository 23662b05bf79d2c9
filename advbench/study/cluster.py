"""Independent pieces of a study on the machines of a Dask cluster, which share finished stages through a store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import joblib
import torch

from advbench import progress
from advbench.errors import AdvbenchError, UsageError, missing
from advbench.study.workers import AHEAD, Item, one_thread


@dataclass(frozen=True)
class Cluster:
    """A Dask scheduler, and the few hundred bytes from which its workers build the study anew.

    Every worker has advbench installed, and the data set in its own cache or at the same folder.

    :param scheduler: its address, such as ``tcp://10.0.0.1:8786``.
    :param build: makes the study anew from the run's config, a directory, the store, data_dir and device; a function of
        a module.
    :param request: the config of the run, as JSON.
    :param data_dir: the folder of the data set on every worker, None for its cache.
    :param device: of every worker: ``auto``, ``cpu``, ``cuda``.
    :param store: the URL where finished stages of this study are shared.
    """

    scheduler: str
    build: Callable[[dict[str, Any], Path, str, Path | None, str], Any]
    request: str
    data_dir: Path | None
    device: str
    store: str

    def each(self, work: Callable[[Any, Item], Any], items: Sequence[Item]) -> None:
        """Call ``work(study, item)`` for every item on the workers; the results are in the store afterwards.

        If a worker dies, another one does its piece again.

        :raises UsageError: if Dask is not installed, or no scheduler or no worker answers.
        :raises AdvbenchError: if workers died over one piece again and again.
        """
        if not items:
            return
        with connected(self.scheduler) as client, joblib.parallel_config("dask", client=client):
            done = joblib.Parallel(batch_size=1, pre_dispatch="all", return_as="generator_unordered")(
                joblib.delayed(_do)(self, work, item) for item in items
            )
            for _ in progress.track(done, "stages, on the cluster", len(items)):
                pass


@contextmanager
def connected(scheduler: str) -> Iterator[Any]:
    """A client of a Dask scheduler for as long as the context lasts.

    :raises UsageError: if Dask is not installed, or no scheduler or no worker answers.
    :raises AdvbenchError: if workers died over one piece again and again.
    """
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise missing("--scheduler needs Dask", "distributed") from error
    try:
        client = Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at {scheduler}") from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise UsageError(f"the Dask scheduler at {scheduler} has no workers; dask worker {scheduler}")
        try:
            yield client
        except KilledWorker as error:
            raise AdvbenchError(
                "workers of the cluster died over one stage again and again; the same command goes on from here"
            ) from error


def results(
    client: Any, context: Any, device: torch.device, work: Callable[[Any, Item], Any], items: Iterable[Item]
) -> Iterator[Any]:
    """What ``work(context, item)`` returns for every item, as they are done; ``AHEAD`` items a thread are in flight.

    :param client: of :func:`connected`.
    :param context: what ``client.scatter`` made of what all pieces need.
    :param device: of every worker.
    """
    from distributed import as_completed

    threads = sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())
    waiting = iter(items)

    def begin(most: int) -> list[Any]:
        return [client.submit(_compute, work, context, item, device, pure=False) for item in islice(waiting, most)]

    running = as_completed(begin(AHEAD * threads))
    for done in running:
        yield done.result()
        running.update(begin(1))


_one_at_a_time = Lock()  # recipes seed generators of the whole process


def _do(cluster: Cluster, work: Callable[[Any, Item], Any], item: Item) -> None:
    with _one_at_a_time:
        study, _ = _study(cluster)
        study.run.take_in()
        with one_thread(study.device):
            work(study, item)


def _compute(work: Callable[[Any, Item], Any], context: Any, item: Item, device: torch.device) -> Any:
    with _one_at_a_time, one_thread(device):
        return work(context, item)


@lru_cache(maxsize=1)
def _study(cluster: Cluster) -> tuple[Any, TemporaryDirectory]:
    """The study as this worker sees it, in a run directory of its own, which is removed at the end."""
    directory = TemporaryDirectory(prefix="advbench-")
    request = json.loads(cluster.request)
    return cluster.build(request, Path(directory.name), cluster.store, cluster.data_dir, cluster.device), directory
