"""The standard ensemble AutoAttack (Croce & Hein, 2020) as an ART attack; ART's class of that name is another ensemble."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import checks, device
from advbench.attacks.batched import BatchedAttack, one_logit_a_class, without_options
from advbench.estimators import (
    alike,
    ascent,
    gradient_autocast,
    gradient_module,
    ordered_loss,
    weights_read_once,
    whole_model,
)
from advbench.progress import log
from advbench.seeds import own_global_state

COMPONENTS = {"apgd-ce": "APGD-CE", "apgd-t": "APGD-T", "fab-t": "FAB-T", "square": "Square"}
"""The attacks of version "standard" in their order, and how the authors write them."""

_NORMS = {np.inf: "Linf", 2.0: "L2", 1.0: "L1"}
_TARGETS = 9
_L1_TARGETS, _L1_RESTARTS = 5, 5  # of APGD in l1
_L1_STAGES = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))  # of APGD in l1: bounds as multiples of eps, and shares of the steps
_STEPS, _QUERIES = 100, 5000
_DLR_CLASSES = 4  # that the targeted DLR loss needs
_ROUNDING = 1e-5  # of eps: a projection onto the l1 ball adds up all values
_SAME = 1e-3  # of the spread of the logits: so close are two computations of one function
_BY_SQUARE = 0.002  # the share of images above which the authors distrust the gradients


@dataclass(eq=False, repr=False)
class AutoAttack(BatchedAttack):
    """APGD-CE, targeted APGD-DLR, targeted FAB and Square, each on the images that withstood the ones before.

    The attacks are the authors' own code (package ``pyautoattack``) in version "standard", which in l1 gives APGD-CE five
    restarts and APGD-T five targets, and lets both start in larger balls (Croce & Hein, 2021). APGD-CE follows the
    cross-entropy also where float32 rounds it to zero, as it does for confident logits. Their gradients and scores come
    from :func:`advbench.estimators.gradient_module` where that computes the model's logits for the batch at hand, and from
    the model itself elsewhere. Whatever they take for beaten is shown to ``predict``: an image that the model misclassifies
    costs no further pass, any other stays. A random model is judged once for each component.

    After ``generate``, ``beaten`` holds for each component which images it beat, bool (N,): those that all before it had left.

    :param classifier: an ART PyTorch classifier that returns logits for images in [0, 1].
    :param norm: ``inf``, 2 or 1.
    :param eps: the bound in that norm, for images in [0, 1].
    :param seed: of the random starts.
    :param batch_size: images at a time, by default :func:`advbench.device.images_at_a_time` with at most 250.
    :param queries: of Square, an image; by default 5,000.
    :param components: names of ``COMPONENTS``, in their order; by default all, without APGD-T for fewer than four classes.
    :param farther: whether FAB, which seeks the smallest perturbation, keeps the nearest that it meets beyond eps, too: at a
        larger eps it would take the same steps.
    :raises ValueError: for another norm, a non-positive eps, an unknown component, or APGD-T with fewer than four classes.
    """

    classifier: PyTorchClassifier
    norm: float | str = np.inf
    eps: float = 8 / 255
    seed: int = 0
    batch_size: int | None = None
    components: tuple[str, ...] | None = None
    queries: int | None = None
    farther: bool = False

    def __post_init__(self) -> None:
        self.beaten: dict[str, np.ndarray] = {}
        if self.batch_size is None:
            shape, where = self.classifier.input_shape, self.classifier.device
            self.batch_size = device.images_at_a_time(shape, where, most=250)
        if self.components is None:
            enough = self.classifier.nb_classes >= _DLR_CLASSES
            self.components = tuple(name for name in COMPONENTS if enough or name != "apgd-t")
        super().__post_init__()

    def _check_params(self) -> None:
        self.norm = float(self.norm)
        if self.norm not in _NORMS:
            raise ValueError(f"norm must be inf, 2 or 1, not {self.norm}")
        checks.positive(self.eps, "eps")
        checks.positive(self.batch_size or 0, "batch_size")
        checks.positive(self.queries or _QUERIES, "queries")
        names = self.components or ()
        if not names or not set(names) <= set(COMPONENTS):
            raise ValueError(f"components must be some of {', '.join(COMPONENTS)}, not {', '.join(names) or 'none'}")
        if "apgd-t" in names and self.estimator.nb_classes < _DLR_CLASSES:
            raise ValueError(f"apgd-t needs at least 4 classes for its DLR loss, not {self.estimator.nb_classes}")

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: object) -> np.ndarray:
        """Adversarial versions within eps of the images; an image that withstands every attack is returned unchanged.

        :param x: float (N, C, H, W) in [0, 1].
        :param y: true labels, indices or one-hot; without them the predicted ones.
        :return: float32 (N, C, H, W) in [0, 1].
        :raises ValueError: for images or labels out of range.
        """
        without_options(self, kwargs)
        return self.beat(x, y)[0]

    def beat(self, x: np.ndarray, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The images of :meth:`generate`, and which of them the classifier's ``predict`` misclassifies, bool (N,)."""
        assert self.batch_size is not None and self.components is not None
        x = checks.images(x, "x", self.estimator.input_shape)
        logits = self.estimator.predict(x, batch_size=self.batch_size)
        one_logit_a_class(self, logits)
        y = checks.labels(logits.argmax(1) if y is None else y, len(x), self.estimator.nb_classes)
        adversarial, right = x.copy(), logits.argmax(1) == y
        self.beaten = {}
        is_steady = True
        once = weights_read_once(self.estimator.model)
        with own_global_state(self.seed), device.float32_by_default(), once:
            for name in [known for known in COMPONENTS if known in self.components]:
                self.beaten[name] = np.zeros(len(x), bool)
                left = np.flatnonzero(right)
                for first in range(0, len(left), self.batch_size):
                    part = left[first : first + self.batch_size]
                    batch = _Batch(self.estimator, x[part], y[part], logits[part])
                    torch.manual_seed(self.seed % 2**32)  # as the authors do for each batch
                    is_steady &= batch.is_steady
                    _RUN[name](self, batch)
                    found = batch.result()
                    adversarial[part[found]], self.beaten[name][part[found]] = batch.images[found], True
                right &= ~self.beaten[name]
        if not is_steady:
            log.warning(
                "AutoAttack: two predictions differ, so the model is random or the images of a batch change each other's; it is "
                "judged once for each component"
            )
        by_square = self.beaten.get("square", right[:0]).sum() / len(x)
        if by_square > _BY_SQUARE and len(self.beaten) > 1:
            log.warning(
                "Square, which uses no gradients, beat %.1f %% of the images, which the attacks before it had left: "
                "their gradients may be masked",
                100 * by_square,
            )
        return adversarial, ~right

    def _settings(self) -> dict[str, Any]:
        return {
            "norm": _NORMS[float(self.norm)],
            "eps": self.eps,
            "seed": self.seed % 2**32,
            "device": self.estimator.device,
        }

    def _apgd_ce(self, batch: _Batch) -> None:
        from pyautoattack.autopgd_base import APGDAttack

        model = _CrossEntropy(self._watched(batch))
        attack = APGDAttack(model, n_iter=_STEPS, loss="ce", is_tf_model=True, logger=_LOGGER, **self._settings())
        attack.init_hyperparam(batch.x)
        for _ in range(_L1_RESTARTS if self.norm == 1 else 1):
            batch.run(partial(self._climb, attack))

    def _apgd_t(self, batch: _Batch) -> None:
        from pyautoattack.autopgd_base import APGDAttack_targeted

        attack = APGDAttack_targeted(self._watched(batch), n_iter=_STEPS, logger=_LOGGER, **self._settings())
        attack.init_hyperparam(batch.x)

        def towards(rank: int, x: Tensor, y: Tensor) -> None:
            attack.y_target = batch.ranked[batch.rows, -rank]
            self._climb(attack, x, y)

        for rank in self._ranks(_L1_TARGETS if self.norm == 1 else _TARGETS):
            batch.run(partial(towards, rank))

    def _watched(self, batch: _Batch) -> Callable[[Tensor], Tensor]:
        """The model for APGD, which leaves the bound in l1 alone."""
        return partial(batch.watched, order=1, eps=self.eps) if self.norm == 1 else batch.watched

    def _climb(self, attack: Any, x: Tensor, y: Tensor) -> None:
        """One run of APGD."""
        if self.norm == 1:
            steps = [ceil(share * _STEPS) for _, share in _L1_STAGES[:-1]]
            attack.decr_eps_pgd(x, y, [many * self.eps for many, _ in _L1_STAGES], [*steps, _STEPS - sum(steps)])
        else:
            attack.attack_single_run(x, y)

    def _fab_t(self, batch: _Batch) -> None:
        attack = _boundary_attack(batch, float(self.norm), n_iter=_STEPS, **self._settings())

        def towards(rank: int, x: Tensor, y: Tensor) -> None:
            attack.target_class, attack.at_clean = rank, True
            attack.attack_single_run(x, y, is_targeted=True)

        for rank in self._ranks(_TARGETS):
            batch.run(partial(towards, rank))
        if self.farther:
            batch.take_farther()

    def _square(self, batch: _Batch) -> None:
        attack = _square_attack(batch, n_queries=self.queries or _QUERIES, resc_schedule=False, **self._settings())
        attack.init_hyperparam(batch.x)
        batch.run(lambda x, y: batch.offer(batch.rows, attack.attack_single_run(x, y)[1]))

    def _ranks(self, most: int) -> range:
        """The classes that are attacked, by their rank in the clean logits: 2 for the second most likely."""
        return range(2, min(self.estimator.nb_classes - 1, most) + 2)


