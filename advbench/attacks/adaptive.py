"""Attacks on a classifier and its detector at once (Bryniarski et al., 2021, https://arxiv.org/abs/2106.15023)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from art.defences.detector.evasion import EvasionDetector
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from advbench import checks
from advbench.attacks.batched import BatchedAttack, one_logit_a_class
from advbench.estimators import ascent, gradient_autocast, joint
from advbench.progress import track

_MARGIN = 0.05  # added to the true logit: an image that is only just wrong does not count as fooled; of small logits
_SHARE = 0.01  # this share of their spread


@dataclass(eq=False, repr=False)
class _AdaptivePGD(BatchedAttack):
    classifier: PyTorchClassifier
    detector: EvasionDetector
    norm: float | str = np.inf
    eps: float = 8 / 255
    eps_step: float | None = None
    max_iter: int = 1000
    batch_size: int = 128

    def __post_init__(self) -> None:
        self.eps_step = self.eps / 10 if self.eps_step is None else self.eps_step
        super().__post_init__()
        self._joint = joint(self.classifier, self.detector)

    def _check_params(self) -> None:
        self.norm = float(self.norm)
        if self.norm not in (2.0, np.inf):
            raise ValueError(f"norm must be 2 or inf, not {self.norm}")
        for name in ("eps", "eps_step", "max_iter", "batch_size"):
            checks.positive(getattr(self, name), name)

    @abstractmethod
    def followed(self, x: Tensor, loss: Tensor, score: Tensor, fooled: Tensor) -> Tensor:
        """The direction that each image takes, (N, C, H, W).

        :param x: the images that loss and score were computed from.
        :param loss: of the classifier, (N,), up to what has no gradient.
        :param score: of the detector, (N,), larger for images that look adversarial to it.
        :param fooled: bool (N,): whether the classifier is wrong, with a margin.
        """

    def _perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Of all iterates that fooled the classifier the one with the lowest detector score, or the last where none did."""
        assert self.eps_step is not None
        x0 = best = x
        lowest = torch.full((len(x0),), torch.inf, device=x0.device)
        for step in track(range(self.max_iter + 1), type(self).__name__, self.max_iter + 1):
            x = x.detach().requires_grad_(step < self.max_iter)
            with torch.set_grad_enabled(step < self.max_iter), gradient_autocast(self.estimator):
                logits, score = (output.float() for output in self._joint(x))
                one_logit_a_class(self, logits)
                known = logits.detach()
                loss = (ascent(known, y) * logits).sum(1)
            margin = (_SHARE * (known.amax(1) - known.amin(1))).clamp_max(_MARGIN)
            fooled = (known + margin[:, None] * F.one_hot(y, known.shape[1])).argmax(1) != y
            better = fooled & (score.detach() < lowest)
            lowest = torch.where(better, score.detach(), lowest)
            best = torch.where(better[:, None, None, None], x.detach(), best)
            if step < self.max_iter:
                g = self.followed(x, loss, score, fooled)
                x = self._project(x.detach() + self.eps_step * self._unit(g), x0)
        return torch.where(torch.isfinite(lowest)[:, None, None, None], best, x.detach())

    def _unit(self, g: Tensor) -> Tensor:
        return g.sign() if self.norm == np.inf else g / _length(g)

    def _project(self, x: Tensor, x0: Tensor) -> Tensor:
        delta = x - x0
        if self.norm == np.inf:
            delta = delta.clamp(-self.eps, self.eps)
        else:
            delta = delta * (self.eps / _length(delta)).clamp_max(1)
        return (x0 + delta).clamp(0, 1)


class SelectivePGD(_AdaptivePGD):
    """PGD that follows the classifier's loss until an image fools it, and the detector's score while it does.

    Section 4.2 of the paper; its released code runs this one by default. A step costs one pass forward through
    classifier and detector and one back: each image's gradient is that of the one goal it pursues.

    :param classifier: an ART PyTorch classifier that returns logits for images in [0, 1].
    :param detector: any that :func:`advbench.estimators.detector_module` accepts.
    :param norm: ``inf`` or 2.
    :param eps: the bound in that norm, for images in [0, 1].
    :param eps_step: of each step, default eps / 10 as in the paper.
    :param max_iter: steps; the paper takes 1000.
    :raises ValueError: for a parameter out of range, or a detector without gradients.
    """

    def followed(self, x: Tensor, loss: Tensor, score: Tensor, fooled: Tensor) -> Tensor:
        return torch.autograd.grad(torch.where(fooled, -score, loss).sum(), x)[0]


class OrthogonalPGD(_AdaptivePGD):
    """The same, each step orthogonal to the gradient of the other goal, so that progress on one does not undo the other.

    Section 4.1 of the paper, whose equation 6 is printed with the projection the other way round than its text. A step
    costs two passes back. Parameters and errors are those of :class:`SelectivePGD`.
    """

    def followed(self, x: Tensor, loss: Tensor, score: Tensor, fooled: Tensor) -> Tensor:
        (fool,) = torch.autograd.grad(loss.sum(), x, retain_graph=True)
        (hide,) = torch.autograd.grad(-score.sum(), x)
        chosen = fooled[:, None, None, None]
        return _without(torch.where(chosen, hide, fool), torch.where(chosen, fool, hide))


def _without(g: Tensor, other: Tensor) -> Tensor:
    """g less its projection on the other, image by image; a zero gradient changes nothing."""
    other = other / _length(other)
    return g - (g * other).flatten(1).sum(1)[:, None, None, None] * other


def _length(g: Tensor) -> Tensor:
    return g.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None, None]
