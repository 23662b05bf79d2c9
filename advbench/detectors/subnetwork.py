"""Metzen et al.'s detector (2017, https://arxiv.org/abs/1702.04267) as an ART ``EvasionDetector``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from art.defences.detector.evasion import EvasionDetector
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import checks, estimators
from advbench.checkpoint import fingerprint, load_tensors, reading, save_tensors
from advbench.detectors.features import Rows
from advbench.detectors.network import SUBNETWORKS, DetectorSubnetwork
from advbench.device import bfloat16, float32
from advbench.errors import UsageError
from advbench.estimators import GradientModel, TorchClassifier, ascent, gradient_autocast, refuse_preprocessing
from advbench.loop import descend, train_in_epochs
from advbench.models import zoo
from advbench.models.tapped import TappedModule
from advbench.seeds import derive

Read = Callable[[Tensor], Tensor]
"""Indices of images -> their activations."""

T = TypeVar("T")
_IN_WORK = 256  # images at a time


class SubnetworkDetector(EvasionDetector):
    """A binary subnetwork on the frozen classifier's activations at AD(position).

    :param classifier: an ART PyTorch classifier around a model with taps; never changed here.
    :param position: the tap, 0 for the input image.
    :param lr: of Adam with beta1 = 0.99, beta2 = 0.999 (section 4.1).
    :param seed: of the subnetwork's weights and of the order of the batches.
    :param threshold: ``detect`` flags scores above it.
    :param architecture: the subnetwork, ``cifar`` (figure 1) or ``imagenet`` (section 4.2).
    :raises ValueError: for a model without taps, a tap that it does not have, another architecture, or
        a classifier with ART preprocessing.

    Gradients flow through ``module`` and ``gradient_signs`` to the input, so adaptive attacks work on it.
    """

    defence_params = [*EvasionDetector.defence_params, "position", "lr", "seed", "threshold", "architecture"]

    def __init__(
        self,
        classifier: PyTorchClassifier,
        position: int = 2,
        lr: float = 1e-4,
        seed: int = 0,
        threshold: float = 0.5,
        architecture: str = "cifar",
    ) -> None:
        super().__init__()
        if architecture not in SUBNETWORKS:
            raise ValueError(f"architecture must be one of {', '.join(SUBNETWORKS)}, not {architecture!r}")
        if not isinstance(classifier.model, TappedModule):
            raise ValueError(f"classifier must wrap a model with taps, not {type(classifier.model).__name__}")
        refuse_preprocessing(classifier, type(self).__name__)
        self.classifier = classifier
        self.position = position
        self.lr = checks.positive(lr, "lr")
        self.seed = seed
        self.threshold = threshold
        self.architecture = architecture
        with torch.no_grad():
            probe = self.features(torch.zeros(1, *classifier.input_shape, device=classifier.device))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "detector weights"))
            subnetwork = SUBNETWORKS[architecture](probe.shape[1], probe.shape[2])
        self.subnetwork = subnetwork.to(classifier.device).to(memory_format=torch.channels_last).eval()

    @property
    def module(self) -> nn.Module:
        """Images (N, C, H, W) in [0, 1] -> logits (N, 2), differentiable: the detector as one module."""
        return _Attached(self.classifier.model, self.subnetwork, self.position)

    def features(self, x: Tensor) -> Tensor:
        """The classifier's activations at AD(position) for images x (N, C, H, W) in [0, 1], on its device."""
        model = self.classifier.model
        assert isinstance(model, TappedModule)
        model.eval()
        return model.features(x, self.position)

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        batch_size: int = 128,
        nb_epochs: int = 20,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
        checkpoint: Path | None = None,
        decay: bool = False,
        fast: bool = False,
        **kwargs: Any,
    ) -> list[dict]:
        """Static training (section 3.2): on clean and precomputed adversarial images, in equal proportion a batch.

        :param x: float (N, C, H, W) in [0, 1].
        :param y: 0 for clean, 1 for adversarial, indices or one-hot, (N,).
        :param validation: (x, y) that select the best epoch; without them the last epoch's weights stay.
        :param checkpoint: a file that each epoch is saved to and the training resumes from.
        :param decay: let the learning rate fall linearly to zero, step by step; the report keeps it.
        :param fast: compute in bfloat16 where the processor has it.
        :return: one dict an epoch: epoch, loss, with ``validation`` its validation_accuracy, seconds.
        :raises ValueError: for images or labels out of range, or only one kind of image.

        The classifier is frozen, so its activations are computed once and kept in half precision.
        """
        held_out = validation and (self._activations(validation[0], "validation x"), validation[1])
        features = self._activations(x, "x")
        return self.fit_features(features, y, batch_size, nb_epochs, held_out, checkpoint, decay, fast)

    def fit_features(
        self,
        features: Rows | Tensor,
        y: np.ndarray,
        batch_size: int = 128,
        nb_epochs: int = 20,
        validation: tuple[Rows | Tensor, np.ndarray] | None = None,
        checkpoint: Path | None = None,
        decay: bool = False,
        fast: bool = False,
    ) -> list[dict]:
        """As :meth:`fit`, on activations that were computed before, of which only a batch is read at a time.

        :param features: activations at AD(position), (N, C, H, W): a tensor on the classifier's device, an array, or
            :class:`FeatureFiles`. The last two are copied to a GPU once where it has room for them.
        :param y: 0 for clean, 1 for adversarial, (N,).
        :param validation: (features, y) that select the best epoch; without them the last epoch's weights stay.
        :raises ValueError: for labels out of range, or only one kind of image.
        """
        labels = self._labels(y, len(features), "y")
        if len(labels.unique()) < 2:
            raise ValueError("y must hold both clean (0) and adversarial (1) images")
        batch_size = min(batch_size, len(labels))
        read = self._reader(features)

        def batches_of(generator: torch.Generator) -> Sequence[Tensor]:
            order = _stratified(labels.cpu(), generator).to(labels.device)
            return order[: len(order) // batch_size * batch_size].split(batch_size)

        def labelled(chosen: Tensor) -> tuple[Tensor, Tensor]:
            return read(chosen), labels[chosen]

        if validation is None:
            return self.train(nb_epochs, batches_of, labelled, checkpoint=checkpoint, decay=decay, fast=fast)
        truth = self._labels(validation[1], len(validation[0]), "validation y")
        read_validation = self._reader(validation[0])

        def evaluate() -> dict[str, float]:
            flagged = self._p_adv(read_validation, len(truth)) > 0.5
            return {"validation_accuracy": float((flagged.long() == truth).float().mean())}

        return self.train(
            nb_epochs, batches_of, labelled, evaluate, checkpoint, best="validation_accuracy", decay=decay, fast=fast
        )

    def _labels(self, y: np.ndarray, n: int, name: str) -> Tensor:
        return torch.from_numpy(checks.labels(y, n, 2, name)).to(self.classifier.device)

    def scores_of(self, features: Rows) -> np.ndarray:
        """p_adv of each image from its activations at AD(position), (N, C, H, W); float32 (N,)."""
        with float32():
            return self._p_adv(self._reader(features), len(features)).cpu().numpy()

    def _reader(self, rows: Rows | Tensor) -> Read:
        """A function that reads the activations of some images, float32 on the classifier's device."""
        device = self.classifier.device
        if isinstance(rows, Tensor):
            return lambda chosen: rows[chosen].float()
        if (whole := _on_gpu(rows, device)) is not None:
            return self._reader(whole)
        return lambda chosen: torch.from_numpy(rows[chosen.cpu().numpy()]).to(device).float()

    def train(
        self,
        nb_epochs: int,
        batches_of: Callable[[torch.Generator], Iterable[T]],
        labelled: Callable[[T], tuple[Tensor, Tensor]],
        evaluate: Callable[[], dict[str, float]] = dict,
        checkpoint: Path | None = None,
        best: str | None = None,
        decay: bool = False,
        fast: bool = False,
    ) -> list[dict]:
        """Train the subnetwork with Adam on the cross-entropy: the loop of static and of dynamic training.

        :param batches_of: draws the batches of an epoch with a generator.
        :param labelled: a batch -> activations at AD(position), and 0 for clean or 1 for adversarial, (N,).
        :param evaluate: as of :func:`advbench.loop.train_in_epochs`, and so are ``checkpoint`` and ``best``.
        :param decay: as of :meth:`fit`, and so is ``fast``.
        :return: one dict an epoch: epoch, loss, the figures of ``evaluate``, seconds.
        """
        optimizer = torch.optim.Adam(self.subnetwork.parameters(), self.lr, betas=(0.99, 0.999))

        def step(batch: T) -> dict[str, Tensor]:
            activations, labels = labelled(batch)
            with bfloat16(self.classifier.device, fast):
                logits = self.subnetwork(activations)
            return descend(optimizer, F.cross_entropy(logits.float(), labels))

        return train_in_epochs(
            f"detector AD({self.position})",
            self.subnetwork,
            optimizer,
            nb_epochs,
            lambda epoch: batches_of(torch.Generator().manual_seed(derive(self.seed, "detector", epoch))),
            step,
            evaluate,
            checkpoint,
            rate=(lambda time: self.lr * (1 - time / nb_epochs)) if decay else None,
            best=best,
        )

    @torch.no_grad()
    def _activations(self, x: np.ndarray, name: str) -> Tensor:
        """The activations at AD(position) in half precision, (N, C, H, W), of images that are checked first."""
        images = torch.from_numpy(checks.images(x, name, self.classifier.input_shape))
        device = self.classifier.device
        shape = (len(images), *self.features(images[:1].to(device)).shape[1:])
        activations = torch.empty(shape, dtype=torch.float16, device=device, memory_format=torch.channels_last)
        for part, batch in zip(activations.split(_IN_WORK), images.split(_IN_WORK), strict=True):
            part.copy_(self.features(batch.to(device)))
        return activations

    @torch.no_grad()
    def _p_adv(self, read: Read, n: int) -> Tensor:
        every = torch.arange(n, device=self.classifier.device).split(_IN_WORK)
        return torch.cat([self.subnetwork(read(chosen)).softmax(1)[:, 1] for chosen in every])

    @torch.no_grad()
    def scores(self, x: np.ndarray, batch_size: int = 128) -> np.ndarray:
        """p_adv of each image, float32 (N,), in [0, 1], from the classifier's own float32 activations.

        :raises ValueError: for images of another shape or range.
        """
        x = checks.images(x, "x", self.classifier.input_shape)
        device = self.classifier.device
        with float32():
            parts = [
                self._p_adv(self.features(batch.to(device)).__getitem__, len(batch)).cpu()
                for batch in torch.from_numpy(x).split(batch_size)
            ]
        return torch.cat(parts).numpy()

    def detect(self, x: np.ndarray, batch_size: int = 128, **kwargs: Any) -> tuple[dict, np.ndarray]:
        """ART's contract: ({"predictions": (N, 2) probabilities of clean and adversarial}, flagged (N,) bool)."""
        score = self.scores(x, batch_size)
        return {"predictions": np.stack([1 - score, score], axis=1)}, score > self.threshold

    def threshold_at(self, fpr: float, x_clean: np.ndarray) -> float:
        """The lowest threshold that flags at most a share ``fpr`` of the clean images.

        :raises ValueError: if fpr is not in [0, 1).
        """
        return threshold_on(self.scores(x_clean), fpr)

    def joint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The classifier's logits (N, classes) and this detector's log p_adv / (1 - p_adv), (N,), in one pass.

        Differentiable, through the classifier's fast copy; x is (N, C, H, W) in [0, 1].
        """
        module = tapped(self.classifier)
        features = module.features(x, self.position)
        clean, adversarial = self.subnetwork(features).unbind(1)
        return module.forward_from(features, self.position), adversarial - clean

    def gradient_signs(
        self, x: Tensor, y: Tensor, classifier: bool = True, detector: bool = True
    ) -> tuple[Tensor | float, Tensor | float]:
        """sgn(grad J_cls(x, y)) and sgn(grad J_det(x, 1)) at images x, through one shared forward pass.

        :param classifier: whether the first is needed; 0.0 stands in its place otherwise.
        :param detector: whether the second is needed; likewise.
        """
        module = tapped(self.classifier)
        x = x.detach().requires_grad_(True)
        cls: Tensor | float = 0.0
        det: Tensor | float = 0.0
        with torch.enable_grad(), gradient_autocast(self.classifier):
            features = module.features(x, self.position)
            if classifier:
                logits = module.forward_from(features, self.position).float()
                cls = torch.autograd.grad(logits, x, ascent(logits.detach(), y), retain_graph=detector)[0].sign()
            if detector:
                loss = F.cross_entropy(self.subnetwork(features).float(), torch.ones_like(y), reduction="sum")
                det = torch.autograd.grad(loss, x)[0].sign()
        return cls, det

    def save(self, path: Path) -> None:
        """Write the subnetwork, its position and the fingerprint of its classifier to a safetensors file."""
        meta = {
            "position": self.position,
            "lr": self.lr,
            "seed": self.seed,
            "threshold": self.threshold,
            "architecture": self.architecture,
            "classifier": fingerprint(self.classifier.model),
        }
        save_tensors(path, self.subnetwork.state_dict(), meta)

    @classmethod
    def load(cls, path: Path | str, classifier: PyTorchClassifier | None = None) -> SubnetworkDetector:
        """The detector that ``save`` wrote, attached to the classifier that it was trained on.

        :param path: its file, or its name in the zoo.
        :param classifier: may be left out for one of the zoo, whose card names it.
        :raises UsageError: if the file is missing, is not a detector, or belongs to another classifier.
        """
        if zoo.is_meant(path):
            file = zoo.path(str(path), "detector")
            classifier = classifier or estimators.load(zoo.card(str(path)).classifier)
            path = file
        if classifier is None:
            raise UsageError(f"{path} needs the classifier that it was trained on")
        with reading(Path(path), "detector"):
            tensors, meta = load_tensors(Path(path))
            meta.pop("card", None)
            belongs_to = meta.pop("classifier")
            detector = cls(classifier, **meta)
            detector.subnetwork.load_state_dict(tensors)
        if belongs_to != fingerprint(classifier.model):
            raise UsageError(f"{path} was trained on another classifier")
        return detector


def tapped(classifier: PyTorchClassifier) -> TappedModule | GradientModel:
    """The model with taps to differentiate, in eval mode: of a ``TorchClassifier`` its gradient module."""
    if isinstance(classifier, TorchClassifier):
        return classifier.gradient_module
    assert isinstance(classifier.model, TappedModule)
    classifier.model.eval()
    return classifier.model


def threshold_on(scores: np.ndarray, fpr: float) -> float:
    """The lowest of the scores (N,) of clean images that at most a share ``fpr`` of them exceeds.

    :raises ValueError: if fpr is not in [0, 1).
    """
    if not 0 <= fpr < 1:
        raise ValueError(f"fpr must be in [0, 1), not {fpr}")
    exceeding = np.arange(len(scores) - 1, -1, -1) / len(scores)  # the share above each score, from the lowest score on
    return float(np.sort(scores)[np.argmax(exceeding <= fpr)])


class _Attached(nn.Module):
    def __init__(self, classifier: TappedModule, subnetwork: DetectorSubnetwork, position: int) -> None:
        super().__init__()
        self.classifier, self.subnetwork, self.position = classifier, subnetwork, position

    def forward(self, x: Tensor) -> Tensor:
        return self.subnetwork(self.classifier.features(x, self.position))


def _on_gpu(rows: Rows, device: torch.device) -> Tensor | None:
    """All rows on a GPU; None for another device, or where they would take more than half of the free memory."""
    first = rows[np.arange(1)]
    if device.type != "cuda" or len(rows) * first.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return None
    whole = torch.empty(len(rows), *first.shape[1:], dtype=torch.from_numpy(first).dtype, device=device)
    for chosen in np.array_split(np.arange(len(rows)), -(-len(rows) // _IN_WORK)):
        whole[chosen[0] : chosen[-1] + 1] = torch.from_numpy(rows[chosen]).to(device)
    return whole


def _stratified(target: Tensor, generator: torch.Generator) -> Tensor:
    """A random order in which every stretch holds clean and adversarial images in their overall proportion."""
    key = torch.empty(len(target))
    for label in target.unique():
        members = torch.nonzero(target == label)[:, 0]
        shuffled = members[torch.randperm(len(members), generator=generator)]
        key[shuffled] = (torch.arange(len(members)) + 0.5) / len(members)
    return key.argsort(stable=True)
