"""The defences that are a detector beside the undefended network."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.defences.detector import evasion
from art.estimators.classification import PyTorchClassifier
from torch import nn

from advbench.detectors import SubnetworkDetector, threshold_on
from advbench.detectors.network import SUBNETWORKS
from advbench.recipes.compare_defences import against, beyond
from advbench.recipes.compare_defences.materials import Comparison, Defence, Defended
from advbench.seeds import own_global_state
from advbench.study import History
from advbench.trainers import DynamicDetectorTrainer

NO_GRADIENT = "no gradient of its score reaches the image: the adaptive attack is a best effort without one"


@dataclass(frozen=True)
class Scored:
    """A detector with one number an image (N,), high for adversarial."""

    detector: Any
    score: Callable[[Any, np.ndarray], np.ndarray]

    def scores(self, x: np.ndarray) -> np.ndarray:
        return self.score(self.detector, np.array(x))


class Detector(Defence):
    """A detector with a score."""

    kind = "detector"
    adaptive = against.joint_gradients

    @abstractmethod
    def detector(self, made: Comparison, module: Any) -> Any:
        """The detector itself."""

    @abstractmethod
    def score(self, detector: Any, x: np.ndarray) -> np.ndarray:
        """One number an image (N,), high for adversarial."""

    def defend(self, made: Comparison, module: Any) -> Defended:
        scored = Scored(self.detector(made, module), self.score)
        threshold = threshold_on(scored.scores(made.validation.x), made.config.false_positives)
        return Defended(made.baseline, made.baseline, scored, threshold)


class Binary(Detector):
    """One of ART's binary detectors: a network with two outputs."""

    library, trained = "art", True

    def train(self, made: Comparison, module: nn.Module, checkpoint: Path) -> None:
        x, y = made.labelled()
        schedule = made.schedule(made.config.detector_epochs)
        self.detector(made, module).fit(x, np.eye(2, dtype=np.float32)[y], **schedule)

    def score(self, detector: Any, x: np.ndarray) -> np.ndarray:
        """The logit of adversarial less that of clean."""
        logits = detector.detect(x)[0]["predictions"]
        return logits[:, 1] - logits[:, 0]


class BinaryInput(Binary):
    name = "binary-input"
    text = "BinaryInputDetector: a second network on the image"

    def network(self, made: Comparison) -> nn.Module:
        return made.network(classes=2)

    def detector(self, made: Comparison, module: nn.Module) -> evasion.BinaryInputDetector:
        return evasion.BinaryInputDetector(made.stock(module, classes=2, optimizer=made.adam(module)))


def layered(made: Comparison) -> PyTorchClassifier:
    """The undefended network as a sequence, the only form in which ART finds inner layers."""
    network = made.baseline.model
    return made.stock(nn.Sequential(*network.stages, network.head))


class BinaryActivation(Binary):
    name = "binary-activation"
    text = "BinaryActivationDetector: a second network on inner activations"
    note = f"{NO_GRADIENT}; ART takes the activations through NumPy"
    adaptive = against.gradient_free

    def network(self, made: Comparison) -> nn.Module:
        channels, height, _ = self._tap_shape(made)
        with own_global_state(made.study.seed_of("binary-activation")):
            return SUBNETWORKS["cifar"](channels, height).to(made.study.device)

    def detector(self, made: Comparison, module: nn.Module) -> evasion.BinaryActivationDetector:
        binary = made.stock(module, classes=2, shape=self._tap_shape(made), optimizer=made.adam(module))
        return evasion.BinaryActivationDetector(layered(made), binary, str(made.config.position - 1))

    def _tap_shape(self, made: Comparison) -> tuple[int, ...]:
        with torch.no_grad():
            zero = torch.zeros(1, *made.spec.input_shape, device=made.study.device)
            return tuple(made.network().features(zero, made.config.position).shape[1:])


