"""The run directory: what a recipe computed, kept stage by stage, so that the same command goes on where it stopped."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from logging import FileHandler, Formatter, Handler
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from advbench.errors import UsageError
from advbench.evaluation import COLUMNS
from advbench.files import read_json, sha256, sweep, write, write_text
from advbench.progress import log

Training = tuple[Callable[[Path], Any], list[dict[str, Any]]]
"""What a training hands back: a function that saves the result to a path, and one dict an epoch."""

_LIBRARIES = ("advbench", "adversarial-robustness-toolbox", "torch", "torchvision", "numpy", "pandas", "scikit-learn")


class Run:
    """One run directory.

    ::

        config.json       what was asked: recipe, preset, data set, seed, every config field
        environment.json  what it ran on: versions, commit, machine, device
        about.json        the question of the recipe, by what name it was started, and the folder of the data
        results.csv       one row a figure
        exhibits.json     the charts and tables of the page, in order
        report.html       the page
        log.txt           what was printed, with times
        models/           weights as safetensors, one csv of epochs a training
        arrays/           adversarial images and index sets, npy
        tables/           the rows of each stage, csv
        charts/           one Vega-Lite specification and one SVG an exhibit
        explorer/         images, perturbations, probabilities and scores that the page lets a reader look through
        checksums.json    of results.csv and of what the page draws
        checkpoints/      trainings that are not finished
        stages/           one json a finished stage: its files, their checksums, its seconds

    :param directory: where it is; made if it is not there.
    :param config: what was asked, as JSON-serialisable values.
    :raises UsageError: if the directory holds a run that was asked something else, or a symbolic link, or cannot be
        written.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        self.directory = directory
        self.config = dict(config)
        known = directory / "config.json"
        asked = json.dumps(self.config, indent=2) + "\n"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _refuse_links(directory)
            if known.is_file():
                _refuse_other(directory, _read_config(known), json.loads(asked))
            elif any(directory.iterdir()):
                raise UsageError(f"{directory} is not empty and not a run; choose another --out")
            else:
                write_text(known, asked)
        except OSError as error:
            raise UsageError(f"{directory} cannot be used as a run directory: {error.strerror}") from error
        self._tables: list[pd.DataFrame] = []
        self._exhibits: list[dict[str, Any]] = []
        self._checksums: dict[str, str] = {}
        self._inside = 0.0  # seconds of the stages that the running stage asked for

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Copy what is logged to log.txt for as long as the context lasts."""
        handler = self.log_to_file()
        try:
            yield
        finally:
            log.removeHandler(handler)
            handler.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process computes in this directory as long as the context lasts; a dead one never stands in the way.

        What a dead one was writing is removed.

        :raises UsageError: if another does.
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
        """Write environment.json."""
        write_text(self.directory / "environment.json", json.dumps(environment(device), indent=2) + "\n")

    def record_about(self, question: str, asked_for: str, data_dir: str = "") -> None:
        """Write about.json: what the study asks, which the page states first, and how it was started.

        :param asked_for: the recipe's name or path.
        :param data_dir: the folder that holds the data set, empty where none was given.
        """
        about = {"question": question, "asked_for": asked_for, "data_dir": data_dir}
        write_text(self.directory / "about.json", json.dumps(about, indent=2) + "\n")

    def arrays(self, stage: str, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The named arrays of a stage, memory-mapped; ``make`` computes them where they are not kept yet."""

        def keep() -> list[Path]:
            paths = []
            for name, array in make().items():
                path = self.directory / "arrays" / stage / f"{name}.npy"
                write(path, partial(np.save, arr=array))
                paths.append(path)
            return paths

        files = self._stage(stage, keep)
        return {path.stem: np.load(path, mmap_mode="r") for path in files}

    def trained(self, stage: str, train: Callable[[Path], Training]) -> Path:
        """The weights file of a stage; its history, one row an epoch, is kept beside it.

        :param train: is given a checkpoint file to resume from.
        """
        path = self.directory / "models" / f"{stage}.safetensors"
        checkpoint = self.directory / "checkpoints" / f"{stage}.safetensors"

        def keep() -> list[Path]:
            checkpoint.parent.mkdir(exist_ok=True)
            save, history = train(checkpoint)
            path.parent.mkdir(exist_ok=True)
            save(path)
            epochs = path.with_suffix(".csv")
            write(epochs, lambda stream: pd.DataFrame(history).to_csv(stream, index=False))
            return [path, epochs]

        self._stage(stage, keep)
        checkpoint.unlink(missing_ok=True)
        return path

    def rows(self, stage: str, make: Callable[[], Iterable[dict[str, Any]]]) -> pd.DataFrame:
        """The result rows of a stage; they join results.csv in the order of the calls."""
        path = self.directory / "tables" / f"{stage}.csv"

        def keep() -> list[Path]:
            table = pd.DataFrame(list(make()), columns=COLUMNS)
            write(path, lambda stream: table.to_csv(stream, index=False))
            return [path]

        self._stage(stage, keep)
        table = pd.read_csv(path)
        self._tables.append(table)
        self.write_results()
        return table

    def results(self) -> pd.DataFrame:
        """All rows so far, with every column of results.csv."""
        tables = [table.dropna(axis=1, how="all") for table in self._tables]
        merged = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        merged = merged.reindex(columns=COLUMNS)
        for column in ("recipe", "dataset", "note"):
            merged[column] = self.config[column]
        merged["seed"] = merged.seed.fillna(self.config["seed"]).astype(int)
        return merged

    def write_results(self) -> None:
        """Write results.csv from the rows so far."""
        write(self.directory / "results.csv", lambda stream: self.results().to_csv(stream, index=False))
        self._record("results.csv")

    def adopt(self, source: Path, recipe: str, stages: Sequence[str]) -> dict[str, Any]:
        """Copy finished stages of another run of the same data and seed, where this one has not finished them itself.

        :param recipe: which the other must be of.
        :param stages: their names, with wildcards.
        :return: what the other was asked.
        :raises UsageError: if it is no such run, or one of other data or another seed, or has no such stage.
        """
        known = source / "config.json"
        if not known.is_file():
            raise UsageError(f"{source} is not a run directory: it has no config.json")
        asked = _read_config(known)
        for key, wanted in (("recipe", recipe), ("dataset", self.config["dataset"]), ("seed", self.config["seed"])):
            if asked.get(key) != wanted:
                raise UsageError(f"{source} holds a run with {key} = {asked.get(key)}, needed is {wanted}")
        for pattern in stages:
            found = sorted((source / "stages").glob(f"{pattern}.json"))
            if not found:
                raise UsageError(f"{source} has no finished stage {pattern}; run its recipe to the end first")
            for marker in found:
                here = self.directory / "stages" / marker.name
                if here.exists() or (files := _intact(marker, source)) is None:
                    continue
                for path in (*files, marker):
                    to = self.directory / path.relative_to(source)
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, to)
        return asked

    def explorer(self, make: Callable[[], Mapping[str, bytes]]) -> None:
        """Keep the files of the page's explorer; ``make`` is asked for them (``report.bundle``) where they are not kept yet."""

        def keep() -> list[Path]:
            files = {self.directory / "explorer" / name: content for name, content in make().items()}
            for path, content in files.items():
                write(path, methodcaller("write", content))
            return list(files)

        self._stage("explorer", keep)

    def exhibit(
        self,
        name: str,
        title: str,
        caption: str,
        chart: Any = None,
        table: pd.DataFrame | None = None,
        targets: Sequence[str] = (),
    ) -> None:
        """Add a chart (Altair), a table, or both to the page.

        :param targets: the claims of the report that this exhibit shows.
        """
        entry: dict[str, Any] = {"name": name, "title": title, "caption": caption, "targets": list(targets)}
        if chart is not None:
            import vl_convert

            spec = chart.to_json()
            write_text(self.directory / "charts" / f"{name}.vl.json", spec + "\n")
            write_text(self.directory / "charts" / f"{name}.svg", vl_convert.vegalite_to_svg(spec))
            entry["chart"] = f"charts/{name}.vl.json"
            self._record(entry["chart"], f"charts/{name}.svg")
        if table is not None:
            entry["table"] = json.loads(table.to_json(orient="split", index=False, double_precision=6))
        self._exhibits.append(entry)
        write_text(self.directory / "exhibits.json", json.dumps(self._exhibits, indent=1) + "\n")
        self._record("exhibits.json")

    def _record(self, *files: str) -> None:
        """Keep the checksums of files that no stage does."""
        self._checksums |= {file: sha256(self.directory / file) for file in files}
        write_text(self.directory / "checksums.json", json.dumps(self._checksums, indent=1) + "\n")

    def _stage(self, name: str, keep: Callable[[], list[Path]]) -> list[Path]:
        marker = self.directory / "stages" / f"{name}.json"
        kept = _intact(marker, self.directory)
        if kept is not None:
            log.info("%s: kept", name)
            return kept
        log.info("%s ...", name)
        start, outside = time.monotonic(), self._inside
        self._inside = 0.0
        files = keep()
        whole = time.monotonic() - start
        seconds, self._inside = round(whole - self._inside, 1), outside + whole
        checksums = {str(path.relative_to(self.directory)): sha256(path) for path in files}
        write_text(marker, json.dumps({"seconds": seconds, "ended": time.time(), "files": checksums}, indent=1) + "\n")
        log.info("%s: done in %.0f s", name, seconds)
        return files


