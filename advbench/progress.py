"""Progress of long work: a bar with the remaining time on a terminal or in a notebook, a log line every 15 seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger("advbench")
T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 15.0
_SECONDS_BETWEEN_BARS = 0.5
bars_allowed = True
_bars: Any = None  # the one live display of the process, shared by nested tracks


def track(items: Iterable[T], label: str, total: int, alone: bool = True) -> Iterator[T]:
    """Yield the items and show the progress.

    :param total: the number of items, for the remaining time.
    :param alone: whether no child process logs meanwhile: its lines would tear a bar, so there is none.
    """
    if bars_allowed and is_notebook():
        return _in_notebook(items, label, total)
    bar = bars_allowed and alone and sys.stderr.isatty()
    return _on_terminal(items, label, total) if bar else _in_lines(items, label, total)


@contextmanager
def waiting(label: str) -> Iterator[None]:
    """Say that something begins that has no known end, such as a download, and every 15 seconds that it still runs."""
    start, ended = time.monotonic(), threading.Event()

    def repeat() -> None:
        while not ended.wait(_SECONDS_BETWEEN_LINES):
            log.info("%s: %.0f s so far", label, time.monotonic() - start)

    log.info("%s ...", label)
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def is_notebook() -> bool:
    """Whether a notebook shows what this process displays."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


@cache
def console() -> Console:
    """The terminal for bars and log lines: a bar makes room for the lines of its own console only."""
    from rich.console import Console

    return Console(stderr=True)


def log_in_child() -> None:
    """Log to the terminal from a child process: in lines, because several processes cannot share one live display."""
    global bars_allowed
    bars_allowed = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def _on_terminal(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    global _bars
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    outermost = _bars is None
    if outermost:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        _bars = Progress(*columns, console=console(), transient=True)
        _bars.start()
    bars = _bars
    task = bars.add_task(label, total=total)
    try:
        for item in items:
            yield item
            bars.advance(task)
    finally:
        bars.remove_task(task)
        if outermost:
            bars.stop()
            _bars = None


def _in_notebook(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    from IPython.display import HTML, display

    bar = display(HTML(f"{escape(label)} ..."), display_id=True)
    start = last = time.monotonic()
    try:
        for done, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            if now - last >= _SECONDS_BETWEEN_BARS:
                left = (now - start) / done * (total - done)
                shown = f"<progress value='{done}' max='{total}'></progress> {done} of {total}, about {left:.0f} s left"
                bar.update(HTML(f"{escape(label)} {shown}"))
                last = now
    finally:
        bar.update({"text/plain": ""}, raw=True)


def _in_lines(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES and done < total:
            left = (now - start) / done * (total - done)
            log.info("%s: %d of %d, about %.0f s left", label, done, total, left)
            last = now
