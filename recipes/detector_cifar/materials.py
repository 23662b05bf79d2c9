"""The materials of ``detector-cifar``: the classifier, adversarial images and detectors."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from advbench import models
from advbench.data import Dataset, Images
from advbench.detectors import SubnetworkDetector
from advbench.estimators import TorchClassifier
from advbench.models.tapped import TappedModule
from advbench.recipes.detector_cifar.adversaries import ITERATIONS, Adversary, StaticDetectors, alpha, grids_of
from advbench.recipes.detector_cifar.config import DetectorCifar
from advbench.report import bundle
from advbench.study import History, Measured, Pretrained, Study, once
from advbench.trainers import DynamicDetectorTrainer, train_classifier

Kind = Literal["static", "dynamic"]

DYNAMIC = "detector-dynamic"
"""The training of the dynamic detector."""

ZOO_EPS_FGSM = 2 / 255
"""At which the zoo's detector was trained: the smallest that leaves less than 30 %."""


class Detectors(StaticDetectors[DetectorCifar]):
    """A ResNet-32, its static detectors and the dynamic one."""

    columns = {"split": "test", "model": "resnet32"}
    steps = {"bim": 1 / 255, "bim-l2": 20 / 255}  # the smallest eps of each (section 4.1)
    positions = {"fgsm": 2, "bim": 2, "bim-l2": 2, "deepfool-l2": 4, "deepfool-linf": 4}  # section 4.1

    def __init__(self, study: Study[DetectorCifar]) -> None:
        super().__init__(study)
        self.classifier = self._classifier()
        self.dynamic_base = Adversary("bim", self.config.dynamic_eps)
        self.dynamic_step = alpha(self.steps["bim"], self.config.dynamic_eps)
        has: dict[Kind, bool] = {"static": self.has_detector(self.dynamic_base, 2), "dynamic": self.available(DYNAMIC)}
        self.kinds = [kind for kind in has if has[kind]]

    @once
    def clean(self, part: str) -> Images:
        """The clean images of a part of the data."""
        if part == "test":
            return self.test_images(self.config.test_images)
        n = {"train": self.config.detector_images, "validation": self.config.validation_images}[part]
        return self._images(self.study.train, self.split[part], n)

    def test_images(self, n: int | None) -> Images:
        return self._images(self.study.test, np.arange(len(self.study.test)), n)

    def _images(self, dataset: Dataset, indices: np.ndarray, n: int | None) -> Images:
        return dataset.images(self._drawn(indices, n, "subset", dataset.split, n))

    def _drawn(self, indices: np.ndarray, n: int | None, *seed: object) -> np.ndarray:
        """As many of the indices, drawn at random and sorted; all where n is None."""
        if n is None or n >= len(indices):
            return indices
        return np.sort(np.random.default_rng(self.study.seed_of(*seed)).choice(indices, n, replace=False))

    def _classifier(self) -> TorchClassifier:
        """ResNet-32, trained on crops and flips of the training split; the best validation epoch is kept."""
        config, data, n = self.config, self.study.train, self.config.train_images
        chosen, validation = self._drawn(self.split["train"], n, "classifier", "subset"), self.split["validation"]
        if n is not None and len(chosen) < len(self.split["train"]):
            validation = validation[: max(n // 8, 1)]

        def spec() -> models.ModelSpec:
            x = data.x[chosen]
            moments = x.mean(axis=(0, 2, 3), dtype=np.float64), x.std(axis=(0, 2, 3), dtype=np.float64)
            mean, std = (tuple((moment / 255).round(4).tolist()) for moment in moments)
            return models.ModelSpec("resnet32", x.shape[1:], len(data.classes), mean, std)

        schedule = config.classifier_schedule
        batch = min(schedule.batch_size, max(len(chosen) // 30, 16))  # few images still make some steps an epoch
        batch -= batch % config.devices  # which share it equally
        schedule = replace(
            schedule,
            batch_size=batch,
            lr=schedule.lr * batch / schedule.batch_size,  # Goyal et al. (2017): in proportion to the batch
            flip=data.name == "cifar10",  # a mirrored digit is none
        )
        seed = self.study.seed_of("classifier")

        def train(module: TappedModule, checkpoint: Path) -> History:
            images, held_out = ((data.x[part], data.y[part]) for part in (chosen, validation))
            return train_classifier(
                module, images, held_out, schedule, seed, self.study.device, checkpoint, config.devices
            )

        self.trained("classifier", spec, seed, train)
        return self.loaded("classifier", "fast")

    def predicted(self, x: np.ndarray) -> np.ndarray:
        return self.classifier.predict(x, batch_size=256).argmax(1)

    @once
    def crafted(self, adversary: Adversary | None, part: str) -> np.ndarray:
        """The images of a part of the data, clean or adversarial, crafted with the true labels."""
        images = self.clean(part)
        if adversary is None:
            return images.x
        label, stage = f"{adversary.label} on {part}", f"adversarial-{adversary.label}-{part}"

        def make() -> dict[str, np.ndarray]:
            return {"x": self.attacked(self.attack(adversary), images, label, stage=stage)}

        return self.run.arrays(stage, make)["x"]

    def inputs(self, part: str, *adversaries: Adversary | None) -> np.ndarray:
        return np.concatenate([self.crafted(adversary, part) for adversary in adversaries])

    @once
    def wrong(self, adversary: Adversary) -> np.ndarray:
        return self.predicted(self.crafted(adversary, "test")) != self.clean("test").y

    @once
    def dynamic_detector(self) -> SubnetworkDetector:
        """Trained at AD(2) against the dynamic adversary, which attacks it as it learns (section 3.3)."""
        detector, images = self.untrained(2, 0), self.clean("train")

        def fit(checkpoint: Path) -> History:
            if self.config.dynamic_start == "static":
                static = self.detector(self.dynamic_base, 2, 0)
                detector.subnetwork.load_state_dict(static.subnetwork.state_dict())
            trainer = DynamicDetectorTrainer(detector, self.config.dynamic_eps, self.dynamic_step, ITERATIONS)
            return trainer.fit(
                images.x,
                images.y,
                batch_size=self.config.detector_batch,
                nb_epochs=self.config.dynamic_epochs,
                checkpoint=checkpoint,
                decay=self.config.detector_decay,
                fast=self.config.detector_bfloat16,
            )

        return self.trained_detector(DYNAMIC, detector, fit)

    def explorer(self) -> dict[str, bytes]:
        """Test images for the page under every adversary."""
        images = self.clean("test")
        attacked = [self.explored(adversary, self.crafted(adversary, "test")) for adversary in self.adversaries]
        return bundle(images.x, images.y, self.study.test.classes, attacked)


OF_DETECTORS = (
    *("detector_images", "detector_epochs", "detector_lr", "detector_batch", "detector_decay", "detector_bfloat16"),
    *("dynamic_start", "dynamic_epochs"),
)
"""The fields that say how detectors are trained."""


def measured(config: DetectorCifar, stage: str) -> Measured:
    """What the detector of a stage is measured against: the adversary that it was trained on."""
    adversaries = [each for grid in grids_of(config) for each in grid]
    known = product(adversaries, range(5), range(config.depth_seeds))
    adversary = next((each for each, *trained in known if each.detector_stage(*trained) == stage), None)
    if adversary is not None:
        return Measured(adversary.arguments(adversary.eps, Detectors.steps.get(adversary.attack)))
    if stage != DYNAMIC:
        return Measured()
    step = min(Detectors.steps["bim"], config.dynamic_eps)
    return Measured(Adversary("dynamic", config.dynamic_eps).arguments(config.dynamic_eps, step) | {"sigma": 0.5})


PRETRAINED = Pretrained(
    base=("classifier",),
    training=("schedule", "epochs", "train_images", "devices", *OF_DETECTORS),
    beyond_base=OF_DETECTORS,
    quick={
        "eps_fgsm": (ZOO_EPS_FGSM,),
        "test_images": 400,
        "clean_images": None,
        "validation_images": 500,
        "sigmas": (0, 0.25, 0.5, 1),
        "sigma_images": 150,
        "check_iterations": 20,
        "min_successes": 30,
    },
    measured=measured,
)
