"""ART's projected gradient descent for as many passes as it has steps; FGSM is the same with one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescentNumpy, ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from art.estimators.classification.classifier import ClassifierMixin
from art.utils import random_sphere
from torch import Tensor

from advbench import checks
from advbench.attacks.batched import mask_alone
from advbench.estimators import gradient_and_outputs, predicted, weights_read_once
from advbench.progress import log

_HOOKS = (
    "_generate_batch",
    "_compute_pytorch",
    "_compute_perturbation_pytorch",
    "_apply_perturbation_pytorch",
    "_projection",
)


def pgd(classifier: PyTorchClassifier, **parameters: Any) -> PGD | NumpyPGD:
    """The attack on a classifier; ART's NumPy version where preprocessing is not in PyTorch, as ART itself chooses."""
    kind = PGD if classifier.all_framework_preprocessing else NumpyPGD
    return kind(classifier, **parameters)


class NumpyPGD(ProjectedGradientDescentNumpy):
    """ART's attack for a classifier whose preprocessing is not in PyTorch; its arguments are checked as in :class:`PGD`."""

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        """The parameters, the result and the errors are those of :meth:`PGD.generate`."""
        x = checks.in_range(x, "x", self.estimator.clip_values)
        if y is not None:
            y = checks.arts_labels(y, len(x), self.estimator.nb_classes)
        return super().generate(x, y, mask=mask_alone(self, kwargs, x))


