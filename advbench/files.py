"""Files: written whole or not at all, checked by checksums; and Python files that a user named."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import signal
import stat
import sys
import sysconfig
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from advbench.errors import AdvbenchError, UsageError
from advbench.progress import log
from advbench.seeds import own_global_state

_PARTIAL = ".partial"
_BYTES = 1 << 28  # of a table or a JSON file, 256 MiB
_folders: list[str] = []  # the end of sys.path: users' own, the last one first


def write(path: Path, content: Callable[[BinaryIO], Any]) -> None:
    """Write a file under another name, bring it to the disk, then rename it: a reader sees the old file or the new one.

    :param content: writes to the open stream.
    :raises OSError: if it cannot be written; nothing is left of it then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        with open(draft, "wb") as stream:
            content(stream)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """``write`` for text, as UTF-8."""
    write(path, lambda stream: stream.write(text.encode()))


def unfinished(path: Path) -> list[Path]:
    """What processes that were killed while they wrote a file have left beside it."""
    return list(path.parent.glob(f".{path.name}.*{_PARTIAL}"))


def sweep(directory: Path) -> None:
    """Remove what processes that were killed while they wrote have left below a directory."""
    for left in directory.rglob(f".*{_PARTIAL}"):
        left.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_tree(root: Path) -> list[Path]:
    """Every file below a folder that someone else may have made, sorted; the folder itself may be a link.

    A link in it would lead to other files, or to the same ones again; a pipe would never end.

    :raises UsageError: if anything in it is neither a regular file nor a folder; the line names it.
    """
    found: list[Path] = []
    folders = [root]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    raise UsageError(
                        f"{entry.path} is a symbolic link, which may lead outside of {root}, or to files that are counted "
                        "already; put there what it points to"
                    )
                if entry.is_dir():
                    folders.append(Path(entry.path))
                elif entry.is_file():
                    found.append(Path(entry.path))
                else:
                    raise UsageError(f"{entry.path} is neither a file nor a folder, but a pipe, socket or device")
    return sorted(found)


