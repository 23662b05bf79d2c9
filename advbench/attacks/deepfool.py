"""DeepFool (Moosavi-Dezfooli et al., 2016, https://arxiv.org/abs/1511.04599), l2 and l-inf, batched.

ART's own is l2 only, never lets a finished image leave the batch and applies its overshoot only at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import checks
from advbench.attacks.batched import BatchedAttack, images_to_move, without_options
from advbench.estimators import TorchClassifier, gradient_module, weights_read_once, whole_model

_SLACK = 1e-4  # added to every step, as foolbox does: an image whose pixels meet the clip creeps on instead of stalling

_MARGIN = 1e-4  # by which another logit must win, so that rounding in another batch cannot undo it; of small logits
_SHARE = 1e-5  # this share of their spread


@dataclass(eq=False, repr=False)
class DeepFool(BatchedAttack):
    """The nearest decision boundary by repeated linearisation at the current iterate.

    :param classifier: an ART PyTorch classifier that returns logits for images in [0, 1].
    :param norm: 2 or ``inf``: the norm in which the perturbation is to be small.
    :param max_iter: linearisations an image at most.
    :param overshoot: eta of the paper: every iterate is x + (1 + eta) r, clipped to [0, 1].
    :param candidates: other classes that are linearised, the highest logits first; None for all. The authors' code takes
        ten.
    :param batch_size: images at a time; a finished one gives its place to the next.
    :raises ValueError: for another norm or a non-positive number.

    An iteration costs ``candidates`` backward passes and two forward passes an image. One of these checks whether the image
    has flipped, so that no gradient is computed for it any more. The model itself predicts each image before and after.
    """

    classifier: PyTorchClassifier
    norm: float | str = 2
    max_iter: int = 50
    overshoot: float = 0.02
    candidates: int | None = 10
    batch_size: int = 128

    def _check_params(self) -> None:
        self.norm = float(self.norm)
        if self.norm not in (2.0, np.inf):
            raise ValueError(f"norm must be 2 or inf, not {self.norm}")
        for name in ("max_iter", "batch_size"):
            checks.positive(getattr(self, name), name)
        checks.positive(self.overshoot, "overshoot", zero=True)
        if self.candidates is not None:
            checks.positive(self.candidates, "candidates")

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: object) -> np.ndarray:
        """Perturb each image until the classifier's prediction for it changes.

        :param x: float (N, C, H, W) in [0, 1].
        :param y: true labels, indices or one-hot: an image that is already misclassified is returned unchanged.
            Without labels every image is attacked from its predicted class.
        :return: float32 (N, C, H, W) in [0, 1]; an image that did not flip within ``max_iter`` is its last iterate.
        :raises ValueError: for images or labels out of range.
        """
        without_options(self, kwargs)
        x, original, todo = images_to_move(self, x, y)
        adversarial = x.copy()
        with weights_read_once(self.estimator.model):
            self._descend(gradient_module(self.estimator), adversarial, x, original, todo)
        if isinstance(self.estimator, TorchClassifier) and len(todo):
            # rounding moves the boundary, and the model has the last word
            flipped = self.estimator.predict(adversarial[todo], batch_size=self.batch_size).argmax(1) != original[todo]
            self._descend(whole_model(self.estimator), adversarial, x, original, todo[~flipped])
        return adversarial

    def _descend(
        self, module: nn.Module, out: np.ndarray, x: np.ndarray, original: np.ndarray, todo: np.ndarray
    ) -> None:
        """Run DeepFool from ``out`` on the images ``todo``, writing the results into ``out``."""
        device = self.estimator.device
        waiting = list(todo[::-1])
        index = np.empty(0, dtype=np.int64)
        x0 = r = torch.empty(0, *x.shape[1:], dtype=torch.float32, device=device)
        labels = steps = torch.empty(0, dtype=torch.long, device=device)
        while waiting or len(index):
            free = min(self.batch_size - len(index), len(waiting))
            if free:
                fresh = np.array([waiting.pop() for _ in range(free)])
                begin, now = (torch.from_numpy(a[fresh]).to(device) for a in (x, out))
                x0, r = torch.cat([x0, begin]), torch.cat([r, (now - begin) / (1 + self.overshoot)])
                labels = torch.cat([labels, torch.from_numpy(original[fresh]).to(device)])
                steps = torch.cat([steps, torch.zeros(free, dtype=torch.long, device=device)])
                index = np.concatenate([index, fresh])
            r = r + self._step(module, self._iterate(x0, r), labels)
            steps = steps + 1
            iterate = self._iterate(x0, r)
            done = _has_left(module, iterate, labels) | (steps >= self.max_iter)
            if done.any():
                out[index[done.cpu().numpy()]] = iterate[done].cpu().numpy()
                keep = ~done
                x0, r, labels, steps = x0[keep], r[keep], labels[keep], steps[keep]
                index = index[keep.cpu().numpy()]

    def _iterate(self, x0: Tensor, r: Tensor) -> Tensor:
        return (x0 + (1 + self.overshoot) * r).clamp(0, 1)

    def _step(self, module: nn.Module, x: Tensor, k0: Tensor) -> Tensor:
        """The step from each iterate to its nearest linearised boundary (algorithm 2)."""
        x = x.requires_grad_(True)
        with torch.enable_grad():
            f = module(x).float()
        others = f.detach().scatter(1, k0[:, None], -torch.inf)
        classes = others.topk(min(self.candidates or f.shape[1] - 1, f.shape[1] - 1)).indices
        distance, best_f = x.new_full((len(x),), torch.inf), x.new_zeros(len(x))
        best_w = torch.zeros_like(x)
        for j in range(classes.shape[1]):
            margin = (f.gather(1, classes[:, j : j + 1]) - f.gather(1, k0[:, None]))[:, 0]
            (w,) = torch.autograd.grad(margin.sum(), x, retain_graph=j + 1 < classes.shape[1])
            dual = w.flatten(1).norm(p=2 if self.norm == 2 else 1, dim=1).clamp_min(1e-12)
            d = margin.detach().abs() / dual
            nearer = d < distance
            distance = torch.where(nearer, d, distance)
            best_w = torch.where(nearer[:, None, None, None], w, best_w)
            best_f = torch.where(nearer, margin.detach().abs(), best_f)
        dual = best_w.flatten(1).norm(p=2 if self.norm == 2 else 1, dim=1).clamp_min(1e-12)
        length = (best_f / dual + _SLACK)[:, None, None, None]
        return length * (best_w / dual[:, None, None, None] if self.norm == 2 else best_w.sign())


@torch.no_grad()
def _has_left(module: nn.Module, x: Tensor, k0: Tensor) -> Tensor:
    """Whether another logit than that of class k0 wins."""
    f = module(x).float()
    margin = (_SHARE * (f.amax(1) - f.amin(1))).clamp_max(_MARGIN)
    return f.scatter(1, k0[:, None], -torch.inf).amax(1) > f.gather(1, k0[:, None])[:, 0] + margin
