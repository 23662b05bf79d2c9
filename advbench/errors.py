"""The errors that a user can cause and mend: one line each, with an exit code of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unicodedata import category

if TYPE_CHECKING:
    from pydantic import ValidationError


class AdvbenchError(Exception):
    """A mistake that one clear line explains; the command line prints it and exits with ``exit_code``."""

    exit_code = 2


class UsageError(AdvbenchError):
    """A wrong name, key, value, device or directory."""


class DataUnavailable(AdvbenchError):
    """A data set could not be had from any source."""

    exit_code = 3


def missing(what: str, extra: str) -> UsageError:
    """The error for packages of an extra that are not installed, with a command that works from a checkout or a wheel."""
    from importlib.metadata import requires

    found = [line.partition(";")[0].strip() for line in requires("advbench") or () if f'extra == "{extra}"' in line]
    return UsageError(f"{what}: python -m pip install {' '.join(map(repr, found))}")


def wrong_value(name: str, error: ValidationError) -> UsageError:
    """The error for the first value that a type refuses, given for ``name``: what it must be, and what it is."""
    first = error.errors()[0]
    given, message = first["input"], first["msg"]
    if first["type"] == "value_error":
        return UsageError(f"{name}: {first['ctx']['error']}")
    if first["type"] in ("missing", "too_short", "too_long"):
        count = "many" if first["type"] == "too_long" else "few"
        return UsageError(f"{name} has too {count} values: {given!r}" if given else f"{name} is empty")
    if not message.startswith("Input should be "):
        return UsageError(f"{name}: {message}, not {given!r}")
    wanted = message.removeprefix("Input should be ").partition(", unable to ")[0].replace("a valid ", "a ")
    return UsageError(f"{name} must be {wanted.replace('a integer', 'an integer')}, not {given!r}")


def printable(text: str) -> str:
    """The text with its control characters written out, such as \\x1b: a terminal would obey them."""
    return "".join(
        c if c in "\n\t" or category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else c.encode("unicode_escape").decode()
        for c in text
    )


def printable_json(part: Any) -> Any:
    """JSON with all its texts ``printable``: what draws charts dies of a control character."""
    if isinstance(part, dict):
        return {printable(key): printable_json(value) for key, value in part.items()}
    if isinstance(part, list):
        return [printable_json(value) for value in part]
    return printable(part) if isinstance(part, str) else part


def did_you_mean(kind: str, name: str, known: list[str]) -> UsageError:
    """The error for an unknown name, with the nearest known one and the whole list."""
    from difflib import get_close_matches

    written = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), written, n=1)
    hint = f"; did you mean {written[near[0]]!r}?" if near else "."
    return UsageError(f"no {kind} named {name!r}{hint} Known: {', '.join(known)}")
