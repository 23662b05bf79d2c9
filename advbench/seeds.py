"""One seed a run, from which every stage derives its own, so that order, resume and workers change nothing."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager


def derive(seed: int, *path: object) -> int:
    """A 63-bit seed for a named part of a run: the same for the same (seed, path) on any machine."""
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_global_state(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, which models and attacks of other libraries draw from."""
    import numpy as np
    import torch

    random.seed(seed)
    torch.manual_seed(seed % 2**63)
    np.random.seed(seed % 2**32)


@contextmanager
def own_global_state(seed: int = 0) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch, and restore their states afterwards."""
    import numpy as np
    import torch

    state, python_state = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng():
            seed_global_state(seed)
            yield
    finally:
        np.random.set_state(state)
        random.setstate(python_state)