_RUN = {
    "apgd-ce": AutoAttack._apgd_ce,
    "apgd-t": AutoAttack._apgd_t,
    "fab-t": AutoAttack._fab_t,
    "square": AutoAttack._square,
}
_LOGGER = logging.getLogger("auto-attack")


class _AllBeaten(Exception):
    """Ends the authors' loop when no image is left."""


class _Batch:
    """Images on which one component runs, and what the model says of its finds.

    :ivar clean: the model's logits of the images (N, classes).
    :ivar ranked: their classes (N, classes), the most likely last.
    :ivar images: the adversarial images found (N, C, H, W).
    :ivar rows: those of the batch that the current run of the component works on.
    :ivar left: those of ``rows`` that are not beaten.
    """

    def __init__(self, estimator: PyTorchClassifier, x: np.ndarray, y: np.ndarray, logits: np.ndarray) -> None:
        self.estimator = estimator
        self.x, self.y, self.clean = (torch.from_numpy(each).to(estimator.device) for each in (x, y, logits))
        self.ranked = self.clean.sort(dim=1)[1]
        self.path, self.is_steady = self._proven()
        self.images = x.copy()
        self.offered = torch.zeros(len(x), dtype=torch.bool, device=estimator.device)
        self.beaten = self.offered.clone()
        self.rows = self.left = torch.arange(len(x), device=estimator.device)
        self._outputs = self.clean
        self._met, self._distance = self.x.clone(), torch.full((len(x),), torch.inf, device=estimator.device)

    def _proven(self) -> tuple[nn.Module, bool]:
        """What computes gradients and scores, and whether it agrees with ``predict`` about this batch."""
        for module in (gradient_module(self.estimator), whole_model(self.estimator)):
            with torch.no_grad():
                is_same = alike(self.clean, module(self.x).float(), _SAME).all()
            if is_same:
                return module, True
        return module, False

    def run(self, attack: Callable[[Tensor, Tensor], object]) -> None:
        """Run an attack on the images that are left (n, C, H, W) and their labels (n,)."""
        self.rows = torch.nonzero(~(self.beaten if self.is_steady else self.offered))[:, 0]
        self.left = torch.arange(len(self.rows), device=self.rows.device)
        self._outputs = self.clean[self.rows]
        if len(self.rows):
            with suppress(_AllBeaten):
                attack(self.x[self.rows], self.y[self.rows])

    def logits(self, x: Tensor) -> Tensor:
        """The logits (n, classes) of iterates of all ``rows``; a row that is beaten costs no pass."""
        computed = self.path(x if len(self.left) == len(x) else x[self.left]).float()
        found = computed if len(computed) == len(x) else self._outputs.index_put((self.left,), computed)
        self._outputs = found.detach()
        return found

    def watched(self, x: Tensor, order: float = np.inf, eps: float | None = None) -> Tensor:
        """The same; what it finds is offered to the model.

        :param eps: the bound in the norm of this order; None for an attack that never leaves it.
        """
        with gradient_autocast(self.estimator):  # FAB and Square seek the boundary: in bfloat16 they leave more images
            found = self.logits(x)
        self.find(x, found, None if eps is None else self.distance(x.detach(), order) <= eps * (1 + _ROUNDING))
        return found

    def distance(self, x: Tensor, order: float) -> Tensor:
        """The norm (n,) of what iterates of all ``rows`` add to the images."""
        return torch.linalg.vector_norm((x - self.x[self.rows]).flatten(1), order, dim=1)

    def find(self, x: Tensor, logits: Tensor, within: Tensor | None = None) -> None:
        """Offer iterates of all ``rows`` that are misclassified, and leave out those that the model misclassifies too.

        :param within: bool (n,), which of them keep the bound; None for all.
        """
        hit = logits.detach()[self.left].argmax(1) != self.y[self.rows[self.left]]
        found = self.left[hit if within is None else hit & within[self.left]]
        if len(found):
            self.offer(self.rows[found], x.detach()[found])
            self.left = self.left[~self.beaten[self.rows[self.left]]]
            if not len(self.left):
                raise _AllBeaten

    def meet(self, x: Tensor, logits: Tensor, size: Tensor) -> None:
        """Remember the nearest of the iterates of all ``rows`` that are misclassified, at distances (n,), bound or not."""
        rows = self.rows[self.left]
        closer = (logits[self.left].argmax(1) != self.y[rows]) & (size[self.left] < self._distance[rows])
        found, rows = self.left[closer], rows[closer]
        self._met[rows], self._distance[rows] = x[found], size[found]

    def take_farther(self) -> None:
        """Offer what was met beyond the bound of images that nothing within it has beaten."""
        rows = torch.nonzero(torch.isfinite(self._distance) & ~self.offered)[:, 0]
        if len(rows):
            self.offer(rows, self._met[rows])

    def offer(self, rows: Tensor, x: Tensor) -> None:
        """Keep images (n, C, H, W) for rows of the batch, and let the model judge them unless it is random."""
        self.images[rows.cpu().numpy()], self.offered[rows] = x.cpu().numpy(), True
        if self.is_steady:
            self._judge(rows)

    def _judge(self, rows: Tensor) -> None:
        predicted = self._predict(self.images[rows.cpu().numpy()]).argmax(1)
        self.beaten[rows] = predicted != self.y[rows]

    def scores(self, x: Tensor, y: Tensor) -> Tensor:
        """The logits (n, classes) of any images, and the model's own of those that are not taken for their labels y (n,)."""
        if not len(x):
            return self.clean[:0].clone()
        with torch.no_grad():
            logits = self.path(x).float()
        wrong = logits.argmax(1) != y
        if self.is_steady and wrong.any():
            logits[wrong] = self._predict(x[wrong].cpu().numpy())
        return logits

    def _predict(self, x: np.ndarray) -> Tensor:
        # ART's loader draws a number, and the authors' random starts are to stay the same
        state = torch.get_rng_state()
        logits = self.estimator.predict(x, batch_size=len(x))
        torch.set_rng_state(state)
        return torch.from_numpy(logits).to(self.clean.device)

    def result(self) -> np.ndarray:
        """Which images the model misclassifies, bool (N,)."""
        if not self.is_steady and self.offered.any():
            self._judge(torch.nonzero(self.offered)[:, 0])
        return self.beaten.cpu().numpy()