class PGD(ProjectedGradientDescentPyTorch):
    """Madry et al. (2018, https://arxiv.org/abs/1706.06083); parameters and, in l2 and l-inf, results are ART's, to the bit.

    A step costs one forward and one backward pass, and nothing else is computed. Of several random starts, the later ones
    are for the images that the earlier ones did not beat; ART runs all of them on all images.

    In l1 and [0, 1] a step goes along the steepest ascent within ball and box, and is projected onto their intersection (Croce
    & Hein, 2021, "Mind the box", https://arxiv.org/abs/2103.01208). ART moves the one value with the largest gradient, also
    when it is at the end of its range already, and scales the perturbation.

    With a mask, momentum, a bound for each image, another norm or a TensorBoard writer, in l1 with another range of values, and
    in a subclass that computes its own steps, ART's own code runs.
    """

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        """Perturb images within the eps ball.

        :param x: float (N, C, H, W) in the classifier's range.
        :param y: true labels, or the targets of a targeted attack, indices or one-hot; without them the predicted ones.
        :return: float32 (N, C, H, W).
        :param kwargs: ``mask``, 0 where a pixel must stay: of the shape of the images, or one that is broadcast to it.
        :raises ValueError: for images or labels out of range, another option, a batch_size that is not positive, or a
            targeted attack without targets.
        """
        x = checks.in_range(x, "x", self.estimator.clip_values)
        mask = mask_alone(self, kwargs, x)
        if mask is not None or not self._has_own_steps():
            return super().generate(x, y, mask=mask)
        return self._ascend(x, y, until_beaten=False)[0]

    def beat(self, x: np.ndarray, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Perturb images until they are misclassified (in a targeted attack: taken for the target), and no further.

        The parameters and errors are those of :meth:`generate`. An image that the pass of a step misclassifies is shown to
        ``predict``; if that agrees, the image is finished, otherwise the attack goes on.

        :return: the images float32 (N, C, H, W), and which are beaten, bool (N,), as ``predict`` says.
        """
        x = checks.in_range(x, "x", self.estimator.clip_values)
        if self._has_own_steps():
            return self._ascend(x, y, until_beaten=True)
        adversarial = super().generate(x, y)
        wanted = self._set_targets(x, y).argmax(1)
        return adversarial, (predicted(self.estimator, adversarial, self.batch_size) == wanted) == self.targeted

    def _set_targets(self, x: np.ndarray, y: np.ndarray | None, classifier_mixin: bool = True) -> np.ndarray:
        if y is None and not self.targeted:
            y = predicted(self.estimator, x, self.batch_size)
        elif y is not None and isinstance(self.estimator, ClassifierMixin):
            y = checks.arts_labels(y, len(x), self.estimator.nb_classes)
        return super()._set_targets(x, y, classifier_mixin)

    def _has_own_steps(self) -> bool:
        usual = self.decay is None and not self.summary_writer and isinstance(self.eps, (int, float))
        arts = all(getattr(type(self), name) is getattr(ProjectedGradientDescentPyTorch, name) for name in _HOOKS)
        clip = self.estimator.clip_values
        in_box = clip is not None and np.all(np.equal(clip[0], 0)) and np.all(np.equal(clip[1], 1))
        return usual and arts and (float(self.norm) in (2, np.inf) or (float(self.norm) == 1 and bool(in_box)))

    def _ascend(self, x: np.ndarray, y: np.ndarray | None, until_beaten: bool) -> tuple[np.ndarray, np.ndarray]:
        self._random_eps()
        ascent = Ascent(
            self.estimator,
            float(self.norm),
            float(self.eps),
            float(self.eps_step),
            self.max_iter,
            self.num_random_init,
            self.targeted,
        )
        size = int(checks.positive(self.batch_size, "batch_size"))
        return ascent.run(x, self._set_targets(x, y), size, until_beaten)


@dataclass(frozen=True)
class Ascent:
    """Steps along the gradient of a classifier's loss within a ball around each image.

    :param norm: 1, 2 or ``inf``.
    :param eps: radius of the ball.
    :param step: length of a step.
    :param starts: random starts; 0 for one from the image itself.
    :param targeted: whether the loss is lowered, for targets, instead of raised, for labels.
    """

    estimator: PyTorchClassifier
    norm: float
    eps: float
    step: float
    iterations: int
    starts: int
    targeted: bool

    def run(self, x: np.ndarray, y: np.ndarray, size: int, until_beaten: bool) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, C, H, W), for labels or targets one-hot (N, classes), in batches of a size.

        :param until_beaten: whether an image is finished when it is beaten.
        :return: float32 (N, C, H, W), and which are known to be beaten, bool (N,).
        """
        with weights_read_once(self.estimator.model):
            return self._in_batches(x, y, size, until_beaten)

    def _in_batches(self, x: np.ndarray, y: np.ndarray, size: int, until_beaten: bool) -> tuple[np.ndarray, np.ndarray]:
        adversarial, beaten = np.array(x, np.float32), np.zeros(len(x), bool)
        for first in range(0, len(x), size):
            part = slice(first, first + size)
            begin, labels = adversarial[part].copy(), np.asarray(y[part], np.float32)
            for start in range(max(1, self.starts)):
                todo = np.flatnonzero(~beaten[part])
                begun = self._begin(begin)[todo]  # for all images of the batch: so ART draws
                if not len(todo):
                    continue
                images, found = self._batch(begin[todo], begun, labels[todo], until_beaten)
                if self.starts > 1 and not until_beaten:
                    found = self._is_beaten(images, labels[todo])
                taken = todo if start == 0 else todo[found]
                adversarial[part][taken] = images if start == 0 else images[found]
                beaten[part][todo[found]] = True
        return adversarial, beaten

    def _begin(self, x: np.ndarray) -> np.ndarray:
        """The images, or random points of the balls around them, from NumPy's global generator."""
        if not (self.starts and self.iterations):
            return x
        noise = random_sphere(len(x), x[0].size, self.eps, self.norm).reshape(x.shape)
        begun = x + noise.astype(np.float32)
        return begun if self.estimator.clip_values is None else begun.clip(*self.estimator.clip_values)

    def _batch(
        self, x: np.ndarray, begun: np.ndarray, y: np.ndarray, until_beaten: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        device, n = self.estimator.device, len(x)
        x0, iterate, labels = (torch.from_numpy(np.asarray(array, np.float32)).to(device) for array in (x, begun, y))
        limits = self.estimator.clip_values
        clip = None if limits is None else [torch.as_tensor(limit, dtype=x0.dtype, device=device) for limit in limits]
        nan = torch.zeros((), dtype=torch.bool, device=device)
        images, beaten, left = np.empty_like(x), np.zeros(n, bool), np.arange(n)
        for _ in range(self.iterations):
            gradient, outputs = gradient_and_outputs(self.estimator, iterate, labels)
            if until_beaten and outputs is not None and len(hit := self._hits(outputs, labels)):
                candidates = iterate[hit].cpu().numpy()
                sure = self._is_beaten(candidates, y[left[hit.cpu().numpy()]])
                done = hit.cpu().numpy()[sure]
                images[left[done]], beaten[left[done]] = candidates[sure], True
                keep = np.setdiff1d(np.arange(len(left)), done)
                if not len(keep):
                    return images, beaten
                left, rows = left[keep], torch.from_numpy(keep).to(device)
                x0, iterate, labels, gradient = (each[rows] for each in (x0, iterate, labels, gradient))
            nan |= gradient.isnan().any()
            iterate = self._moved(x0, iterate, gradient, clip)
        if nan:
            log.warning("elements of the loss gradient are NaN; the attack takes them for 0")
        images[left] = iterate.cpu().numpy()
        if until_beaten:
            beaten[left] = self._is_beaten(images[left], y[left])
        return images, beaten

    def _hits(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The rows that these outputs call beaten; none where they are not one number a class."""
        if outputs.shape != y.shape:
            return torch.empty(0, dtype=torch.long)
        return torch.nonzero((outputs.argmax(1) == y.argmax(1)) == self.targeted)[:, 0]

    def _is_beaten(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (predicted(self.estimator, x, len(x)) == y.argmax(1)) == self.targeted

    def _moved(self, x0: Tensor, x: Tensor, gradient: Tensor, clip: list[Tensor] | None) -> Tensor:
        """One step along the gradient, within the ball around x0 and the clip values; each operation rounds as ART's does."""
        gradient = gradient.nan_to_num(0.0, torch.inf, -torch.inf)
        if self.norm == 1:
            return self._moved_in_l1(x0, x, -gradient if self.targeted else gradient)
        if self.norm == np.inf:
            direction = gradient.sign()
        else:
            length = _lengths(gradient)
            is_exact = (length > 1e-15) & (length < 1e15)  # else squares of float32 may be 0 or infinite
            length = length.where(is_exact, _lengths(gradient.double()).float())
            direction = gradient * length.where(length == 0, 1 / length)
        x = x + (self.step * (-direction if self.targeted else direction)).nan_to_num(0.0, torch.inf, -torch.inf)
        delta = (x if clip is None else x.clamp(*clip)) - x0
        if self.norm == np.inf:
            return delta.clamp(-self.eps, self.eps) + x0
        length = _lengths(delta)
        share = length.double().where(length == 0, (self.eps / length.double()).clamp_max(1))
        return (delta * share).to(delta.dtype) + x0

    def _moved_in_l1(self, x0: Tensor, x: Tensor, gradient: Tensor) -> Tensor:
        """One step along the steepest ascent from x0, within the ball around it and [0, 1]."""
        first = x0.flatten(1).double()
        direction = steepest_l1(gradient.flatten(1), first, self.eps) / (self.eps or 1)
        delta = project_l1(x.flatten(1) - first + self.step * direction, first, self.eps)
        return (first + delta).clamp(0, 1).to(x.dtype).view_as(x)


def steepest_l1(gradient: Tensor, x: Tensor, eps: float) -> Tensor:
    """The perturbations (N, d) that a linear function gains most by, of l1 norm at most eps and with x + delta in [0, 1].

    The values of the largest gradients go to the end of [0, 1], one after the other, until eps is spent (Croce & Hein, 2021,
    "Mind the box", proposition 3.1).

    :param gradient: float (N, d).
    :param x: float (N, d) in [0, 1].
    """
    room, order = torch.where(gradient > 0, 1 - x, x), gradient.abs().argsort(1, descending=True)
    room = room.gather(1, order)
    before = room.cumsum(1) - room
    return torch.zeros_like(x).scatter(1, order, (eps - before).clamp_min(0).minimum(room)) * gradient.sign()


def project_l1(delta: Tensor, x: Tensor, eps: float) -> Tensor:
    """The nearest perturbations (N, d) with an l1 norm of at most eps that leave x + delta in [0, 1].

    They are ``sign(delta) clip(|delta| - t, 0, room)``, where room is what [0, 1] leaves to a value (Croce & Hein, 2021, "Mind
    the box", proposition 2.1). Their norm falls with t, linearly between the t at which a value begins to shrink or ends at 0.

    :param delta: float (N, d).
    :param x: float (N, d) in [0, 1].
    """
    size, room = delta.abs(), torch.where(delta > 0, 1 - x, x)
    edges, order = torch.cat([(size - room).clamp_min(0), size], 1).sort(1)
    shrinking = torch.where(order < size.shape[1], 1, -1).cumsum(1)
    norm = torch.minimum(size, room).sum(1, keepdim=True)
    fallen = (shrinking[:, :-1] * edges.diff(dim=1)).cumsum(1)
    at_edge = torch.cat([norm, norm - fallen], 1)
    last = (at_edge > eps).sum(1, keepdim=True).sub(1).clamp_min(0)
    beyond = (at_edge.gather(1, last) - eps) / shrinking.gather(1, last).clamp_min(1)
    t = (edges.gather(1, last) + beyond).where(norm > eps, 0)
    return delta.sign() * (size - t).clamp_min(0).minimum(room)


def _lengths(x: Tensor) -> Tensor:
    """The l2 norm of each input, with dimensions of 1 behind: inputs may be images or rows of a table."""
    return torch.linalg.norm(x.flatten(1), ord=2, dim=1).view(-1, *[1] * (x.ndim - 1))
