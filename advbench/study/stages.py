"""The finished stages of a run directory: the files of each, their checksums, its seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path

import pandas as pd

from advbench.errors import UsageError
from advbench.files import read_bytes, read_json, sha256, write_text
from advbench.progress import log


def marker(directory: Path, name: str) -> Path:
    """The marker of a finished stage."""
    return directory / "stages" / f"{name}.json"


def finish(directory: Path, name: str, files: Iterable[Path], seconds: float) -> None:
    """Write the marker of a stage: its files, their checksums, and how long it took."""
    content = {"seconds": seconds, "ended": time.time(), "files": checksums(directory, files)}
    write_text(marker(directory, name), json.dumps(content, indent=1) + "\n")


def finished(directory: Path, name: str) -> list[Path] | None:
    """The files of a finished stage, or None where it is not finished or one of them has changed since.

    :raises UsageError: if its marker names a file outside of the directory.
    """
    path = marker(directory, name)
    if not path.is_file():
        return None
    try:
        files = {inside(directory, file): checksum for file, checksum in read_json(path)["files"].items()}
    except (ValueError, KeyError, AttributeError, TypeError):
        log.warning("%s is damaged; its stage is computed again", path)
        return None
    if (damaged := changed(files)) is not None:
        log.warning("%s is missing or damaged; its stage is computed again", damaged)
        return None
    return list(files)


def check(directory: Path) -> None:
    """Check that the files that the page draws are as the run wrote them.

    :raises UsageError: if one has changed since; the line names it.
    """
    known = directory / "checksums.json"
    if not known.is_file():
        return  # a run of an earlier version
    try:
        files = {inside(directory, file): checksum for file, checksum in read_json(known).items()}
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{known} is damaged; the same command writes it again") from error
    if (path := changed(files)) is not None:
        raise UsageError(f"{path} is missing or not as the run wrote it; the same command writes it again")


def checksums(directory: Path, files: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of each file by its name in the directory."""
    return {file.relative_to(directory).as_posix(): sha256(file) for file in files}


def changed(files: Mapping[Path, str]) -> Path | None:
    """The first file that is missing or has another checksum."""
    return next((path for path, checksum in files.items() if not path.is_file() or sha256(path) != checksum), None)


def inside(directory: Path, name: str) -> Path:
    """The file of a run by its name.

    :raises UsageError: if it lies outside of the directory.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UsageError(f"{directory} names a file outside of itself: {name}")
    return directory / name


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
            seconds[path.stem] = max(
                seconds[path.stem], round(float(pd.read_csv(BytesIO(read_bytes(path))).seconds.sum()), 1)
            )
    return seconds
