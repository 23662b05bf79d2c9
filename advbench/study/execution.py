"""A recipe from its options to a finished run directory."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from advbench import data
from advbench.data import Dataset
from advbench.device import resolve_device
from advbench.errors import DataUnavailable, UsageError
from advbench.models import zoo
from advbench.progress import log
from advbench.seeds import derive, own_global_state
from advbench.study import pretrained
from advbench.study.cluster import Cluster
from advbench.study.config import C, changes, configure, digest
from advbench.study.registry import Recipe, find
from advbench.study.run import About, Run
from advbench.study.store import Store
from advbench.study.study import Study
from advbench.study.workers import Workers, default_workers


def start(
    recipe: Recipe[C],
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
    """Run a recipe to its end, or on from where it was stopped; ``report.write_report`` makes the page of the run.

    :param workers: processes for the independent pieces of a recipe that has them, by default one a core, at most four,
        and one on a GPU; they change no result.
    :param store: a folder or fsspec URL: finished stages are taken from there and brought there.
    :param scheduler: the address of a Dask scheduler: the independent pieces are done by its workers. Needs a store.

    :raises UsageError: for a wrong preset, setting, device, directory, store or scheduler.
    :raises DataUnavailable: where the data set cannot be had.
    """
    config = configure(recipe.preset(preset), settings)
    where = resolve_device(device)
    if scheduler is not None and store is None:
        raise UsageError("--scheduler needs --store: through it the workers share what they finish")
    if scheduler is not None and recipe.file:
        raise UsageError("--scheduler needs a recipe that is installed: other machines do not have the file")
    root = None if store is None else Store(store)
    train, test, note = datasets(recipe, config, preset, dataset, data_dir)
    name, instead = train.name, ""
    if name == data.AUTO_FALLBACK != recipe.dataset:
        own, config = config, configure(recipe.on_digits(preset), settings)
        instead = changes(own, config)
    is_own = name == recipe.dataset and not note
    networks, why_trained = pretrained.networks(recipe.name, recipe.pretrained, config, settings, is_own, name, seed)
    if recipe.pretrained is not None and networks:
        config = configure(recipe.pretrained.config(recipe.preset(preset), preset, networks), settings)
    request: dict[str, Any] = {
        "recipe": recipe.name,
        "preset": preset,
        "dataset": name,
        "note": note,
        "seed": seed,
        "settings": list(settings),
        "config": config.model_dump(mode="json"),
    }
    if networks:
        request["zoo"] = {stage: {"name": each, "sha256": zoo.index()[each]} for stage, each in networks.items()}
    if (fingerprint := _fingerprint(train, test)) is not None:
        request["fingerprint"] = fingerprint
    directory = out or Path("runs") / f"{recipe.name}-{preset}-{name}-{digest(request)}"
    shared = None if root is None else root.part(digest(request))
    run = Run(directory, request, shared, config.grows)
    cluster = None
    if scheduler is not None and shared is not None:
        cluster = Cluster(scheduler, rebuild, json.dumps(request), data_dir, device, shared.url)
    about = About(
        question=recipe.question,
        command=recipe.file or recipe.name,
        data_dir=str(data_dir or ""),
        undecided=recipe.undecided_by(preset, networks),
        claims=[{"id": claim.id, "says": claim.says} for claim in recipe.claims],
        report=recipe.report.short if recipe.report else "",
        report_title=f"report {recipe.report.id}: {recipe.report.title}" if recipe.report else "",
        instead=instead,
    )
    processes = Workers(workers or default_workers(where))
    with computing(run, about, where):
        log.info("%s, preset %s, on %s, %s; results in %s", recipe.name, preset, name, where, directory)
        if shared is not None:
            log.info("finished stages are shared in %s", shared.url)
        if note:
            log.warning("DATA: %s", note)
        if instead:
            log.info("settings for the digits, which the report's own change too little: %s", instead)
        for line in filter(None, ("the networks come from the zoo" if networks else "", why_trained)):
            log.info("%s", line)
        for part in filter(None, (train.left_out, test.left_out)):
            log.warning("%s", part)
        try:
            with own_global_state(derive(seed, "recipe")):
                trains = pretrained.trains(config, networks)
                recipe.body(Study(config, run, train, test, where, seed, processes, cluster, networks, trains))
        finally:
            processes.stop()
        if networks:
            before, here = pretrained.show_cards(run, networks)
            undecided = about.undecided or (here if preset in recipe.undecided else "")
            run.record_about(about.model_copy(update={"pretrained": before, "undecided": undecided}))
        rows = run.results()
        run.add(pd.DataFrame([claim.row(rows) for claim in recipe.claims]))
        run.record_answer(recipe.answer(rows))
    return run


@contextmanager
def computing(run: Run, about: About, device: torch.device) -> Iterator[None]:
    """The frame of every run: alone in its directory, logged, with what it ran on; results.csv is written at the end.

    :raises UsageError: if another process computes there.
    """
    with run.alone(), run.logging():
        run.record_environment(str(device))
        run.record_about(about)
        yield
        run.write_results()
        run.record_environment(str(device))  # once more, for the peak memory


def datasets(
    recipe: Recipe[C], config: C, preset: str, dataset: str, data_dir: Path | None
) -> tuple[Dataset, Dataset, str]:
    """Training and test images to run on, and a note where they are not the recipe's own, empty otherwise.

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
    own = f"the report's {recipe.dataset}" if recipe.report else recipe.dataset
    note = train.note if name == recipe.dataset else f"{name} instead of {own}, by --dataset"
    return train, test, note


def _load(recipe: Recipe[C], config: C, name: str, data_dir: Path | None) -> tuple[Dataset, Dataset]:
    """The recipe's own data set as its config wants it, another one as it is, and the digits in the recipe's shape."""
    if name == recipe.dataset and (own := config.data_options()):
        options = own
    else:
        options = {"shape": recipe.embedded_shape} if name == data.AUTO_FALLBACK else {}
    return data.load(name, "train", data_dir, **options), data.load(name, "test", data_dir, **options)


def rebuild(request: dict[str, Any], directory: Path, store: str, data_dir: Path | None, device: str) -> Study[Any]:
    """The study that another machine started, with a run directory of this one and the store of both.

    :param request: the request of the run, as its config.json has it.
    :param store: the part of the store that is this study's.
    :raises UsageError: if this machine has no such recipe or device, or other images.
    :raises DataUnavailable: where the data set cannot be had.
    """
    recipe = find(request["recipe"])
    config = type(recipe.preset(request["preset"]))(**request["config"])
    train, test = _load(recipe, config, request["dataset"], data_dir)
    if request.get("fingerprint") != _fingerprint(train, test):
        raise UsageError(f"the images of {request['dataset']} on {platform.node()} are not those of the study")
    networks = {stage: entry["name"] for stage, entry in request.get("zoo", {}).items()}
    if any(zoo.index().get(entry["name"]) != entry["sha256"] for entry in request.get("zoo", {}).values()):
        raise UsageError(f"the zoo of advbench on {platform.node()} is not that of the study; install the same version")
    run, where = Run(directory, request, Store(store)), resolve_device(device)
    trains = pretrained.trains(config, networks)
    return Study(config, run, train, test, where, request["seed"], zoo=networks, trains=trains)


def _fingerprint(train: Dataset, test: Dataset) -> str | None:
    """The fingerprint of a folder's images; the other data sets are identified by name."""
    return f"{train.fingerprint} {test.fingerprint}" if train.ids else None
