"""Metzen et al.'s detector (2017, https://arxiv.org/abs/1702.04267) as an ART ``EvasionDetector``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from art.defences.detector.evasion import EvasionDetector
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import checks
from advbench.attacks.dynamic import DynamicDetectorAttack
from advbench.checkpoint import Checkpoint, fingerprint, load_tensors, save_tensors
from advbench.detectors.network import DetectorSubnetwork
from advbench.device import float32
from advbench.errors import UsageError
from advbench.estimators import gradient_autocast, gradient_module
from advbench.models.tapped import TappedModule
from advbench.progress import log, track
from advbench.seeds import derive

Batches = Callable[[int, torch.Generator], Iterator[tuple[Tensor, Tensor]]]


class SubnetworkDetector(EvasionDetector):
    """A binary subnetwork on the frozen classifier's activations at AD(position).

    :param classifier: an ART PyTorch classifier around a model with taps; never changed here.
    :param position: the tap, 0 for the input image.
    :param lr: of Adam with beta1 = 0.99, beta2 = 0.999 (section 4.1).
    :param seed: of the subnetwork's weights and of the order of the batches.
    :param threshold: ``detect`` flags scores above it.
    :raises ValueError: for a model without taps, or a tap that it does not have.

    Gradients flow through ``module`` and ``gradient_signs`` to the input, so adaptive attacks work on it.
    """

    defence_params = [*EvasionDetector.defence_params, "position", "lr", "seed", "threshold"]

    def __init__(
        self, classifier: PyTorchClassifier, position: int = 2, lr: float = 1e-4, seed: int = 0, threshold: float = 0.5
    ) -> None:
        super().__init__()
        if not isinstance(classifier.model, TappedModule):
            raise ValueError(f"classifier must wrap a model with taps, not {type(classifier.model).__name__}")
        self.classifier = classifier
        self.position = position
        self.lr = checks.positive(lr, "lr")
        self.seed = seed
        self.threshold = threshold
        with torch.no_grad():
            probe = self._trunk(torch.zeros(1, *classifier.input_shape, device=classifier.device))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "detector weights"))
            subnetwork = DetectorSubnetwork(probe.shape[1], probe.shape[2])
        self.subnetwork = subnetwork.to(classifier.device).to(memory_format=torch.channels_last).eval()

    @property
    def module(self) -> nn.Module:
        """Images (N, C, H, W) in [0, 1] -> logits (N, 2), differentiable: the detector as one module."""
        return _Attached(self.classifier.model, self.subnetwork, self.position)

    def _trunk(self, x: Tensor) -> Tensor:
        model = self.classifier.model
        assert isinstance(model, TappedModule)
        return model.eval().features(x, self.position)

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        batch_size: int = 128,
        nb_epochs: int = 20,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
        checkpoint: Path | None = None,
        **kwargs: Any,
    ) -> list[dict]:
        """Static training (section 3.2): on clean and precomputed adversarial images, in equal proportion a batch.

        :param x: float (N, C, H, W) in [0, 1].
        :param y: 0 for clean, 1 for adversarial, indices or one-hot, (N,).
        :param validation: (x, y) that select the best epoch; without them the last one stays.
        :param checkpoint: a file to resume from and to keep each epoch in.
        :return: one dict an epoch.
        :raises ValueError: for images or labels out of range, or only one kind of image.

        The classifier is frozen, so its activations are computed once and kept in half precision.
        """
        features, target = self._prepare(x, y, "")
        if len(target.unique()) < 2:
            raise ValueError("y must hold both clean (0) and adversarial (1) images")
        held_out = self._prepare(*validation, "validation ") if validation else None
        batch_size = min(batch_size, len(x))
        steps = len(x) // batch_size

        def batches(epoch: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
            order = _stratified(target.cpu(), generator).to(features.device)
            for step in range(steps):
                chosen = order[step * batch_size : (step + 1) * batch_size]
                yield features[chosen].float(), target[chosen]

        return self._train(nb_epochs, steps, batches, held_out, checkpoint)

    def fit_dynamic(
        self,
        x: np.ndarray,
        y: np.ndarray,
        batch_size: int = 128,
        nb_epochs: int = 20,
        eps: float = 1 / 255,
        eps_step: float = 1 / 255,
        max_iter: int = 10,
        checkpoint: Path | None = None,
    ) -> list[dict]:
        """Dynamic training (section 3.3): each image is replaced with probability 0.5, sigma ~ U[0, 1] a sample.

        The adversary sees the detector as it is at that batch, in eval mode.

        :param x: clean images, float (N, C, H, W) in [0, 1].
        :param y: their true classes, indices or one-hot.
        :param checkpoint: a file to resume from and to keep each epoch in.
        :return: one dict an epoch.
        :raises ValueError: for images, labels or attack parameters out of range.
        """
        x = checks.images(x, "x", self.classifier.input_shape)
        classes = torch.from_numpy(checks.labels(y, len(x), self.classifier.nb_classes))
        attack = DynamicDetectorAttack(self.classifier, self, eps, eps_step, max_iter)
        batch_size = min(batch_size, len(x))
        steps = len(x) // batch_size
        device = self.classifier.device

        def batches(epoch: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
            order = torch.randperm(len(x), generator=generator)
            for step in range(steps):
                chosen = order[step * batch_size : (step + 1) * batch_size]
                replaced = torch.rand(batch_size, generator=generator) < 0.5
                sigma = torch.rand(batch_size, generator=generator)[replaced].to(device)
                images = torch.from_numpy(x[chosen.numpy()]).to(device)
                if replaced.any():
                    self.subnetwork.eval()
                    hit = replaced.to(device)
                    images[hit] = attack.perturb(images[hit], classes[chosen[replaced]].to(device), sigma)
                    self.subnetwork.train()
                with torch.no_grad():
                    features = self._trunk(images)
                yield features, replaced.long().to(device)

        return self._train(nb_epochs, steps, batches, None, checkpoint)

    def _train(
        self,
        epochs: int,
        steps: int,
        batches: Batches,
        held_out: tuple[Tensor, Tensor] | None,
        checkpoint: Path | None,
    ) -> list[dict]:
        net = self.subnetwork
        optimizer = torch.optim.Adam(net.parameters(), self.lr, betas=(0.99, 0.999))
        kept = Checkpoint(checkpoint)
        best, history = kept.restore(net, optimizer)
        for epoch in range(len(history), epochs):
            start = time.monotonic()
            generator = torch.Generator().manual_seed(derive(self.seed, "detector", epoch))
            net.train()
            loss_sum = torch.zeros((), device=self.classifier.device)
            for features, target in track(batches(epoch, generator), f"detector, epoch {epoch + 1}/{epochs}", steps):
                loss = F.cross_entropy(net(features), target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss_sum += loss.detach()
            net.eval()
            entry = {"epoch": epoch + 1, "loss": float(loss_sum) / steps}
            if held_out is not None:
                entry["validation_accuracy"] = float(
                    ((self._p_adv(held_out[0]) > 0.5).long() == held_out[1]).float().mean()
                )
            earlier = [e["validation_accuracy"] for e in history if "validation_accuracy" in e]
            if held_out is None or not earlier or entry["validation_accuracy"] > max(earlier):
                best = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
            entry["seconds"] = round(time.monotonic() - start, 1)
            history.append(entry)
            log.info(
                "detector AD(%d): %s", self.position, ", ".join(f"{key} {value:.4g}" for key, value in entry.items())
            )
            kept.save(net, optimizer, best, history)
        net.load_state_dict(best)
        net.eval()
        return history

    @torch.no_grad()
    def _prepare(self, x: np.ndarray, y: np.ndarray, kind: str) -> tuple[Tensor, Tensor]:
        x = checks.images(x, f"{kind}x", self.classifier.input_shape)
        target = torch.from_numpy(checks.labels(y, len(x), 2, f"{kind}y")).to(self.classifier.device)
        device = self.classifier.device
        shape = (len(x), *self._trunk(torch.from_numpy(x[:1]).to(device)).shape[1:])
        features = torch.empty(shape, dtype=torch.float16, device=device, memory_format=torch.channels_last)
        for start in range(0, len(x), 256):
            batch = torch.from_numpy(x[start : start + 256])
            features[start : start + 256] = self._trunk(batch.to(device))
        return features, target

    @torch.no_grad()
    def _p_adv(self, features: Tensor) -> Tensor:
        return torch.cat([self.subnetwork(batch.float()).softmax(1)[:, 1] for batch in features.split(256)])

    @torch.no_grad()
    def scores(self, x: np.ndarray, batch_size: int = 128) -> np.ndarray:
        """p_adv of each image, float32 (N,), in [0, 1], from the classifier's own float32 activations.

        :raises ValueError: for images of another shape or range.
        """
        x = checks.images(x, "x", self.classifier.input_shape)
        device = self.classifier.device
        with float32():
            parts = [
                self._p_adv(self._trunk(batch.to(device))).cpu() for batch in torch.from_numpy(x).split(batch_size)
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
        if not 0 <= fpr < 1:
            raise ValueError(f"fpr must be in [0, 1), not {fpr}")
        return float(np.quantile(self.scores(x_clean), 1 - fpr, method="higher"))

    def joint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The classifier's logits (N, classes) and this detector's log p_adv / (1 - p_adv), (N,), in one pass.

        Differentiable, through the classifier's fast copy; x is (N, C, H, W) in [0, 1].
        """
        module = gradient_module(self.classifier)
        assert isinstance(module, TappedModule)
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
        module = gradient_module(self.classifier)
        assert isinstance(module, TappedModule)
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_(True)
        cls: Tensor | float = 0.0
        det: Tensor | float = 0.0
        with torch.enable_grad(), gradient_autocast(self.classifier):
            features = module.features(x, self.position)
            if classifier:
                loss = F.cross_entropy(module.forward_from(features, self.position).float(), y, reduction="sum")
                cls = torch.autograd.grad(loss, x, retain_graph=detector)[0].sign()
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
            "classifier": fingerprint(self.classifier.model),
        }
        save_tensors(path, self.subnetwork.state_dict(), meta)

    @classmethod
    def load(cls, path: Path, classifier: PyTorchClassifier) -> SubnetworkDetector:
        """The detector that ``save`` wrote, attached to the classifier that it was trained on.

        :raises UsageError: if the file is missing, is not a detector, or belongs to another classifier.
        """
        if not Path(path).is_file():
            raise UsageError(f"no detector at {path}")
        try:
            tensors, meta = load_tensors(Path(path))
            belongs_to = meta.pop("classifier")
            detector = cls(classifier, **meta)
            detector.subnetwork.load_state_dict(tensors)
        except Exception as error:
            raise UsageError(
                f"{path} is not a detector of advbench: {(str(error).splitlines() or ['unreadable'])[0]}"
            ) from error
        if belongs_to != fingerprint(classifier.model):
            raise UsageError(f"{path} was trained on another classifier")
        return detector


class _Attached(nn.Module):
    def __init__(self, classifier: TappedModule, subnetwork: DetectorSubnetwork, position: int) -> None:
        super().__init__()
        self.classifier, self.subnetwork, self.position = classifier, subnetwork, position

    def forward(self, x: Tensor) -> Tensor:
        return self.subnetwork(self.classifier.features(x, self.position))


def _stratified(target: Tensor, generator: torch.Generator) -> Tensor:
    """A random order in which every stretch holds clean and adversarial images in their overall proportion."""
    key = torch.empty(len(target))
    for label in target.unique():
        members = torch.nonzero(target == label)[:, 0]
        shuffled = members[torch.randperm(len(members), generator=generator)]
        key[shuffled] = (torch.arange(len(members)) + 0.5) / len(members)
    return key.argsort(stable=True)
