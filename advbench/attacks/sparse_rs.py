"""Sparse-RS (Croce et al., 2022, https://arxiv.org/abs/2006.12834) in l0: random search that sees the scores alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from advbench import checks
from advbench.attacks.batched import BatchedAttack, one_logit_a_class
from advbench.seeds import own_global_state

_SCHEDULE = ((50, 2), (200, 4), (500, 5), (1000, 6), (2000, 8), (4000, 10), (6000, 12), (8000, 15))
"""Up to which step of 10,000 the first share of exchanged values is divided by what; 20 after them (appendix A.1)."""


@dataclass(eq=False, repr=False)
class SparseRS(BatchedAttack):
    """At most ``eps`` values of an image are set to 0 or 1; a step exchanges some of them and keeps what lowers the margin.

    The changed values are single ones: a pixel of a colour image has three, while the paper changes whole pixels. A value
    goes to the end of [0, 1] that is drawn, or to the other end where it lies at that one already.

    :param classifier: an ART PyTorch classifier that returns logits for images in [0, 1].
    :param eps: k of the paper: how many values may change.
    :param max_iter: queries an image.
    :param alpha: alpha_init of the paper: the share of the changed values that the first steps exchange.
    :param seed: of the random search.
    :param batch_size: images at a time; a beaten one leaves the batch.
    :raises ValueError: for a non-positive number, or an eps that is no whole number.

    A query costs one forward pass. The model itself answers.
    """

    classifier: PyTorchClassifier
    norm: float | str = 0
    eps: float = 24
    max_iter: int = 5000
    alpha: float = 0.3
    seed: int = 0
    batch_size: int = 128

    def _check_params(self) -> None:
        self.norm = float(self.norm)
        if self.norm != 0:
            raise ValueError(f"norm must be 0, not {self.norm}")
        for name in ("eps", "max_iter", "alpha", "batch_size"):
            checks.positive(getattr(self, name), name)
        if self.eps != int(self.eps):
            raise ValueError(f"eps is a number of values, not {self.eps}")

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: object) -> np.ndarray:
        """Versions with at most eps changed values; an image that withstands the search is returned unchanged."""
        self._generator = torch.Generator().manual_seed(self.seed % 2**32)
        with own_global_state(self.seed):
            return super().generate(x, y, **kwargs)

    def _perturb(self, x: Tensor, y: Tensor) -> Tensor:
        generator, size, adversarial = self._generator, x[0].numel(), x.clone()
        left = torch.nonzero(self._margin(x, y) >= 0)[:, 0]
        if not len(left):
            return adversarial
        few = min(int(self.eps), size)
        order = torch.rand(len(left), size, generator=generator).to(x.device).argsort(1)  # the first few are changed
        x0 = x[left].flatten(1)
        best = x0.scatter(1, order[:, :few], self._ends(x0.gather(1, order[:, :few]), generator))
        lowest = self._margin(best.view(-1, *x.shape[1:]), y[left])
        for step in range(1, self.max_iter):
            beaten = lowest < 0
            if beaten.any():
                adversarial[left[beaten]] = best[beaten].view(-1, *x.shape[1:])
                left, order, x0, best, lowest = (each[~beaten] for each in (left, order, x0, best, lowest))
            if not len(left):
                return adversarial
            many = min(self._exchanged(step, few), size - few)
            old = torch.rand(len(left), few, generator=generator).to(x.device).argsort(1)[:, : max(many, 1)]
            trial, moved = best.clone(), order.clone()
            if many:
                new = few + torch.rand(len(left), size - few, generator=generator).to(x.device).argsort(1)[:, :many]
                leaving, coming = order.gather(1, old), order.gather(1, new)
                moved.scatter_(1, old, coming).scatter_(1, new, leaving)
                trial.scatter_(1, leaving, x0.gather(1, leaving))
            else:  # every value may change: other ends are all that is left to try
                coming = order.gather(1, old)
            trial.scatter_(1, coming, self._ends(x0.gather(1, coming), generator))
            margin = self._margin(trial.view(-1, *x.shape[1:]), y[left])
            better = margin <= lowest
            best, order = (torch.where(better[:, None], *pair) for pair in ((trial, best), (moved, order)))
            lowest = torch.where(better, margin, lowest)
        beaten = lowest < 0
        adversarial[left[beaten]] = best[beaten].view(-1, *x.shape[1:])
        return adversarial

    def _exchanged(self, step: int, few: int) -> int:
        """How many of the few changed values a step exchanges."""
        progress = step / self.max_iter * 10_000
        divisor = next((by for end, by in _SCHEDULE if progress <= end), 20)
        return max(int(self.alpha / divisor * few), 1)

    def _ends(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """0 or 1 for each value, another than it is."""
        drawn = torch.randint(2, values.shape, generator=generator).to(values)
        return torch.where(drawn == values, 1 - drawn, drawn)

    def _margin(self, x: Tensor, y: Tensor) -> Tensor:
        """The model's logit of class y less the largest other one (N,): below 0 where it errs."""
        logits = torch.from_numpy(self.estimator.predict(x.cpu().numpy(), batch_size=self.batch_size)).to(x.device)
        one_logit_a_class(self, logits)
        own = logits.gather(1, y[:, None])[:, 0]
        return own - logits.scatter(1, y[:, None], -torch.inf).amax(1)
