"""Shared by all commands: errors and signals in one line, the log on the terminal."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from advbench.errors import AdvbenchError, did_you_mean

if TYPE_CHECKING:
    from advbench.study import Run


class Group(click.Group):
    """A command group that suggests the nearest name for an unknown command."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(str(did_you_mean("command", args[0], self.list_commands(ctx))))
        return super().resolve_command(ctx, args)


def one_line(command: Callable) -> Callable:
    """Print a user's mistake as one line, with its exit code."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            with _terminated_as_interrupted():
                command(*args, **kwargs)
        except AdvbenchError as error:
            click.echo(f"advbench: {error}", err=True)
            sys.exit(error.exit_code)
        except BrokenPipeError:  # of "| head", which click ends quietly
            raise
        except OSError as error:
            click.echo(f"advbench: {error}; finished stages are not lost", err=True)
            sys.exit(1)
        except KeyboardInterrupt as interrupt:
            click.echo("advbench: stopped; the same command goes on from here", err=True)
            sys.exit(128 + (signal.SIGTERM if isinstance(interrupt, _Terminated) else signal.SIGINT))

    return guarded


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which a scheduler sends before it kills."""


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # which alone may take signals
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def present(run: Run, as_json: bool) -> None:
    """Write the page of a run, and print its answer, or its rows as JSON."""
    from advbench.report import show, write_report

    write_report(run.directory)
    if as_json:
        click.echo(run.results().to_json(orient="records", indent=1))
    else:
        show(run.directory)


def log_to_terminal() -> None:
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        from rich.logging import RichHandler

        handler = RichHandler(show_path=False, show_level=False, markup=False)
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("advbench")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
