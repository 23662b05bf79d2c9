"""What a recipe is handed: its config, its data, a device, a run to keep results in; and how one is started."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from advbench import data, stages
from advbench.cluster import Cluster
from advbench.data import Dataset
from advbench.device import resolve_device
from advbench.errors import DataUnavailable, UsageError
from advbench.progress import log
from advbench.recipe import Config, Recipe, configure, digest, find
from advbench.report import write_report
from advbench.runs import Run
from advbench.seeds import derive
from advbench.store import Store
from advbench.workers import Item, default_workers, each

Lab = TypeVar("Lab")


@dataclass(frozen=True)
class Study:
    """One execution of a recipe."""

    config: Any
    run: Run
    train: Dataset
    test: Dataset
    device: torch.device
    seed: int
    workers: int = 1
    cluster: Cluster | None = None

    def seed_of(self, *path: object) -> int:
        """The seed of a named part of the study."""
        return derive(self.seed, *path)

    def each(self, work: Callable[[Study, Item], Any], items: Sequence[Item]) -> None:
        """Do independent work in all workers, of this machine (:func:`advbench.workers.each`) or of a cluster."""
        if self.cluster is not None:
            self.cluster.each(work, items)
            self.run.take_in()
        else:
            each(self, work, items)

    def measure(self, laboratory: Callable[[Study], Lab], measurements: Sequence[tuple[Any, ...]]) -> Lab:
        """Make the result rows of independent stages as ``each`` does its work; they join results.csv in this order.

        :param laboratory: what the measurements share, made of the study in every process.
        :param measurements: of each the name of its stage, a function of the laboratory and more, and what more.
        :return: the laboratory of this process.
        """
        todo = [part for part in measurements if stages.finished(self.run.directory, part[0]) is None]
        self.each(_measure, [(laboratory, *part) for part in todo])
        lab = laboratory(self)
        for stage, make, *more in measurements:
            self.run.rows(stage, partial(make, lab, *more))
        return lab


def _measure(study: Study, item: tuple[Any, ...]) -> None:
    laboratory, stage, make, *more = item
    study.run.table(stage, lambda: make(laboratory(study), *more))


def datasets(
    recipe: Recipe, config: Config, preset: str, dataset: str, data_dir: Path | None
) -> tuple[Dataset, Dataset, str]:
    """Training and test images to run on, and what to say about them: empty where they are the recipe's own.

    ``auto`` takes the recipe's own and, in presets quick and small only, the embedded digits where those cannot be had.

    :raises DataUnavailable: where no source has them and nothing may stand in for them.
    """
    name = recipe.dataset if dataset == "auto" else dataset
    try:
        train, test = _load(recipe, config, name, data_dir)
    except DataUnavailable as error:
        if dataset != "auto" or preset == "paper":
            raise
        log.warning("%s", error)
        note = f"{recipe.dataset} could not be had: embedded {data.AUTO_FALLBACK} in its place"
        return *_load(recipe, config, data.AUTO_FALLBACK, None), note
    return (
        train,
        test,
        train.note if name == recipe.dataset else f"{name} instead of the report's {recipe.dataset}, as asked",
    )


def _load(recipe: Recipe, config: Config, name: str, data_dir: Path | None) -> tuple[Dataset, Dataset]:
    """Of the recipe's own data set what its config asks for, of the embedded one the shape."""
    options = {"shape": recipe.embedded_shape, **(config.data_options() if name == recipe.dataset else {})}
    return data.load(name, "train", data_dir, **options), data.load(name, "test", data_dir, **options)


def start(
    recipe: Recipe,
    preset: str = "quick",
    dataset: str = "auto",
    data_dir: Path | None = None,
    out: Path | None = None,
    device: str = "auto",
    seed: int = 0,
    settings: tuple[str, ...] = (),
    workers: int | None = None,
    store: str | None = None,
    scheduler: str | None = None,
) -> Run:
    """Run a recipe to its end, or on from where it was stopped, and write its page.

    :param workers: processes for the independent pieces of a recipe that has them, by default one a core, at most four,
        and one on a GPU; they change no result.
    :param store: a folder or fsspec URL: finished stages are taken from there and brought there.
    :param scheduler: the address of a Dask scheduler: the independent pieces are done by its workers. Needs a store.

    :raises UsageError: for a wrong preset, setting, device, directory, store or scheduler.
    :raises DataUnavailable: where the data set cannot be had.
    """
    config: Config = configure(recipe, preset, settings)
    where = resolve_device(device)
    if scheduler is not None and store is None:
        raise UsageError("--scheduler needs --store: through it the workers share what they finish")
    if scheduler is not None and recipe.file:
        raise UsageError("--scheduler needs a recipe that is installed: other machines do not have the file")
    everyones = None if store is None else Store(store)
    train, test, note = datasets(recipe, config, preset, dataset, data_dir)
    name = train.name
    asked: dict[str, Any] = {
        "recipe": recipe.name,
        "preset": preset,
        "dataset": name,
        "note": note,
        "seed": seed,
        "settings": list(settings),
        "config": config.model_dump(mode="json"),
    }
    if (fingerprint := _fingerprint(train, test)) is not None:
        asked["fingerprint"] = fingerprint
    directory = out or Path("runs") / f"{recipe.name}-{preset}-{name}-{digest(asked)}"
    shared = None if everyones is None else everyones.of(digest(asked))
    run = Run(directory, asked, shared)
    cluster = scheduler and shared and Cluster(scheduler, json.dumps(asked), data_dir, device, shared.url)
    with run.alone(), run.logging():
        run.record_environment(str(where))
        run.record_about(recipe.question, recipe.file or recipe.name, str(data_dir or ""))
        log.info("%s, preset %s, on %s, %s; results in %s", recipe.name, preset, name, where, directory)
        if shared is not None:
            log.info("finished stages are shared in %s", shared.url)
        if note:
            log.warning("DATA: %s", note)
        for part in filter(None, (train.left_out, test.left_out)):
            log.warning("%s", part)
        recipe.body(Study(config, run, train, test, where, seed, workers or default_workers(where), cluster or None))
        run.write_results()
        run.record_environment(str(where))  # once more, for the peak memory
        page = write_report(directory)
        log.info("report: %s", page)
    return run


def rebuild(asked: dict[str, Any], directory: Path, store: str, data_dir: Path | None, device: str) -> Study:
    """The study that another machine started, with a run directory of this one and the store of both.

    :param asked: what the run was asked, as its config.json says.
    :param store: the part of the store that is this study's.
    :raises UsageError: if this machine has no such recipe or device, or other images.
    :raises DataUnavailable: where the data set cannot be had.
    """
    recipe = find(asked["recipe"])
    config = type(recipe.presets[asked["preset"]])(**asked["config"])
    train, test = _load(recipe, config, asked["dataset"], data_dir)
    if asked.get("fingerprint") != _fingerprint(train, test):
        raise UsageError(f"the images of {asked['dataset']} on {platform.node()} are not those of the study")
    run = Run(directory, asked, Store(store))
    return Study(config, run, train, test, resolve_device(device), asked["seed"])


def _fingerprint(train: Dataset, test: Dataset) -> str | None:
    """Of a folder's images; which the others are says their name."""
    return f"{train.fingerprint} {test.fingerprint}" if train.ids else None
