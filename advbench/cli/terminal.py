"""Shared by all commands: errors and signals in one line, the log on the terminal, the result alone on standard output."""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from advbench.errors import AdvbenchError, did_you_mean, printable

if TYPE_CHECKING:
    from advbench.study import Run

_SECONDS_TO_TRY_AGAIN = 0.1


class Group(click.Group):
    """A command group that suggests the nearest name for an unknown command."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(str(did_you_mean("command", args[0], self.list_commands(ctx))))
        return super().resolve_command(ctx, args)


class Command(click.Command):
    """A command that takes no option twice: which of two values is meant is not known."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        order = self.make_parser(ctx).parse_args(args=list(args))[2]
        for each in order:
            if isinstance(each, click.Option) and not (each.multiple or each.is_flag) and order.count(each) > 1:
                raise click.UsageError(f"{each.opts[0]} is given twice", ctx)
        return super().parse_args(ctx, args)


def one_line(command: Callable) -> Callable:
    """Print whatever stops a command as one line, with its exit code; only a command that came to its end exits with 0."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            with _interruptible(), _exits_raise():
                command(*args, **kwargs)
        except AdvbenchError as error:
            _end(str(error), error.exit_code)
        except (BrokenPipeError, click.exceptions.Exit):  # of "| head" and of --help, which click ends quietly
            raise
        except OSError as error:
            _end(f"{error}; finished stages are not lost", 1)
        except KeyboardInterrupt as interrupt:
            _end("stopped; the same command goes on from here", 128 + getattr(interrupt, "number", signal.SIGINT))
        except SystemExit as error:  # a forward may call exit(0)
            _end(f"{_place(error)}; code that advbench runs must not end the program", 2)
        except BaseException as error:  # a forward may raise anything
            if sys.flags.dev_mode:
                raise
            _end(f"{_place(error)}; 'python -X dev -m advbench ...' shows the whole traceback", 1)

    return guarded


def _end(message: str, code: int) -> None:
    click.echo(f"advbench: {printable(message)}", err=True)
    sys.exit(code)


def _place(error: BaseException) -> str:
    from advbench.files import place

    return place(error)


@contextmanager
def _exits_raise() -> Iterator[None]:
    """Inside, ``os._exit`` raises SystemExit in this process: a forward that calls it must not end a gate with code 0."""
    end, process = os._exit, os.getpid()

    def raised(status: int) -> NoReturn:
        if os.getpid() != process:  # a child, which ends this way
            end(status)
        raise SystemExit(status)

    os._exit = raised
    try:
        yield
    finally:
        os._exit = end


class _Stopped(KeyboardInterrupt):
    """SIGINT, or SIGTERM, which a scheduler sends before it kills."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def _interruptible() -> Iterator[None]:
    """Signals stop what is inside, also those that arrive where Python or a library drops every exception."""
    asked: list[int] = []
    tries: list[threading.Timer] = []
    shown = sys.unraisablehook

    def stop(number: int, _: Any) -> None:
        asked.append(number)
        raise _Stopped(number)

    def again(dropped: Any) -> None:  # by a destructor, or a callback of the garbage collector
        if isinstance(dropped.exc_value, _Stopped):
            tries.append(threading.Timer(_SECONDS_TO_TRY_AGAIN, os.kill, (os.getpid(), dropped.exc_value.number)))
            tries[-1].start()
        else:
            shown(dropped)

    if threading.current_thread() is not threading.main_thread():  # which alone may take signals
        yield
        return
    # a SIGINT that is ignored, as under nohup, stays so
    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    sys.unraisablehook = again
    try:
        yield
    finally:
        for each in tries:
            each.cancel()
        sys.unraisablehook = shown
        for number, handler in before.items():
            signal.signal(number, handler)
        if asked:  # whatever became of the exception
            raise _Stopped(asked[0])


@contextmanager
def result_alone() -> Iterator[TextIO]:
    """Standard output for the result; whatever else is printed, by a model or by C code, goes to standard error."""
    shown, own = sys.stdout, sys.__stdout__
    if own is None or shown is not own:  # a test or a notebook collects it
        with redirect_stdout(sys.stderr):
            yield shown
        return
    own.flush()
    text: Any = {"encoding": own.encoding, "errors": own.errors}
    noise = os.fdopen(os.dup(2), "w", 1, **text)  # a stream of its own, for a model may close it
    with os.fdopen(os.dup(1), "w", **text) as result:
        os.dup2(2, 1)
        try:
            with redirect_stdout(noise):
                yield result
        finally:
            noise.close()
            own.flush()
            result.flush()
            os.dup2(result.fileno(), 1)
            atexit.register(os.dup2, 2, 1)  # before what a model has left to be printed at the end


def present(run: Run, as_json: bool, out: TextIO) -> None:
    """Write the page of a run, and print its answer, or answer and rows as one JSON object."""
    from advbench.report import show, summary, write_report

    write_report(run.directory)
    if as_json:
        rows = json.loads(run.results().to_json(orient="records"))
        click.echo(json.dumps({"summary": summary(run.directory), "rows": rows}, indent=1), out)
    else:
        show(run.directory, out, whole=False)


@contextmanager
def loading() -> Iterator[None]:
    """A sign of life on a terminal for the seconds that torch and ART take to load."""
    if not sys.stderr.isatty():
        yield
        return
    from advbench.progress import console

    with console().status("loading torch and ART"):
        yield


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def log_to_terminal() -> None:
    """Log to standard error, on a terminal above the progress bars."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        from rich.logging import RichHandler

        from advbench.progress import console

        handler = RichHandler(console=console(), show_path=False, show_level=False, markup=False)
        handler.setFormatter(_Line("%(message)s"))
    else:
        handler.setFormatter(_Line("%(asctime)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("advbench")
    log.handlers = [handler]
    log.propagate = False  # a library that calls logging.basicConfig would print every line again
    log.setLevel(logging.INFO)
