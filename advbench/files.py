"""Files that are written whole or not at all, and the checksums by which a damaged one is known."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

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
