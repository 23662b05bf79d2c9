"""The run directory: it keeps what a recipe computes, stage by stage, so that the same command goes on where it stopped."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from logging import ERROR, FileHandler, Formatter, Handler
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from advbench.errors import AdvbenchError, UsageError, printable_json
from advbench.files import check_tree, read_json, sweep, unfinished, write, write_text
from advbench.metrics import COLUMNS
from advbench.progress import log
from advbench.seeds import derive, own_global_state
from advbench.study import stages
from advbench.study.claims import Finding
from advbench.study.environment import environment
from advbench.study.schema import About, typed
from advbench.study.store import Store

History = list[dict[str, Any]]
"""One dict an epoch of a training."""

Training = tuple[Callable[[Path], Any], History]
"""The result of a training: a function that saves it to a path, and its history."""


class Run:
    """One run directory.

    ::

        config.json       the request: recipe, preset, data set, seed, every config field
        environment.json  what it ran on: versions, commit, machine, device
        about.json        the question and the claims of the recipe, its name on the command line, the folder of the data
        results.csv       one row a figure
        exhibits.json     the charts and tables of the page, in order
        report.html       the page
        log.txt           the log, with times
        models/           weights as safetensors, one csv of epochs a training
        arrays/           adversarial images and index sets, npy
        tables/           the rows of each stage, csv
        charts/           one Vega-Lite specification and one SVG an exhibit
        explorer/         images, perturbations, probabilities and scores for the page's explorer
        checksums.json    checksums of results.csv and of all other files that the page draws
        checkpoints/      trainings that are not finished
        stages/           one json a finished stage: its files, their checksums, its seconds

    :param directory: is made if it is not there.
    :param config: the request, as JSON-serialisable values.
    :param store: where finished stages are shared with other machines.
    :param grows: config fields that may be larger than those of a run that is in the directory already: it gets further
        stages, and its finished ones stay.
    :raises UsageError: if the directory holds a run of another request, or a symbolic link, or cannot be written.
    """

    def __init__(
        self, directory: Path, config: Mapping[str, Any], store: Store | None = None, grows: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self.config = dict(config)
        self.store = store
        self._grown = False
        known = directory / "config.json"
        request = json.dumps(self.config, indent=2) + "\n"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            check_tree(directory)
            if known.is_file():
                self._grown = _grown(directory, _read_config(known), json.loads(request), grows)
            elif set(directory.iterdir()) - set(unfinished(known)):
                raise UsageError(f"{directory} is not empty and not a run; choose another --out")
            else:
                write_text(known, request)
        except OSError as error:
            raise UsageError(f"{directory} cannot be used as a run directory: {error.strerror}") from error
        self._tables: list[pd.DataFrame] = []
        self._exhibits: list[dict[str, Any]] = []
        self._drawn: dict[str, str] = {}
        self._inside = 0.0  # seconds of the stages inside of the running one
        self._about = About()

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Copy what is logged to log.txt for as long as the context lasts."""
        handler = self.log_to_file()
        try:
            yield
        except AdvbenchError:
            raise
        except Exception:  # the terminal shows one line of it
            error = ERROR, __file__, 0, "stopped by an error", (), sys.exc_info()
            handler.handle(log.makeRecord(log.name, *error))
            raise
        finally:
            log.removeHandler(handler)
            handler.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the directory: no other process computes in it as long as the context lasts.

        A process that died never blocks it, and its unfinished files are removed.

        :raises UsageError: if another process holds the lock.
        """
        lock = FileLock(self.directory / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(
                f"another process computes in {self.directory}; wait for it, or choose another --out"
            ) from error
        except OSError as error:
            raise UsageError(f"{self.directory} cannot be used as a run directory: {error.strerror}") from error
        try:
            sweep(self.directory)
            if self._grown:  # not before the directory is ours
                write_text(self.directory / "config.json", json.dumps(self.config, indent=2) + "\n")
            yield
        finally:
            lock.release()

    def log_to_file(self) -> Handler:
        """Copy what this process logs to log.txt from now on."""
        handler = FileHandler(self.directory / "log.txt")
        handler.setFormatter(Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
        return handler

    def record_environment(self, device: str) -> None:
        """Write environment.json; the date is that of the first time, the peak memory the largest since then."""
        path, found = self.directory / "environment.json", environment(device)
        # no file yet, a damaged one, or a system that does not know its memory
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            before = read_json(path)
            found["made"] = before.get("made", "")  # an earlier version wrote none
            memory = before["peak memory"], found["peak memory"]
            found["peak memory"] = max(memory, key=lambda text: float(text.removesuffix(" GiB")))
        write_text(path, json.dumps(found, indent=2) + "\n")

    def record_about(self, about: About) -> None:
        """Write about.json."""
        write_text(self.directory / "about.json", about.model_dump_json(indent=2) + "\n")
        self._about = about

    def record_answer(self, found: Iterable[Finding]) -> None:
        """Write the answer of the finished study to about.json."""
        self.record_about(self._about.model_copy(update={"answer": list(found)}))

    def arrays(self, stage: str, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The named arrays of a stage, memory-mapped; ``make`` computes them where the stage is not finished."""

        def keep() -> list[Path]:
            paths = []
            for name, array in make().items():
                path = self.directory / "arrays" / stage / f"{name}.npy"
                write(path, partial(np.save, arr=array))
                paths.append(path)
            return paths

        files = self._stage(stage, keep)
        shutil.rmtree(self.pieces(stage), ignore_errors=True)
        return {path.stem: np.load(path, mmap_mode="r") for path in files}

    def pieces(self, stage: str) -> Path:
        """The folder of what a stage has finished so far; it goes when the arrays of the stage are kept."""
        return self.directory / "checkpoints" / stage

    def trained(self, stage: str, train: Callable[[Path], Training], **columns: Any) -> Path:
        """The weights file of a stage; its history, one row an epoch, is kept beside it.

        :param train: is given a checkpoint file to resume from.
        :param columns: what every row of the history has in common; :meth:`histories` gives back those that have some.
        """
        path = self.directory / "models" / f"{stage}.safetensors"
        checkpoint = self.directory / "checkpoints" / f"{stage}.safetensors"

        def keep() -> list[Path]:
            checkpoint.parent.mkdir(exist_ok=True)
            save, history = train(checkpoint)
            path.parent.mkdir(exist_ok=True)
            save(path)
            epochs = path.with_suffix(".csv")
            table = pd.DataFrame(history).assign(**columns)
            write(epochs, lambda stream: table.to_csv(stream, index=False))
            return [path, epochs]

        self._stage(stage, keep)
        checkpoint.unlink(missing_ok=True)
        return path

    def histories(self) -> pd.DataFrame:
        """The histories of all trainings that were kept with columns of their own, ``training`` among them."""
        tables = (pd.read_csv(path) for path in sorted((self.directory / "models").glob("*.csv")))
        return pd.concat([table for table in tables if "training" in table], ignore_index=True)

    def table(self, stage: str, make: Callable[[], Iterable[dict[str, Any]]]) -> pd.DataFrame:
        """The result rows of a stage, without adding them to results.csv."""
        path = self.directory / "tables" / f"{stage}.csv"

        def keep() -> list[Path]:
            table = pd.DataFrame(list(make()), columns=list(COLUMNS))
            write(path, lambda stream: table.to_csv(stream, index=False))
            return [path]

        self._stage(stage, keep)
        return typed(pd.read_csv(path))

    def rows(self, stage: str, make: Callable[[], Iterable[dict[str, Any]]]) -> pd.DataFrame:
        """The result rows of a stage; they join results.csv in the order of the calls."""
        table = self.table(stage, make)
        self.add(table)
        return table

    def add(self, table: pd.DataFrame) -> None:
        """Add rows to results.csv that belong to no stage: they are computed anew by every command."""
        self._tables.append(typed(table))
        self.write_results()

    def results(self) -> pd.DataFrame:
        """All rows so far, with every column of results.csv."""
        merged = pd.concat([typed(pd.DataFrame()), *self._tables], ignore_index=True)
        merged = merged.assign(recipe=self.config["recipe"], dataset=self.config["dataset"])
        merged["seed"] = merged.seed.fillna(self.config["seed"])
        merged["note"] = self.config["note"] or merged.note
        if self._about.undecided:
            merged["note"] = merged.note.fillna(self._about.undecided)
        return typed(merged)

    def write_results(self) -> None:
        """Write results.csv from the rows so far."""
        write(self.directory / "results.csv", lambda stream: self.results().to_csv(stream, index=False))
        self._record([self.directory / "results.csv"])

    def adopt(self, source: Path, recipe: str, wanted: Sequence[str]) -> dict[str, Any]:
        """Copy finished stages of another run of the same data and seed, where this one has not finished them itself.

        :param recipe: the recipe of the other run.
        :param wanted: the names of the stages, with wildcards.
        :return: the request of the other run.
        :raises UsageError: if it is no such run, or one of other data or another seed, or has no such stage.
        """
        known = source / "config.json"
        if not known.is_file():
            raise UsageError(f"{source} is not a run directory: it has no config.json")
        check_tree(source)
        request = _read_config(known)
        for key, needed in (("recipe", recipe), ("dataset", self.config["dataset"]), ("seed", self.config["seed"])):
            if request.get(key) != needed:
                raise UsageError(f"{source} holds a run with {key} = {request.get(key)}, needed is {needed}")
        for pattern in wanted:
            found = sorted((source / "stages").glob(f"{pattern}.json"))
            if not found:
                raise UsageError(f"{source} has no finished stage {pattern}; run its recipe to the end first")
            for marker in found:
                if not stages.marker(self.directory, marker.stem).exists():
                    Store(str(source)).fetch(marker.stem, self.directory)
        return request

    def take_in(self) -> None:
        """Copy into this directory the stages that other machines have finished."""
        if self.store is None:
            return
        for name in self.store.finished():
            if not stages.marker(self.directory, name).exists():
                self.store.fetch(name, self.directory)

    def explorer(self, make: Callable[[], Mapping[str, bytes]]) -> None:
        """Keep the files of the page's explorer, which ``make`` gives (``report.bundle``) where they are not kept yet."""

        def keep() -> list[Path]:
            files = {self.directory / "explorer" / name: content for name, content in make().items()}
            for path, content in files.items():
                write(path, methodcaller("write", content))
            return list(files)

        self._record(self._stage("explorer", keep))

    def exhibit(
        self,
        name: str,
        title: str,
        caption: str,
        chart: Any = None,
        table: pd.DataFrame | None = None,
        claims: Sequence[str] = (),
    ) -> None:
        """Add a chart (Altair), a table, or both to the page.

        :param claims: the ids of the report's claims that this exhibit shows.
        """
        entry: dict[str, Any] = {"name": name, "title": title, "caption": caption, "claims": list(claims)}
        drawn = [self.directory / "exhibits.json"]
        if chart is not None:
            import vl_convert

            specification, picture = (self.directory / "charts" / f"{name}{end}" for end in (".vl.json", ".svg"))
            text = json.dumps(printable_json(json.loads(chart.to_json())), indent=2, sort_keys=True)
            write_text(specification, text + "\n")
            write_text(picture, vl_convert.vegalite_to_svg(text))
            entry["chart"] = f"charts/{specification.name}"
            drawn += [specification, picture]
        if table is not None:
            entry["table"] = json.loads(table.to_json(orient="split", index=False, double_precision=6))
        self._exhibits.append(entry)
        write_text(drawn[0], json.dumps(self._exhibits, indent=1) + "\n")
        self._record(drawn)

    def _record(self, drawn: Iterable[Path]) -> None:
        """Keep the checksums of files that the page draws."""
        self._drawn |= stages.checksums(self.directory, drawn)
        write_text(self.directory / "checksums.json", json.dumps(self._drawn, indent=1) + "\n")

    def _stage(self, name: str, keep: Callable[[], list[Path]]) -> list[Path]:
        files = stages.finished(self.directory, name)
        if files is None and self.store is not None and self.store.fetch(name, self.directory):
            files = stages.finished(self.directory, name)
        if files is not None:
            log.info("%s: finished before", name)
        else:
            log.info("%s ...", name)
            start, outside = time.monotonic(), self._inside
            self._inside = 0.0
            # by name: whatever draws without a seed of its own draws the same in every order, after every stop
            with own_global_state(derive(self.config["seed"], "stage", name)):
                files = keep()
            whole = time.monotonic() - start
            seconds, self._inside = round(whole - self._inside, 1), outside + whole
            stages.finish(self.directory, name, files, seconds)
            log.info("%s: done in %.0f s", name, seconds)
        if self.store is not None:
            self.store.keep(name, self.directory, files)
        return files


def _grown(directory: Path, found: dict[str, Any], request: dict[str, Any], grows: Sequence[str]) -> bool:
    """Whether the request is that of a directory but for larger numbers in fields that may grow.

    :raises UsageError: if it differs in anything else.
    """
    old, new = ({**each, **each.get("config", {})} for each in (found, request))
    grown = False
    for key in sorted((old.keys() | new.keys()) - {"config", "settings"}):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if not (key in grows and isinstance(before, int) and isinstance(after, int) and after > before):
            raise UsageError(
                f"{directory} holds a run with {key} = {json.dumps(before)}, not {json.dumps(after)}; "
                "choose another --out"
            )
        log.info("%s: %s = %d, where it was %d", directory, key, after, before)
        grown = True
    return grown


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is damaged: the request of the run cannot be read; choose another --out") from error
