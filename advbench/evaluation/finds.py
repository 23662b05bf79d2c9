"""What becomes of adversarial images when a file holds them, and when a random model draws again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from advbench.estimators import TorchClassifier, averaged_part, single_draws
from advbench.evaluation.options import Norm
from advbench.seeds import own_global_state

MEASURED = ("eps_in_8_bits", "draws")
CHOOSING, JUDGING = 10, 10
"""Draws of a random model that choose the strongest image, and further ones that judge it: the same would flatter the attacks."""

_SLACK, _ROUNDING = 1e-4, 1e-6  # of eps, and besides: x + delta is rounded in float32
_LENGTHENED = {"linf": np.inf, "l2": 2}
"""Norms in which a perturbation can be lengthened to a bound."""


def within(size: np.ndarray, eps: float) -> np.ndarray:
    """Which perturbations of norms (N,) keep a bound, up to a rounding."""
    return size <= eps * (1 + _SLACK) + _ROUNDING


def nothing_found(classifier: TorchClassifier, n: int) -> dict[str, np.ndarray]:
    """What :class:`Finds` has of n images that no attack was run on."""
    arrays = {"eps_in_8_bits": np.full(n, np.inf)}
    if averaged_part(classifier.model):
        arrays["draws"] = np.ones((n, CHOOSING + JUDGING), bool)
    return arrays


@dataclass
class Finds:
    """Measures each image that an attack returns.

    :param x: the clean images, float (N, C, H, W).
    :param y: their labels (N,).
    :param bounds: of the evaluation, rising.
    :param norm: in which the attack measures its perturbations.
    :param eps: its bound, None where it seeks the smallest perturbation.
    :param seed: of single draws.
    :ivar arrays: ``eps_in_8_bits``, float (N,), the smallest bound of the evaluation at which an image in 8 bits, as a file
        holds it, beats the model; infinite where none does. Of a random model also ``draws``, bool (N, draws): which single
        draws are right about the strongest image; True where none was found.
    """

    classifier: TorchClassifier
    x: np.ndarray
    y: np.ndarray
    bounds: Sequence[float]
    norm: Norm
    eps: float | None
    seed: int

    def __post_init__(self) -> None:
        self.arrays = nothing_found(self.classifier, len(self.y))

    def take(self, chosen: np.ndarray, adversarial: np.ndarray, size: np.ndarray, beats: np.ndarray) -> None:
        """Measure images of an attack.

        :param chosen: (n,), of which images they are the adversarial ones.
        :param adversarial: float32 (n, C, H, W).
        :param size: the norms of the perturbations (n,).
        :param beats: bool (n,): which of them beat the model within the bound.
        """
        with own_global_state(self.seed):
            self._round(chosen[beats], adversarial[beats], size[beats])
            if "draws" in self.arrays:
                # an attack without a bound that does not succeed returns no image of any size
                kept = beats if self.eps is None else within(size, self.eps)
                self._draw(chosen[kept], adversarial[kept])

    def _round(self, chosen: np.ndarray, adversarial: np.ndarray, size: np.ndarray) -> None:
        """Each image as it is, then with its perturbation lengthened to each bound."""
        clean, y = self.x, self.y
        for bound in self.bounds:
            left = np.flatnonzero(within(size, bound) & np.isinf(self.arrays["eps_in_8_bits"][chosen]))
            for change in (False, True) if self.norm in _LENGTHENED else (False,):
                if not len(left):
                    break
                rows, images = chosen[left], adversarial[left]
                if change:
                    factor = (bound / np.maximum(size[left], 1e-12)).astype(np.float32)[:, None, None, None]
                    images = np.clip(clean[rows] + factor * (images - clean[rows]), 0, 1)
                in_8_bits = (np.rint(images * 255) / 255).astype(np.float32)
                beaten = self.classifier.predict(in_8_bits).argmax(1) != y[rows]
                self.arrays["eps_in_8_bits"][rows[beaten]] = bound
                left = left[~beaten]

    def _draw(self, chosen: np.ndarray, adversarial: np.ndarray) -> None:
        if len(chosen):
            found = right_draws(self.classifier, adversarial, self.y[chosen])
            better = found[:, :CHOOSING].sum(1) < self.arrays["draws"][chosen, :CHOOSING].sum(1)
            self.arrays["draws"][chosen[better]] = found[better]


def right_draws(classifier: TorchClassifier, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which single draws of a random model are right about images (n, C, H, W), bool (n, draws)."""
    with single_draws(classifier.model):
        return np.stack([classifier.predict(x).argmax(1) == y for _ in range(CHOOSING + JUDGING)], 1)
