"""The detectors of ``compare_defences``, each beside the undefended network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.defences.detector.evasion import (
    BeyondDetectorPyTorch,
    BinaryActivationDetector,
    BinaryInputDetector,
    SubsetScanningDetector,
)
from art.estimators.classification import PyTorchClassifier
from torch import nn

from advbench.detectors import SubnetworkDetector
from advbench.detectors.network import SUBNETWORKS
from advbench.recipes import _compare_defences_beyond as beyond
from advbench.recipes._compare_defences_lab import Attack, Defence, Defended, History, Laboratory, Library
from advbench.seeds import own_global_state


@dataclass(frozen=True)
class Scored:
    """A detector with one number an image (N,), high for adversarial."""

    detector: Any
    score: Callable[[Any, np.ndarray], np.ndarray]

    def scores(self, x: np.ndarray) -> np.ndarray:
        return self.score(self.detector, np.array(x))


def detector(
    library: Library,
    make: Callable[[Laboratory, Any], Any],
    score: Callable[[Any, np.ndarray], np.ndarray],
    says: str,
    attack: Attack,
    network: Callable[[Laboratory], nn.Module] | None = None,
    fit: Callable[[Laboratory, Any, Path], History] | None = None,
    note: str = "",
) -> Defence:
    """A row: a detector, how its score is read, and, where it is trained, its module and how that learns."""

    def defend(lab: Laboratory, module: Any) -> Defended:
        scored = Scored(make(lab, module), score)
        return Defended(lab.undefended, lab.undefended, scored, lab.threshold(scored))

    return Defence("detector", library, says, defend, attack, network, fit, note)


def fit_binary(make: Callable[[Laboratory, Any], Any]) -> Callable[[Laboratory, Any, Path], History]:
    """The training of ART's binary detectors."""

    def fit(lab: Laboratory, module: Any, checkpoint: Path) -> History:
        x, y = lab.labelled()
        hot = np.eye(2, dtype=np.float32)[y]
        make(lab, module).fit(x, hot, batch_size=lab.config.batch, nb_epochs=lab.config.detector_epochs)
        return None

    return fit


def margin(binary: Any, x: np.ndarray) -> np.ndarray:
    """The logit of adversarial less that of clean."""
    logits = binary.detect(x)[0]["predictions"]
    return logits[:, 1] - logits[:, 0]


def scan_score(scan: SubsetScanningDetector, x: np.ndarray) -> np.ndarray:
    """The score of the most anomalous subset of activations."""
    return scan.detect(x)[0]["scores"]


def own_score(detector: SubnetworkDetector, x: np.ndarray) -> np.ndarray:
    """p_adv."""
    return detector.scores(x)


def input_network(lab: Laboratory) -> nn.Module:
    return lab.network(2)


def on_input(lab: Laboratory, module: nn.Module) -> BinaryInputDetector:
    return BinaryInputDetector(lab.stock(module, lab.adam(module), classes=2))


def layered(lab: Laboratory) -> PyTorchClassifier:
    """The undefended network as a sequence, the only form whose inner layers ART finds."""
    network = lab.undefended.model
    return lab.stock(nn.Sequential(*network.stages, network.head))


def tap_shape(lab: Laboratory) -> tuple[int, ...]:
    with torch.no_grad():
        zero = torch.zeros(1, *lab.spec.input_shape, device=lab.study.device)
        return tuple(lab.network().features(zero, lab.config.position).shape[1:])


def on_tap(lab: Laboratory, module: nn.Module) -> BinaryActivationDetector:
    binary = lab.stock(module, lab.adam(module), classes=2, shape=tap_shape(lab))
    return BinaryActivationDetector(layered(lab), binary, str(lab.config.position - 1))


def tap_network(lab: Laboratory) -> nn.Module:
    channels, height, _ = tap_shape(lab)
    with own_global_state(lab.study.seed_of("binary-activation")):
        return SUBNETWORKS["cifar"](channels, height).to(lab.study.device)


def scanning(lab: Laboratory, module: None) -> SubsetScanningDetector:
    background = lab.train.first(lab.config.detector_images).x
    last = str(len(lab.undefended.model.stages) - 1)
    return SubsetScanningDetector(layered(lab), background, last, verbose=False)


def supervised(lab: Laboratory) -> beyond.SelfSupervised:
    shape, classes = lab.spec.input_shape, lab.spec.classes
    return beyond.SelfSupervised(lab.network(), shape, classes, lab.study.seed_of("beyond"))


def fit_beyond(lab: Laboratory, module: beyond.SelfSupervised, checkpoint: Path) -> History:
    config, seed = lab.config, lab.study.seed_of("beyond")
    beyond.train(module, lab.train.x, lab.train.y, config.batch, config.epochs, config.lr, seed)
    return None


def with_views(lab: Laboratory, module: beyond.SelfSupervised) -> BeyondDetectorPyTorch:
    views = lab.config.beyond_views
    found = BeyondDetectorPyTorch(
        lab.stock(copy.deepcopy(lab.undefended.model)),  # it moves what it is given to a GPU where there is one
        lab.stock(module),
        beyond.augmented,
        aug_num=views,
        var_K=max(1, round(0.4 * views)),
    )
    found.device = lab.study.device
    module.to(lab.study.device)
    found.threshold = 0.0  # ours is fixed on the scores; without one it refuses to score
    return found


def dissimilarity(detector: BeyondDetectorPyTorch, x: np.ndarray) -> np.ndarray:
    """Minus the K-th largest similarity of an image's views with it, always of the same random views."""
    with own_global_state():
        return -detector.detect(x)[0]


def subnetwork(lab: Laboratory, module: nn.Module | None = None) -> SubnetworkDetector:
    config = lab.config
    made = SubnetworkDetector(lab.undefended, config.position, config.lr, lab.study.seed_of("subnetwork"))
    if module is not None:
        made.subnetwork = module
    return made


def fresh_subnetwork(lab: Laboratory) -> nn.Module:
    return subnetwork(lab).subnetwork


def fit_static(lab: Laboratory, module: nn.Module, checkpoint: Path) -> History:
    config = lab.config
    return subnetwork(lab, module).fit(
        *lab.labelled(), batch_size=config.batch, nb_epochs=config.detector_epochs, checkpoint=checkpoint
    )


def fit_dynamic(lab: Laboratory, module: nn.Module, checkpoint: Path) -> History:
    config, eps = lab.config, lab.bounds.fit_eps
    images = lab.train.first(config.detector_images)
    return subnetwork(lab, module).fit_dynamic(
        images.x,
        images.y,
        batch_size=config.batch,
        nb_epochs=config.dynamic_epochs,
        eps=eps,
        eps_step=eps / 4,
        max_iter=config.fit_steps,
        checkpoint=checkpoint,
    )