def read_bytes(path: Path, most: int = _BYTES) -> bytes:
    """The content of a regular file, without waiting for anything else.

    :raises ValueError: if it is something else, or larger than ``most`` bytes.
    :raises OSError: if it cannot be opened.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as stream:
        about = os.fstat(stream.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{path.name} is not a regular file")
        if about.st_size > most:
            raise ValueError(f"{path.name} has {about.st_size} bytes, more than the {most} that are read")
        return stream.read(most)


def read_json(path: Path) -> Any:
    """What a JSON file says.

    :raises ValueError: if it is not JSON, no regular file, too large, or nested deeper than Python can follow.
    """
    try:
        return json.loads(read_bytes(path))
    except RecursionError as error:
        raise ValueError(f"{path.name} is nested too deeply") from error


def run_file(path: Path) -> ModuleType:
    """The module that a user's Python file makes; files beside it can be imported.

    :raises UsageError: if it is missing, does not import or ends the program, and as :func:`import_from` does.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}")
    module = ModuleType(f"advbench_file_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where pydantic looks up the names in annotations
    with user_code(str(path), "does not import"):
        code = ast.parse(path.read_bytes(), str(path))
        import_from(path.resolve().parent, imported(code))
        # not importlib: its bytecode cache may be stale
        exec(compile(code, str(path), "exec"), vars(module))  # noqa: S102 the user named this file
    return module


def imported(code: ast.Module, package: str = "") -> Iterator[str]:
    """The names in the import statements of a file; a constant that it takes from a module is among them.

    :param package: that the file is part of; relative imports are left out of a file of none.
    :raises ImportError: if an import leads out of the package.
    """
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            source = resolve_name("." * node.level + (node.module or ""), package)
            yield from (source, *(f"{source}.{alias.name}" for alias in node.names))


def import_from(folder: Path, names: Iterable[str]) -> None:
    """Let Python import from that folder, before other users' folders and behind what is installed.

    :param names: of modules and packages that will be imported; what their files import in turn is followed.
    :raises UsageError: if the folder holds one of them, but Python would use another user's module of that name. Where it
        would use an installed one, a warning says so.
    """
    own = str(folder)
    if own not in sys.path or own in _folders:
        installed = [entry for entry in sys.path if entry not in _folders]
        _folders[:] = [own, *(entry for entry in _folders if entry != own)]
        sys.path[:] = installed + _folders
    for name, path in _files(folder, names):
        if name in sys.modules:
            source = getattr(sys.modules[name], "__file__", None)
        elif "." in name:  # its package decides
            continue
        else:
            spec = find_spec(name)
            source = spec.origin if spec and spec.has_location else None
        if source and Path(source).resolve() == path.resolve():
            continue
        if source and is_users(source):
            raise UsageError(
                f"{path} has the name of {source}, which Python would use in its place; give each of the two a process of "
                "its own, or rename one"
            )
        log.warning("%s is not used: Python takes %s for %s", path, source or "a module of its own", name)


def _files(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """The modules in a folder that imports of these names reach; a checkout of advbench beside them is not meant."""
    todo, known = list(names), {""}
    while todo:
        name = todo.pop()
        if name in known or name.partition(".")[0] == "advbench":
            continue
        known.add(name)
        package, _, last = name.rpartition(".")
        todo.append(package)
        base = folder.joinpath(*package.split("."))
        for path, inside in ((base / last / "__init__.py", name), (base / f"{last}.py", package)):
            if path.is_file():
                yield name, path
                with suppress(SyntaxError, ImportError):  # Python says it better
                    todo += imported(ast.parse(path.read_bytes()), inside)
                break


@contextmanager
def user_code(name: str, failure: str = "fails") -> Iterator[None]:
    """A frame for code that a user wrote: it draws the same numbers every time, and leaves the process as it was.

    It does not see the arguments of our command line. What it switches for the whole process, such as gradients, the
    default type of tensors, warnings, the folder, or what a signal does, is switched back.

    :param name: of the file or the function, for the message.
    :param failure: what an error in it means, in the message.
    :raises UsageError: if it fails or ends the program.
    """
    import numpy as np
    import torch

    before: list[tuple[Callable[[Any], Any], Any]] = [
        (torch.set_grad_enabled, torch.is_grad_enabled()),
        (torch.set_default_dtype, torch.get_default_dtype()),
        (lambda settings: np.seterr(**settings), np.geterr()),
        (os.chdir, os.getcwd()),
        *((partial(setattr, sys, name), getattr(sys, name)) for name in ("stdout", "stderr")),
        *((partial(signal.signal, number), signal.getsignal(number)) for number in _stops()),
    ]
    arguments, sys.argv = sys.argv, [name]
    try:
        with warnings.catch_warnings(), own_global_state():
            yield
    except (AdvbenchError, KeyboardInterrupt):
        raise
    except SystemExit as error:
        raise UsageError(f"{name} ends the program: {place(error)}; take that out, or do it in a main guard") from error
    except BaseException as error:  # classes of a user's own, too
        raise UsageError(f"{name} {failure}: {place(error)}") from error
    finally:
        sys.argv = arguments
        for restore, value in before:
            restore(value)


def _stops() -> list[signal.Signals]:
    """The signals that stop us, where this thread may set their handlers."""
    is_main = threading.current_thread() is threading.main_thread()
    return [each for each in (signal.SIGINT, signal.SIGTERM) if is_main and signal.getsignal(each) is not None]


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def with_type(error: BaseException) -> str:
    """The type of an error, and the first line of its message where it has one."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def place(error: BaseException) -> str:
    """An error in one line, with the file and line that raised it: the user's own, where it came out of a library."""
    frames = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(frames) if is_users(frame.filename)), frames[-1])
    return f"{with_type(error)} ({Path(last.filename).name}, line {last.lineno})"


def is_users(file: str) -> bool:
    """Whether a source file is the user's own: neither installed nor of Python or advbench itself."""
    path, libraries = Path(file).resolve(), (Path(__file__).parent, Path(sysconfig.get_path("stdlib")))
    is_library = any(path.is_relative_to(folder.resolve()) for folder in libraries)
    return not (is_library or file.startswith("<") or {"site-packages", "dist-packages"} & {*path.parts})
