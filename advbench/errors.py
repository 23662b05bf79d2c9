"""The errors that a user can cause and mend: one line each, with an exit code of their own."""

from typing import Any
from unicodedata import category


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

    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return UsageError(f"no {kind} named {name!r}{hint} Known: {', '.join(known)}")