class _CrossEntropy:
    """A model in the form of which APGD takes loss and gradient, here neither rounded to zero in float32."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        self.model = model

    def get_logits_loss_grad_xent(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The logits (n, classes) of images (n, C, H, W), their losses (n,) and the gradients of these."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits = self.model(x)
        known = logits.detach()
        return known, ordered_loss(known, y), torch.autograd.grad(logits, x, ascent(known, y))[0]


def _boundary_attack(batch: _Batch, order: float, **settings: Any) -> Any:
    """The authors' FAB on a batch. Clean images cost it no pass, and neither do gradients of weights."""
    from pyautoattack.fab_pt import FABAttack_PT

    class BoundaryAttack(FABAttack_PT):
        at_clean = True

        def _predict_fn(self, x: Tensor) -> Tensor:
            return batch.clean[batch.rows]

        def _get_predicted_label(self, x: Tensor) -> Tensor:
            if self.at_clean:
                self.at_clean = False
                return batch.y[batch.rows]
            with torch.no_grad():
                logits = batch.logits(x)
            size = batch.distance(x, order)
            batch.meet(x, logits, size)
            batch.find(x, logits, size <= self.eps)
            return logits.argmax(1)

        def get_diff_logits_grads_batch_targeted(
            self, imgs: Tensor, la: Tensor, la_target: Tensor
        ) -> tuple[Tensor, Tensor]:
            left = batch.left
            x = imgs[left].requires_grad_()
            with torch.enable_grad():
                logits = batch.path(x).float()
                margin = logits.gather(1, la_target[left, None]) - logits.gather(1, la[left, None])
                (gradient,) = torch.autograd.grad(margin.sum(), x)
            df, dg = imgs.new_ones(len(imgs), 1), torch.ones_like(imgs)[:, None]  # any plane for the others
            df[left], dg[left, 0] = margin.detach(), gradient
            return df, dg

    return BoundaryAttack(batch.path, **settings)


def _square_attack(batch: _Batch, **settings: Any) -> Any:
    """The authors' Square on a batch, which finishes an image when the model itself misclassifies it."""
    from pyautoattack.square import SquareAttack

    class OwnScores(SquareAttack):
        def margin_and_loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            self.predict = lambda _: batch.scores(x, y)
            return super().margin_and_loss(x, y)

    return OwnScores(None, **settings)
