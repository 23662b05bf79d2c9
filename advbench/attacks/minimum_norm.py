"""The base of our attacks that seek the smallest perturbation by gradient steps, all images of a batch side by side."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from advbench.attacks.batched import BatchedAttack, images_to_move, in_batches, without_options
from advbench.estimators import TorchClassifier, gradient_module, weights_read_once, whole_model

TINY = 1e-12
_BEYOND = (1e-4, 1e-3, 1e-2)
"""The share by which a perturbation is lengthened: at the boundary itself the rounding of another batch decides. The next
one is for images whose largest logits are still as good as equal."""
_EQUAL = 4e-6
"""The lead of a logit, relative to the largest, that the rounding of another batch may undo."""


class MinimumNorm(BatchedAttack):
    """An attack whose ``_descend`` finds a small perturbation that changes the prediction."""

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: object) -> np.ndarray:
        """Perturb each image as little as possible so that the classifier's prediction for it changes.

        :param x: float (N, C, H, W) in [0, 1].
        :param y: true labels, indices or one-hot: an image that is already misclassified is returned unchanged.
            Without labels every image is attacked from its predicted class.
        :return: float32 (N, C, H, W) in [0, 1]; an image for which nothing was found is returned unchanged.
        :raises ValueError: for images or labels out of range.
        """
        without_options(self, kwargs)
        x, original, todo = images_to_move(self, x, y)
        adversarial = x.copy()
        if not len(todo):
            return adversarial
        with weights_read_once(self.estimator.model):
            adversarial[todo] = self._seek(gradient_module(self.estimator), x[todo], original[todo])
        if isinstance(self.estimator, TorchClassifier):
            # rounding moves the boundary, and the model has the last word
            undone = self._lengthen(adversarial, x, original, todo)
            if len(undone):
                adversarial[undone] = self._seek(whole_model(self.estimator), x[undone], original[undone])
                self._lengthen(adversarial, x, original, undone)
        return adversarial

    def _lengthen(self, adversarial: np.ndarray, x: np.ndarray, labels: np.ndarray, todo: np.ndarray) -> np.ndarray:
        """Move the images ``todo`` a little beyond the boundary, in place; those that the model does not call beaten there."""
        start, found, labels = x[todo], adversarial[todo], labels[todo]
        beaten, near = np.zeros(len(todo), bool), np.arange(len(todo))
        for share in _BEYOND:
            longer = (start[near] + (1 + share) * (found[near] - start[near])).clip(0, 1)
            logits = self.estimator.predict(longer, batch_size=self.batch_size)
            own = np.take_along_axis(logits, labels[near, None], 1)[:, 0]
            changed = logits.argmax(1) != labels[near]
            adversarial[todo[near[changed]]] = longer[changed]
            beaten[near[changed]] = True
            near = near[changed & (logits.max(1) - own <= _EQUAL * np.abs(logits).max(1))]
            if not len(near):
                break
        return todo[~beaten & (found != start).any((1, 2, 3))]

    def _seek(self, module: nn.Module, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        def perturb(x: Tensor, k0: Tensor) -> Tensor:
            return self._descend(module, x, k0)

        return in_batches(perturb, self.estimator.device, self.batch_size, x, labels)

    def _descend(self, module: nn.Module, x: Tensor, k0: Tensor) -> Tensor:
        """The smallest adversarial iterates for images x (N, C, H, W) of classes k0; an image without one itself."""
        raise NotImplementedError


def margin(module: nn.Module, x: Tensor, k0: Tensor) -> tuple[Tensor, Tensor]:
    """The logit of class k0 less the largest other one (N,), and its gradient (N, C, H, W)."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        f = module(x).float()
        own = f.gather(1, k0[:, None])[:, 0]
        value = own - f.scatter(1, k0[:, None], -torch.inf).amax(1)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), torch.nan_to_num(gradient)


def wide(values: Tensor) -> Tensor:
    """A number an image (N,) as (N, 1, 1, 1)."""
    return values[:, None, None, None]


def norm(delta: Tensor, p: float) -> Tensor:
    """The norm (N,) of each perturbation."""
    return torch.linalg.vector_norm(delta.flatten(1), ord=p, dim=1)
