"""The l2 attack of Carlini & Wagner (2017, https://arxiv.org/abs/1608.04644, section V.C), batched.

ART's own follows single gradients with a line search in NumPy, which costs several predictions a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from advbench import checks
from advbench.attacks.batched import BatchedAttack, one_logit_a_class
from advbench.estimators import gradient_autocast, gradient_module
from advbench.progress import track

_INSIDE = 1 - 1e-6  # of [-1, 1]: the arctanh of a black pixel must be finite
_LARGE = 1e10
_MARGIN = 1e-4  # by which an image must be over the boundary, so that rounding in another batch cannot undo it
_STALLED = 0.9999  # a loss above this share of the loss a tenth of the steps ago has stopped falling


@dataclass(eq=False, repr=False)
class CarliniWagnerL2(BatchedAttack):
    """min ||x' - x||_2^2 + c f(x') over x' = (tanh w + 1) / 2 with Adam, c found by binary search for each image.

    f(x') = max(max_{i in own} Z_i - max_{i not in own} Z_i, -kappa): own holds the label and every class of ``never``.

    As in the paper c weighs logits against distances, so the scale of the logits matters: where they differ by far less than
    1, raise ``initial_const`` and ``binary_search_steps``, or nothing is found; DeepFool does not depend on it.

    :param classifier: an ART PyTorch classifier that returns logits Z for images in [0, 1].
    :param confidence: kappa.
    :param learning_rate: of Adam.
    :param binary_search_steps: values of c that are tried.
    :param max_iter: steps for each c; fewer where the loss of the batch stops falling.
    :param initial_const: the first c.
    :param never: classes that do not count as success either, such as "adversarial" of a
        :class:`~advbench.detectors.CombinedModel`.
    :raises ValueError: for a parameter out of range.

    A step costs one gradient.
    """

    classifier: PyTorchClassifier
    confidence: float = 0.0
    learning_rate: float = 0.01
    binary_search_steps: int = 3
    max_iter: int = 1000
    initial_const: float = 0.1
    never: tuple[int, ...] = ()
    batch_size: int = 128

    def _check_params(self) -> None:
        checks.positive(self.confidence, "confidence", zero=True)
        for name in ("learning_rate", "binary_search_steps", "max_iter", "initial_const", "batch_size"):
            checks.positive(getattr(self, name), name)
        if not all(0 <= c < self.estimator.nb_classes for c in self.never):
            raise ValueError(f"never must hold classes 0..{self.estimator.nb_classes - 1}, not {self.never}")

    def _perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """The nearest images found that are classified otherwise; where none was found, the image itself."""
        own = torch.zeros(len(x), self.estimator.nb_classes, dtype=torch.bool, device=x.device)
        own[torch.arange(len(x)), y] = True
        own[:, list(self.never)] = True
        low, high = (torch.full((len(x),), bound, device=x.device) for bound in (0.0, _LARGE))
        c = torch.full_like(low, self.initial_const)
        best, nearest = x.clone(), torch.full_like(low, torch.inf)
        for search in range(self.binary_search_steps):
            label = f"Carlini & Wagner, c {search + 1}/{self.binary_search_steps}"
            found = self._descend(x, own, c, best, nearest, label)
            high = torch.where(found, torch.minimum(high, c), high)
            low = torch.where(found, low, torch.maximum(low, c))
            c = torch.where(high < _LARGE, (low + high) / 2, c * 10)
        return best

    def _descend(self, x0: Tensor, own: Tensor, c: Tensor, best: Tensor, nearest: Tensor, label: str) -> Tensor:
        """Minimise for one c an image and put nearer images into ``best``; returns whether any was adversarial, bool (N,)."""
        module = gradient_module(self.estimator)
        w = torch.atanh((2 * x0 - 1) * _INSIDE).requires_grad_(True)
        optimizer = torch.optim.Adam([w], self.learning_rate)
        found = torch.zeros(len(x0), dtype=torch.bool, device=x0.device)
        kappa = self.confidence + 2 * _MARGIN
        before = torch.inf
        for step in track(range(self.max_iter), label, self.max_iter):
            with torch.enable_grad(), gradient_autocast(self.estimator):
                x = (torch.tanh(w) + 1) / 2
                z = module(x).float()
                one_logit_a_class(self, z)
                f = z.masked_fill(~own, -torch.inf).amax(1) - z.masked_fill(own, -torch.inf).amax(1)
                squared = (x - x0).square().flatten(1).sum(1)
                loss = (squared + c * f.clamp_min(-kappa)).sum()
            (w.grad,) = torch.autograd.grad(loss, w)
            optimizer.step()
            succeeded = f.detach() < _MARGIN - kappa
            nearer = succeeded & (squared.detach() < nearest)
            nearest.copy_(torch.where(nearer, squared.detach(), nearest))
            best.copy_(torch.where(nearer[:, None, None, None], x.detach(), best))
            found |= succeeded
            if step % max(self.max_iter // 10, 1) == 0:
                if (now := loss.item()) > _STALLED * before:
                    break
                before = now
        return found
