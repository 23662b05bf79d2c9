"""Files: written whole or not at all, checked by checksums; and Python files that a user named."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from advbench.errors import UsageError

_PARTIAL = ".partial"


def write(path: Path, content: Callable[[BinaryIO], Any]) -> None:
    """Write a file under another name, bring it to the disk, then rename it: a reader sees the old file or the new one.

    :param content: writes to the open stream.
    :raises OSError: if it cannot be written; nothing is left of it then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        with open(partial, "wb") as stream:
            content(stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """``write`` for text, as UTF-8."""
    write(path, lambda stream: stream.write(text.encode()))


def unfinished(path: Path) -> list[Path]:
    """What processes that were killed while they wrote a file have left beside it."""
    return list(path.parent.glob(f".{path.name}.*{_PARTIAL}"))


def sweep(directory: Path) -> None:
    """Remove what processes that were killed while they wrote have left below a directory."""
    for partial in directory.rglob(f".*{_PARTIAL}"):
        partial.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """What a JSON file says.

    :raises ValueError: if it is not JSON, or nested deeper than Python can follow.
    """
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path.name} is nested too deeply") from error


def run_file(path: Path) -> ModuleType:
    """The module that a user's Python file makes; files beside it can be imported.

    :raises UsageError: if it is missing or does not import.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}")
    module = ModuleType(f"advbench_file_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where pydantic looks up the names in annotations
    sys.path.append(str(path.resolve().parent))
    try:
        # not importlib: its bytecode cache may be stale
        exec(compile(path.read_text(), str(path), "exec"), vars(module))  # noqa: S102 the user named this file
    except Exception as error:
        raise UsageError(f"{path} does not import: {place(error)}") from error
    return module


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def place(error: Exception) -> str:
    """An error in one line, with the file and line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {first_line(error)} ({Path(last.filename).name}, line {last.lineno})"
