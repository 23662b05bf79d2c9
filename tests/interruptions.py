"""Interrupts studies at random moments and counts what is lost: ``python tests/interruptions.py [NUMBER] [RECIPE ...]``.

A loss is a study that, given the same command again after all interruptions, ends with another results.csv than one that
nobody disturbed; a mistake is an interruption that is answered with a traceback or a wrong exit code.
"""

from __future__ import annotations

import argparse
import errno
import math
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from tiny import TINY, settings

KILLED, TIMED = "kill -9", "kill -9 by the clock"
SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}
FULL = {"full disk": errno.ENOSPC, "read-only directory": errno.EROFS}
# a directory that cannot be begun is the user's to change, 2; one that fills up later is not, 1
EXIT = {KILLED: (-9,), TIMED: (-9,), "Ctrl-C": (130,), "SIGTERM": (143,), **dict.fromkeys(FULL, (1, 2))}
_SLOW_IMPORTS = (
    "advbench.cli",
    "advbench.study.execution",
    "advbench.report",
    "altair",
    "sklearn.datasets",
    "vl_convert",
)
_WRITING = os.O_WRONLY | os.O_RDWR


class Fault:
    """An audit hook: at the n-th time that this process touches a file of the run, something happens to it."""

    def __init__(self, kind: str, n: int, directory: Path) -> None:
        self.kind, self.left, self.directory = kind, n, str(directory)
        self.events = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not (event == "os.rename" or (event == "open" and _writes(arguments))):
            return
        if not str(arguments[0]).startswith(self.directory):
            return
        self.events += 1
        self.left -= 1
        if self.kind in FULL and self.left <= 0:  # and it stays so
            code = FULL[self.kind]
            raise OSError(code, os.strerror(code), str(arguments[0]))
        if self.left == 0:
            os.kill(os.getpid(), SIGNALS.get(self.kind, signal.SIGKILL))


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return bool(set("wax+") & set(mode)) if isinstance(mode, str) else bool((flags or 0) & _WRITING)


def _study(command: list[str], log: Path, kind: str, n: int, directory: Path, events: Path) -> None:
    """The command, in a process of its own whose imports are made already."""
    sys.stdout.flush()
    with open(log, "wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import torch

    from advbench.cli import main

    torch.set_num_threads(1)
    fault = Fault(kind, n, directory)
    sys.addaudithook(fault)
    try:
        main(command)
    finally:
        fault.directory = "/dev/null/"
        events.write_text(str(fault.events))


@dataclass
class Tally:
    """What came of the interruptions."""

    interruptions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EXIT, 0))
    studies: int = 0
    losses: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(self.interruptions.values())

    def __str__(self) -> str:
        kinds = ", ".join(f"{number} x {kind}" for kind, number in self.interruptions.items())
        return (
            f"{self.count} interruptions ({kinds}) of {self.studies} studies: "
            f"{len(self.losses)} losses, {len(self.mistakes)} mistakes"
        )


def interrupt(recipe: str, number: int, tally: Tally, scratch: Path, rng: random.Random, preset: str = "small") -> None:
    """Disturb one recipe ``number`` times, and compare each time that it ends."""
    context = get_context("forkserver")
    context.set_forkserver_preload([*_SLOW_IMPORTS, *(f"advbench.recipes.{name.replace('-', '_')}" for name in TINY)])

    def study(out: Path, kind: str = "", n: int = -1, seconds: float | None = None) -> tuple[int, str]:
        log, events = scratch / "log", scratch / "events"
        asked = ["recipe", recipe, "--preset", preset, "--dataset", "digits", "--workers", "1", "--out", str(out)]
        command = [*asked, *settings(TINY[recipe])]
        process = context.Process(target=_study, args=(command, log, kind, n, out, events))
        process.start()
        process.join(seconds)
        process.kill()
        process.join()
        return process.exitcode, log.read_text() if log.exists() else ""

    os.chdir(scratch)  # the server imports from its working directory first: not from a checkout, but what is installed
    start = time.monotonic()
    code, said = study(scratch / "undisturbed")
    assert code == 0, said
    total, duration = int((scratch / "events").read_text()), time.monotonic() - start
    expected = _results(scratch / "undisturbed")
    out = scratch / "disturbed"
    left = number
    while left or out.exists():
        kind = rng.choice(list(EXIT))
        n = round(math.exp(rng.uniform(0, math.log(max(total, 1)))))  # early ones cost less, and leave as much to lose
        seconds = rng.uniform(0, duration / 2) if kind == TIMED else None
        if not left:
            kind, n, seconds = "", -1, None
        code, said = study(out, kind, n, seconds)
        if code == 0:
            tally.studies += 1
            if (found := _results(out)) != expected:
                tally.losses.append(f"{recipe}: {_difference(expected, found)}")
            if litter := [str(path) for path in out.rglob("*.partial")]:
                tally.losses.append(f"{recipe}: {litter} left behind")
            shutil.rmtree(out)
            continue
        left -= 1
        if kind:
            tally.interruptions[kind] += 1
        if not kind or code not in EXIT[kind] or "Traceback" in said:
            tally.mistakes.append(f"{recipe}, {kind or 'undisturbed'}, exit code {code}: {said[-2000:]}")
        if not kind:
            return
    shutil.rmtree(scratch / "undisturbed", ignore_errors=True)


def _results(out: Path) -> str:
    """results.csv without the figures that are times, which no two runs share."""
    table = pd.read_csv(out / "results.csv", dtype=str, keep_default_na=False)
    timed = (
        ~table.metric.str.contains("success|distance|not flipped")  # bench: its costs are ratios of times
        if (table.recipe == "bench").any()
        else table.metric.str.contains("second")
    )
    table.loc[timed, ["value", "n", "ci_low", "ci_high", "note"]] = ""
    return table.to_csv(index=False)


def _difference(expected: str, found: str) -> str:
    pairs = zip(expected.splitlines(), found.splitlines(), strict=False)
    return next((f"{a!r} became {b!r}" for a, b in pairs if a != b), "other number of rows")


def main(number: int, recipes: list[str], preset: str) -> int:
    tally, rng = Tally(), random.Random(0)
    for index, recipe in enumerate(recipes):
        share = (number - tally.count) // (len(recipes) - index)
        with TemporaryDirectory(prefix="interruptions-") as scratch:
            interrupt(recipe, share, tally, Path(scratch), rng, preset)
        print(f"{recipe}: so far {tally}", flush=True)
    for line in (*tally.losses, *tally.mistakes):
        print(line)
    return bool(tally.losses or tally.mistakes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=int, nargs="?", default=200)
    parser.add_argument("recipes", nargs="*", choices=[*TINY, []], metavar="RECIPE")
    parser.add_argument("--preset", default="small", help="what the tiny sizes are put upon")
    asked = parser.parse_args()
    sys.exit(main(asked.number, asked.recipes or list(TINY), asked.preset))