def stage_seconds(directory: Path) -> dict[str, float]:
    """The wall-clock seconds of each finished stage alone, in the order in which they ended.

    A training counts the seconds of all its epochs, those before an interruption included.
    """
    markers = {path.stem: read_json(path) for path in (directory / "stages").glob("*.json")}
    seconds = {
        name: float(m["seconds"]) for name, m in sorted(markers.items(), key=lambda item: float(item[1]["ended"]))
    }
    for path in (directory / "models").glob("*.csv"):
        if path.stem in seconds:
            seconds[path.stem] = max(seconds[path.stem], round(float(pd.read_csv(path).seconds.sum()), 1))
    return seconds


def environment(device: str) -> dict[str, Any]:
    """Versions, commit, machine and device of this process."""
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "not installed"
    return {
        "versions": versions,
        "commit": _commit(),
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": device,
        "peak memory": _peak_memory(),
    }


def _peak_memory() -> str:
    try:
        import resource
    except ImportError:  # not on Windows
        return "unknown"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.2f} GiB"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return "not a checkout"
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 words of our own
    return done.stdout.strip() or "unknown"


def _refuse_other(directory: Path, kept: dict[str, Any], asked: dict[str, Any]) -> None:
    old, new = ({**asking, **asking.get("config", {})} for asking in (kept, asked))
    for key in sorted((old.keys() | new.keys()) - {"config", "settings"}):
        if old.get(key) != new.get(key):
            raise UsageError(
                f"{directory} holds a run with {key} = {json.dumps(old.get(key))}, asked was "
                f"{json.dumps(new.get(key))}; choose another --out"
            )


