"""How much sooner are two workers done? ``python tests/scaling.py OUT.csv [SECONDS]``

Eight stages, each the same single-threaded arithmetic, in one worker and in two, turn by turn; seconds are those of the whole
sweep, the start of the processes included.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from work import convolve

from advbench.study import Run, Study
from advbench.study.workers import Workers

STAGES = 8


def sweep(workers: int, steps: int) -> float:
    """Seconds of the sweep in so many workers."""
    with TemporaryDirectory(prefix="scaling-") as folder:
        processes = Workers(workers)
        study = Study(None, Run(Path(folder), {}), None, None, torch.device("cpu"), 0, processes)  # type: ignore[arg-type]
        start = time.monotonic()
        study.each(convolve, [(stage, steps) for stage in range(STAGES)])
        seconds = time.monotonic() - start
        processes.stop()
        return seconds


def measure(seconds: float) -> pd.DataFrame:
    """One row a sweep.

    :param seconds: that a stage should take in one worker.
    """
    few = 20
    start = time.monotonic()
    sweep(1, few)
    steps = max(int(few * STAGES * seconds / (time.monotonic() - start)), 1)
    rows = [(workers, steps, round(sweep(workers, steps), 1)) for workers in (1, 2, 1, 2)]
    return pd.DataFrame(rows, columns=["workers", "steps", "seconds"])


if __name__ == "__main__":
    found = measure(float(sys.argv[2]) if len(sys.argv) > 2 else 20.0)
    found.to_csv(sys.argv[1], index=False)
    mean = found.groupby("workers").seconds.mean()
    print(found.to_string(index=False), f"two workers: {mean[1] / mean[2]:.2f} times as fast", sep="\n")