class SubsetScanning(Detector):
    name, library = "subset-scanning", "art"
    text = "SubsetScanningDetector: unusually many unusual activations at the last tap"
    note = f"{NO_GRADIENT}; it counts activations"
    adaptive = against.gradient_free

    def detector(self, made: Comparison, module: None) -> evasion.SubsetScanningDetector:
        background = made.train.first(made.config.detector_images).x
        last = str(len(made.baseline.model.stages) - 1)
        return evasion.SubsetScanningDetector(layered(made), background, last, verbose=False)

    def score(self, detector: evasion.SubsetScanningDetector, x: np.ndarray) -> np.ndarray:
        """The score of the most anomalous subset of activations."""
        return detector.detect(x)[0]["scores"]


class Beyond(Detector):
    name, library, trained = "beyond", "art", True
    text = "BeyondDetector: augmented copies of an image must look alike to a self-supervised network"
    note = f"{NO_GRADIENT}; ART's never asks the classifier, the label that copies must agree on is the second network's own"
    adaptive = against.gradient_free

    def network(self, made: Comparison) -> nn.Module:
        spec = made.spec
        return beyond.SelfSupervised(made.network(), spec.input_shape, spec.classes, made.study.seed_of("beyond"))

    def train(self, made: Comparison, module: beyond.SelfSupervised, checkpoint: Path) -> History:
        config, seed = made.config, made.study.seed_of("beyond")
        return beyond.train(module, made.train, config.batch, config.epochs, config.lr, seed)

    def detector(self, made: Comparison, module: beyond.SelfSupervised) -> evasion.BeyondDetectorPyTorch:
        views, device = made.config.beyond_views, made.study.device
        detector = evasion.BeyondDetectorPyTorch(
            made.stock(copy.deepcopy(made.baseline.model)),  # it moves its networks to a GPU where there is one
            made.stock(module),
            beyond.augmented,
            aug_num=views,
            var_K=max(1, round(0.4 * views)),
        )
        detector.device = device
        module.to(device)
        detector.threshold = 0.0  # ours is fixed on the scores; without one it refuses to score
        return detector

    def score(self, detector: evasion.BeyondDetectorPyTorch, x: np.ndarray) -> np.ndarray:
        """Minus the K-th largest similarity of an image's views with it, always of the same random views."""
        with own_global_state():
            return -detector.detect(x)[0]


class Static(Detector):
    name, library, trained = "ad-static", "advbench", True
    text = "AD(k): a subnetwork on inner activations (Metzen et al., 2017)"

    def network(self, made: Comparison) -> nn.Module:
        return self.detector(made).subnetwork

    def train(self, made: Comparison, module: nn.Module, checkpoint: Path) -> History:
        (x, y), schedule = made.labelled(), made.schedule(made.config.detector_epochs)
        return self.detector(made, module).fit(x, y, **schedule, checkpoint=checkpoint)

    def detector(self, made: Comparison, module: Any = None) -> SubnetworkDetector:
        config, seed = made.config, made.study.seed_of("subnetwork")
        detector = SubnetworkDetector(made.baseline, config.position, config.lr, seed)
        detector.subnetwork = module or detector.subnetwork
        return detector

    def score(self, detector: SubnetworkDetector, x: np.ndarray) -> np.ndarray:
        """p_adv."""
        return detector.scores(x)


class Dynamic(Static):
    name = "ad-dynamic"
    text = "AD(k), trained against an adversary that attacks it as it learns"

    def train(self, made: Comparison, module: nn.Module, checkpoint: Path) -> History:
        config, eps = made.config, made.bounds.fit_eps
        images, detector = made.train.first(config.detector_images), self.detector(made, module)
        trainer = DynamicDetectorTrainer(detector, eps, eps / 4, config.fit_steps)
        return trainer.fit(images.x, images.y, **made.schedule(config.dynamic_epochs), checkpoint=checkpoint)


DETECTORS = (BinaryInput(), BinaryActivation(), SubsetScanning(), Beyond(), Static(), Dynamic())