def _refuse_links(directory: Path) -> None:
    """Through a link in a run from someone else, a file outside of it would be written."""
    link = next((path for path in directory.rglob("*") if path.is_symlink()), None)
    if link is not None:
        raise UsageError(f"{link} is a symbolic link, which may lead outside of the run; put there what it points to")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is damaged: it says no longer what was asked; choose another --out") from error


def check(directory: Path) -> None:
    """Whether results.csv and what the page draws are as the run wrote them.

    :raises UsageError: if one of them has changed since; the line names it.
    """
    kept = directory / "checksums.json"
    if not kept.is_file():
        return  # a run of an earlier version
    try:
        checksums = {_inside(directory, name): checksum for name, checksum in read_json(kept).items()}
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{kept} is damaged; the same command writes it again") from error
    for path, checksum in checksums.items():
        if not path.is_file() or sha256(path) != checksum:
            raise UsageError(f"{path} is missing or not as the run wrote it; the same command writes it again")


def _inside(directory: Path, name: str) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UsageError(f"{directory} names a file outside of itself: {name}")
    return directory / name


def _intact(marker: Path, directory: Path) -> list[Path] | None:
    """The files of a finished stage, or None where it is not finished or one of them has changed since."""
    if not marker.is_file():
        return None
    try:
        kept = read_json(marker)["files"]
        files = {_inside(directory, name): checksum for name, checksum in kept.items()}
    except (ValueError, KeyError, AttributeError, TypeError):
        log.warning("%s is damaged; its stage is computed again", marker)
        return None
    for path, checksum in files.items():
        if not path.is_file() or sha256(path) != checksum:
            log.warning("%s is missing or damaged; its stage is computed again", path)
            return None
    return list(files)
