"""One seed a run; every stage derives its own, so that order, resume and workers change nothing."""

from __future__ import annotations

import hashlib


def derive(seed: int, *path: object) -> int:
    """A 63-bit seed for a named part of a run: the same for the same (seed, path) on any machine."""
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
