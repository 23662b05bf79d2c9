"""A cap on the passes that an evaluation spends on an image."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np

from advbench.attacks.registry import ATTACKS
from advbench.evaluation.battery import Attack, Own

LOOKS = 3
"""Forward passes besides those of the steps: of the clean image, and last looks at what was found."""


class Budget:
    """Forward and backward passes that are left to each image.

    :param limit: passes an image; None for no limit.
    :param n: the number of images.
    :ivar notes: what was shortened or left out, one sentence each.
    """

    def __init__(self, limit: int | None, n: int) -> None:
        self.limit = inf if limit is None else limit
        self.spent = np.zeros(n)
        self.notes: list[str] = []

    def left(self, todo: np.ndarray) -> float:
        """The passes that every image of a mask (N,) still has."""
        return self.limit - float(self.spent[todo].max(initial=0))

    def fitted(self, attack: Attack, todo: np.ndarray, at: str) -> Attack | None:
        """The attack, a shorter one of the same kind, or None where none fits.

        An attack of unknown cost starts as long as anything is left, and is stopped when that is spent.

        :param todo: bool (N,): the images that it is to attack.
        :param at: the bound, for the note.
        """
        room = self.left(todo) - LOOKS
        if attack.passes <= room or (attack.passes == inf and room > 0):
            return attack
        shorter = _shortened(attack, room)
        what = "is left out" if shorter is None else f"runs as {shorter.label}"
        self.notes.append(
            f"--budget {self.limit:g}: {attack.label}{at} {what}; an image has {max(0, room):.0f} passes left"
        )
        return shorter

    def charge(self, attack: Attack, todo: np.ndarray, beaten: np.ndarray, passes: float) -> None:
        """Book the cost of an attack.

        :param beaten: bool (N,): those of the images that it beat, and which therefore cost no more.
        :param passes: forward and backward, of all images together.
        """
        if todo.any():
            known = 0.0 if attack.passes == inf else attack.passes + LOOKS
            self.spent[todo & ~beaten] += max(known, passes / todo.sum())


def _shortened(attack: Attack, room: float) -> Own | None:
    if not isinstance(attack, Own) or attack.single:
        return None
    kind = attack.label.partition(",")[0]
    if attack.name.startswith("square"):
        return (
            replace(attack, max_iter=int(room) - 1, label=f"{kind}, {int(room) - 1:,} queries") if room >= 2 else None
        )
    if not (steps := attack.max_iter or ATTACKS[attack.name].max_iter):
        return None
    if (restarts := int(room // (attack.passes / attack.restarts))) >= 1:
        return replace(attack, restarts=restarts, label=f"{kind}, {restarts} restart{'s' * (restarts > 1)}")
    steps = int(room // (attack.passes / attack.restarts / steps))
    return replace(attack, max_iter=steps, restarts=1, label=f"{attack.name}, {steps} steps") if steps >= 1 else None
