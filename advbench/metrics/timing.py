"""The cost of pieces of code beside each other, on the same machine in the same minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch

from advbench.progress import track


def interleaved(contenders: Mapping[str, Callable[[], Any]], repeats: int, label: str) -> pd.DataFrame:
    """Wall-clock seconds of each contender: every round runs all of them in turn, so that a slow minute slows all.

    :return: one row a round, one column a contender.
    """
    rounds: list[dict[str, float]] = []
    for _ in track(range(repeats), label, repeats):
        seconds = {}
        for name, run in contenders.items():
            _wait()
            start = time.perf_counter()
            run()
            _wait()
            seconds[name] = time.perf_counter() - start
        rounds.append(seconds)
    return pd.DataFrame(rounds)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
