"""The materials of ``detector-imagenet10``: of the images only their features at AD(4) are kept, in half precision."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from advbench import models
from advbench.attacks import ATTACKS, DeepFool
from advbench.data import Images
from advbench.data.imagenet import SIZE
from advbench.detectors import FeatureFiles
from advbench.device import float32, images_at_a_time
from advbench.estimators import TorchClassifier
from advbench.models.tapped import TappedModule
from advbench.models.vgg16 import LinearVGG16
from advbench.progress import track
from advbench.recipes.detector_cifar.adversaries import Adversary, StaticDetectors
from advbench.recipes.detector_imagenet10.claims import CHANCE
from advbench.recipes.detector_imagenet10.config import DetectorImagenet10
from advbench.recipes.detector_imagenet10.network import CALLED, fit_head, published
from advbench.report import bundle
from advbench.study import Study, Training, once

POSITION = 4
PIECE = 64  # images that are crafted and kept together: what a kill can lose, and what is in memory at a time
PICTURES = 12  # test images whose adversarial versions are kept themselves, for the page


@dataclass(frozen=True)
class Crafted:
    """What is kept of the images of a part of the data, clean or adversarial.

    :param files: the features at AD(4), float16, npy.
    :param predicted: the classifier's labels (N,), from its own float32 logits.
    :param linf: the perturbation's largest change of a pixel, in [0, 1], (N,).
    :param l2: its Euclidean length, (N,).
    :param pictures: the first of the images themselves, float32.
    """

    files: list[Path]
    predicted: np.ndarray
    linf: np.ndarray
    l2: np.ndarray
    pictures: np.ndarray


class Detectors(StaticDetectors[DetectorImagenet10]):
    """A VGG16 and its static detectors."""

    positions = dict.fromkeys(ATTACKS, POSITION)
    architecture = "imagenet"
    on_features = True
    unreferenced = frozenset([CHANCE])

    def __init__(self, study: Study[DetectorImagenet10]) -> None:
        super().__init__(study)
        config, shape = study.config, study.train.x.shape[1:]
        # those of a small subset are among those of a larger one, and the first are of all classes
        shuffled = {
            part: np.random.default_rng(study.seed_of("subset", part)).permutation(indices)
            for part, indices in (*self.split.items(), ("test", np.arange(len(study.test))))
        }
        self.part = {
            "head": shuffled["train"][: config.head_images],
            "train": shuffled["train"][: config.train_images],
            "validation": shuffled["validation"][: config.validation_images],
            "test": shuffled["test"][: config.test_images],
            "whole test": shuffled["test"][: config.clean_images],
        }
        self.scale = shape[2] / SIZE
        # the smallest eps of l2, as on CIFAR-10; the report leaves it open
        self.steps = {"bim": 1 / 255, "bim-l2": 400 / 255 * self.scale}
        self.in_work = images_at_a_time(shape, study.device)
        self.classifier, model = self._classifier()
        self.columns = {"split": "test", "model": model}

    def _images(self, part: str, indices: np.ndarray) -> Images:
        return (self.study.test if "test" in part else self.study.train).images(indices)

    def labels(self, part: str) -> np.ndarray:
        return (self.study.test if "test" in part else self.study.train).y[self.part[part]]

    def _classifier(self) -> tuple[TorchClassifier, str]:
        """VGG16, with a head fitted to the training split where it has none, and what the rows call it."""

        def make(_: Path) -> Training:
            start = time.monotonic()
            network, spec = published(self.config.weights, self.study.train, self.study.seed_of("classifier"))
            fitted = {}
            if isinstance(network, LinearVGG16):
                fitted["train_accuracy"] = fit_head(network, self._pooled(network), self.labels("head"), spec.classes)
            history = [{"epoch": 1, **fitted, "seconds": round(time.monotonic() - start, 1)}]
            return partial(models.save, module=network, spec=spec), history

        module, spec = models.load(self.run.trained("classifier", make))
        return self.wrapped(module, spec, precision="fast"), f"{CALLED[spec.name]}, {spec.input_shape[2]} px"

    def _pooled(self, network: LinearVGG16) -> np.ndarray:
        network.to(self.study.device)

        def piece(indices: np.ndarray) -> Mapping[str, np.ndarray]:
            with float32():
                batches = torch.from_numpy(self._images("head", indices).x).split(self.in_work)
                pooled = [network.pooled(batch.to(self.study.device)).cpu() for batch in batches]
            return {"pooled": torch.cat(pooled).numpy()}

        pieces = self._pieces("pooled", self.part["head"], piece)
        network.cpu()
        return _joined(pieces, "pooled")

    def _pieces(
        self, stage: str, indices: np.ndarray, make: Callable[[np.ndarray], Mapping[str, np.ndarray]]
    ) -> list[dict[str, np.ndarray]]:
        """The arrays of the images, a stage for each few of them."""
        starts = range(0, len(indices), PIECE)
        return [
            self.run.arrays(f"{stage}-{start // PIECE}", partial(make, indices[start : start + PIECE]))
            for start in track(starts, stage, len(starts))
        ]

    def eps(self, adversary: Adversary) -> float | None:
        """For images of this size: an l2 bound is the report's in the change of a pixel (root mean square)."""
        scaled = adversary.eps is not None and ATTACKS[adversary.attack].norm == "l2"
        return adversary.eps * self.scale if scaled else adversary.eps

    def perturbed(self, adversary: Adversary, images: Images) -> np.ndarray:
        """The adversarial version of every image, crafted with the true labels."""
        if ATTACKS[adversary.attack].bounded:
            return self.attack(adversary).generate(images.x, images.y)
        config = self.config
        attack = DeepFool(
            self.classifier,
            2 if ATTACKS[adversary.attack].norm == "l2" else np.inf,
            max_iter=config.deepfool_iterations,
            candidates=config.deepfool_candidates,
            batch_size=self.in_work,
        )
        low, high = images.x - config.deepfool_limit, images.x + config.deepfool_limit
        return np.clip(attack.generate(images.x, images.y), low, high)

    @once
    def crafted(self, adversary: Adversary | None, part: str) -> Crafted:
        """All images of a part under an adversary, or clean."""
        stage = f"{adversary.label if adversary else 'clean'}-{part}"
        first = self.part["test"][0] if part == "test" else None

        def piece(indices: np.ndarray) -> Mapping[str, np.ndarray]:
            images = self._images(part, indices)
            x = self.perturbed(adversary, images) if adversary else images.x
            features, predicted = self._judged(x)
            change = (x - images.x).reshape(len(x), -1)
            return {
                "features": features,
                "predicted": predicted,
                "linf": np.abs(change).max(1),
                "l2": np.linalg.norm(change, axis=1),
                "pictures": x[: PICTURES if indices[0] == first else 0],
            }

        pieces = self._pieces(stage, self.part[part], piece)
        files = [self.run.directory / "arrays" / f"{stage}-{i}" / "features.npy" for i in range(len(pieces))]
        return Crafted(files, *(_joined(pieces, name) for name in ("predicted", "linf", "l2", "pictures")))

    @torch.no_grad()
    def _judged(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of the classifier itself in float32, in one pass."""
        model, device = self.classifier.model.eval(), self.classifier.device
        assert isinstance(model, TappedModule)
        found, predicted = [], []
        with float32():
            for batch in torch.from_numpy(x).split(self.in_work):
                features = model.features(batch.to(device), POSITION)
                found.append(features.half().cpu())
                predicted.append(model.forward_from(features, POSITION).argmax(1).cpu())
        return torch.cat(found).numpy(), torch.cat(predicted).numpy()

    def clean_predictions(self) -> np.ndarray:
        """The classifier's labels of all test images, which need no features."""

        def piece(indices: np.ndarray) -> Mapping[str, np.ndarray]:
            images = self._images("test", indices)
            return {"predicted": self.classifier.predict(images.x, self.in_work).argmax(1)}

        return _joined(self._pieces("predicted-test", self.part["whole test"], piece), "predicted")

    def inputs(self, part: str, *adversaries: Adversary | None) -> FeatureFiles:
        return FeatureFiles([file for adversary in adversaries for file in self.crafted(adversary, part).files])

    def wrong(self, adversary: Adversary) -> np.ndarray:
        return self.crafted(adversary, "test").predicted != self.labels("test")

    def explorer(self) -> dict[str, bytes]:
        """The few images that are kept themselves, for the page."""
        x = self.crafted(None, "test").pictures
        attacked = [self.explored(each, self.crafted(each, "test").pictures) for each in self.references()]
        return bundle(x, self.labels("test")[: len(x)], self.study.test.classes, attacked)


def _joined(pieces: Sequence[Mapping[str, np.ndarray]], name: str) -> np.ndarray:
    return np.concatenate([arrays[name] for arrays in pieces])
