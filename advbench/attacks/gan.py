"""A learned attack: a network that maps an image to its perturbation, trained to raise a classifier's loss (report 004)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import checks
from advbench.attacks.batched import BatchedAttack, without_options
from advbench.attacks.gan_network import attacker
from advbench.checkpoint import load_tensors, reading, save_tensors
from advbench.device import float32
from advbench.estimators import whole_model
from advbench.loop import batches, train_in_epochs
from advbench.seeds import derive

Labelled = tuple[np.ndarray, np.ndarray]


@dataclass(eq=False, repr=False)
class GANAttack(BatchedAttack):
    """x + A(x) with |A(x)| <= t; A is trained to raise the cross-entropy of frozen classifiers (report 004).

    :param classifier: an ART PyTorch classifier that returns logits for images in [0, 1], or several of the same
        shape: A then raises the average of their losses. They are never changed here.
    :param t: the l-inf bound, in (0, 1].
    :param bounded: ``tanh`` for t times the network's tanh; ``clamp`` for the tanh clamped to [-t, t], whose gradient
        vanishes wherever it exceeds t.
    :param clip: whether x + A(x) is clipped to [0, 1], in training and afterwards; the report does not.
    :param statistics: of A's batch norm outside training: its ``running`` averages, or the statistics of each ``batch`` of
        ``batch_size`` images, with which an image's perturbation depends on the other images.
    :param lr: of Adam.
    :param width: as of :class:`~advbench.attacks.gan_network.AttackerNetwork`, and so is ``output_batch_norm``.
    :param seed: of A's weights and of the order of the batches.
    :param batch_size: images at a time outside training.
    :raises ValueError: for an argument out of range, or classifiers of different shapes.
    """

    # without the parameters that A was built with: a change of them would not change A
    attack_params = [*EvasionAttack.attack_params, "t", "bounded", "clip", "statistics", "lr", "batch_size"]
    classifier: PyTorchClassifier | Sequence[PyTorchClassifier]
    t: float = 0.08
    bounded: Literal["tanh", "clamp"] = "tanh"
    clip: bool = False
    statistics: Literal["running", "batch"] = "running"
    lr: float = 1e-3
    width: int = 64
    output_batch_norm: bool = False
    seed: int = 0
    batch_size: int = 100

    def __post_init__(self) -> None:
        self.classifiers = list(self.classifier) if isinstance(self.classifier, Sequence) else [self.classifier]
        if not self.classifiers:
            raise ValueError("classifier must be one ART classifier or several, not an empty list")
        EvasionAttack.__init__(self, estimator=self.classifiers[0])
        for other in self.classifiers[1:]:
            _same_shape(other, self.estimator.input_shape, self.estimator.nb_classes)
        self._check_params()
        seed = derive(self.seed, "attacker weights")
        network = attacker(self.estimator.input_shape, self.width, self.output_batch_norm, seed)
        self.network = network.to(self.estimator.device)
        self._trained = False

    def _check_params(self) -> None:
        if not 0 < self.t <= 1:
            raise ValueError(f"t must be in (0, 1], not {self.t}")
        if self.bounded not in ("tanh", "clamp"):
            raise ValueError(f"bounded must be 'tanh' or 'clamp', not {self.bounded!r}")
        if self.statistics not in ("running", "batch"):
            raise ValueError(f"statistics must be 'running' or 'batch', not {self.statistics!r}")
        for name in ("lr", "batch_size"):
            checks.positive(getattr(self, name), name)

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        batch_size: int = 100,
        nb_epochs: int = 20,
        epoch_images: int | None = None,
        validation: Labelled | None = None,
        watched: Mapping[str, PyTorchClassifier] | None = None,
        checkpoint: Path | None = None,
    ) -> list[dict]:
        """Train A against the frozen classifiers (the report's consecutive mode).

        :param x: clean images, float (N, C, H, W) in [0, 1].
        :param y: their true labels, indices or one-hot.
        :param epoch_images: images an epoch, which may be less or more than N; default N.
        :param validation: (x, y) that are attacked after each epoch, only for the history.
        :param watched: further classifiers that are evaluated under that attack, by name.
        :param checkpoint: a file that each epoch is saved to and the training resumes from.
        :return: one dict an epoch: epoch, loss (the classifiers' cross-entropy on the attacked batches, which A raises),
            seconds, and with ``validation`` the figures on attacked images: attacked_accuracy and attacked_loss of the
            first classifier, attacked_accuracy_NAME and attacked_loss_NAME of a watched one.
        :raises ValueError: for images or labels out of range.
        """
        images, labels = self.tensors(x, y)
        optimizer = torch.optim.Adam(self.network.parameters(), self.lr, fused=True)

        def step(chosen: Tensor) -> dict[str, Tensor]:
            return {"loss": self.train_batch(optimizer, images[chosen], labels[chosen])[0]}

        def evaluate() -> dict[str, float]:
            self.finish_training()
            return self.attacked_figures(validation, watched)

        order = derive(self.seed, "attacker order")
        batches_of = partial(batches, len(images), batch_size, epoch_images=epoch_images, seed=order)
        label = f"attacker, t = {self.t:g}"
        history = train_in_epochs(label, self.network, optimizer, nb_epochs, batches_of, step, evaluate, checkpoint)
        self.finish_training()
        return history

    def tensors(self, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        """Images and labels, checked, on the classifier's device.

        :raises ValueError: for images or labels out of range.
        """
        x = checks.images(x, "x", self.estimator.input_shape)
        y = checks.labels(y, len(x), self.estimator.nb_classes)
        return torch.from_numpy(x).to(self.estimator.device), torch.from_numpy(y).to(self.estimator.device)

    def train_batch(self, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One step of A on images (N, C, H, W) with label indices; the classifiers are in eval mode and do not change.

        :return: the classifiers' average cross-entropy before the step, and the attacked images.
        """
        self.network.train()
        attacked = self._attacked(x)
        loss = self.loss(attacked, y)
        (-loss).backward(inputs=list(self.network.parameters()))  # leaves the classifiers' gradients alone
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach(), attacked.detach()

    def loss(self, attacked: Tensor, y: Tensor) -> Tensor:
        """The average over the classifiers of the mean cross-entropy, which A raises."""
        losses = [F.cross_entropy(whole_model(classifier)(attacked), y) for classifier in self.classifiers]
        return torch.stack(losses).mean()

    def finish_training(self) -> None:
        """Let A use ``statistics`` and generate from now on."""
        self.network.eval()
        self._trained = True

    def _attacked(self, x: Tensor) -> Tensor:
        attacked = x + self._bounded(self.network(x))
        return attacked.clamp(0, 1) if self.clip else attacked

    def _bounded(self, output: Tensor) -> Tensor:
        return self.t * output if self.bounded == "tanh" else output.clamp(-self.t, self.t)

    def perturbation(self, x: np.ndarray) -> np.ndarray:
        """A(x), float32 (N, C, H, W) in [-t, t], for images (N, C, H, W) in [0, 1].

        :raises ValueError: for images of another shape or range, or before A was trained.
        """
        self._require_training()
        x = checks.images(x, "x", self.estimator.input_shape)
        self.network.eval()
        with (
            torch.no_grad(),
            float32(),
            _batch_statistics(self.network) if self.statistics == "batch" else nullcontext(),
        ):
            parts = [
                self._bounded(self.network(batch.to(self.estimator.device))).cpu()
                for batch in torch.from_numpy(x).split(self.batch_size)
            ]
        return torch.cat(parts).numpy()

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: object) -> np.ndarray:
        """The attacked images x + A(x), one forward pass of A an image.

        :param x: float (N, C, H, W) in [0, 1].
        :param y: is not used: A does not know the label.
        :return: float32 (N, C, H, W), in [-t, 1 + t] or, with ``clip``, in [0, 1].
        :raises ValueError: for images of another shape or range, or before A was trained.
        """
        without_options(self, kwargs)
        attacked = np.asarray(x, np.float32) + self.perturbation(x)
        return attacked.clip(0, 1) if self.clip else attacked

    def attacked_figures(
        self, validation: Labelled | None, watched: Mapping[str, PyTorchClassifier] | None = None
    ) -> dict[str, float]:
        """Accuracy and cross-entropy on attacked images, as ``fit`` describes them; empty without images."""
        if validation is None:
            return {}
        x, y = validation
        attacked, figures = self.generate(x), {}
        truth = torch.from_numpy(checks.labels(y, len(x), self.estimator.nb_classes))
        for suffix, classifier in {"": self.estimator, **{f"_{k}": v for k, v in (watched or {}).items()}}.items():
            logits = torch.from_numpy(classifier.predict(attacked, batch_size=500))
            figures[f"attacked_accuracy{suffix}"] = float((logits.argmax(1) == truth).float().mean())
            figures[f"attacked_loss{suffix}"] = float(F.cross_entropy(logits, truth))
        return figures

    def save(self, path: Path) -> None:
        """Write A and its parameters to a safetensors file.

        :raises ValueError: before A was trained.
        """
        self._require_training()
        names = ("t", "bounded", "clip", "statistics", "lr", "width", "output_batch_norm", "seed", "batch_size")
        meta = {name: getattr(self, name) for name in names}
        save_tensors(path, self.network.state_dict(), {**meta, "shape": self.estimator.input_shape})

    @classmethod
    def load(cls, path: Path, classifier: PyTorchClassifier | Sequence[PyTorchClassifier]) -> GANAttack:
        """The attack that ``save`` wrote, on any classifier for images of the same shape.

        :raises UsageError: if the file is missing or is not such an attack.
        :raises ValueError: for a classifier of another shape.
        """
        with reading(Path(path), "GANAttack"):
            tensors, meta = load_tensors(Path(path))
            meta.pop("card", None)  # of the zoo
            shape = tuple(meta.pop("shape"))
        for one in classifier if isinstance(classifier, Sequence) else [classifier]:
            _same_shape(one, shape)
        attack = cls(classifier, **meta)
        attack.network.load_state_dict(tensors)
        attack.finish_training()
        return attack

    def _require_training(self) -> None:
        if not self._trained:
            raise ValueError("GANAttack is untrained: call fit(x, y) or load(path, classifier) first")


def _same_shape(classifier: Any, shape: tuple[int, ...], classes: int | None = None) -> None:
    if not isinstance(classifier, PyTorchClassifier):
        raise ValueError(f"classifier must be an ART PyTorchClassifier, not {type(classifier).__name__}")
    if tuple(classifier.input_shape) != tuple(shape) or classes not in (None, classifier.nb_classes):
        required = f"input_shape {tuple(shape)}" + (f" and {classes} classes" if classes else "")
        found = f"input_shape {tuple(classifier.input_shape)} and {classifier.nb_classes} classes"
        raise ValueError(f"classifier must have {required}, not {found}")


@contextmanager
def _batch_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm with the statistics of each batch, without a change of the running ones."""
    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for layer in layers:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer in layers:
            layer.training, layer.track_running_stats = False, True
