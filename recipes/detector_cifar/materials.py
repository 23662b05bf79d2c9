"""The materials of ``detector-cifar``: the classifier, adversarial images and detectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from advbench import models
from advbench.data import Dataset, Images
from advbench.detectors import SubnetworkDetector
from advbench.estimators import TorchClassifier
from advbench.models.tapped import TappedModule
from advbench.recipes.detector_cifar.adversaries import ITERATIONS, Adversary, StaticDetectors
from advbench.recipes.detector_cifar.config import DetectorCifar
from advbench.report import bundle
from advbench.study import History, Study, once
from advbench.trainers import DynamicDetectorTrainer, train_classifier


class Detectors(StaticDetectors[DetectorCifar]):
    """A ResNet-32, its static detectors and the dynamic one."""

    columns = {"split": "test", "model": "resnet32"}
    steps = {"bim": 1 / 255, "bim-l2": 20 / 255}  # the smallest eps of each (section 4.1)
    positions = {"fgsm": 2, "bim": 2, "bim-l2": 2, "deepfool-l2": 4, "deepfool-linf": 4}  # section 4.1

    def __init__(self, study: Study[DetectorCifar]) -> None:
        super().__init__(study)
        self.classifier = self._classifier()
        self.clean = {
            "train": self._images(study.train, self.split["train"], self.config.detector_images),
            "validation": self._images(study.train, self.split["validation"], self.config.validation_images),
            "test": self.test_images(self.config.test_images),
        }
        self.dynamic_base = Adversary("bim", self.config.dynamic_eps)
        self.dynamic_step = min(self.steps["bim"], self.config.dynamic_eps)

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
        x, y = data.x[chosen], data.y[chosen]
        moments = x.mean(axis=(0, 2, 3), dtype=np.float64), x.std(axis=(0, 2, 3), dtype=np.float64)
        mean, std = (tuple((moment / 255).round(4).tolist()) for moment in moments)
        spec = models.ModelSpec("resnet32", x.shape[1:], len(data.classes), mean, std)
        schedule = config.classifier_schedule
        batch = min(schedule.batch_size, max(len(x) // 30, 16))  # few images still make some steps an epoch
        batch -= batch % config.devices  # which share it equally
        schedule = replace(
            schedule,
            batch_size=batch,
            lr=schedule.lr * batch / schedule.batch_size,  # Goyal et al. (2017): in proportion to the batch
            flip=data.name == "cifar10",  # a mirrored digit is none
        )
        seed = self.study.seed_of("classifier")

        def train(module: TappedModule, checkpoint: Path) -> History:
            held_out = data.x[validation], data.y[validation]
            return train_classifier(
                module, (x, y), held_out, schedule, seed, self.study.device, checkpoint, config.devices
            )

        self.trained("classifier", spec, seed, train)
        return self.loaded("classifier", "fast")

    def predicted(self, x: np.ndarray) -> np.ndarray:
        return self.classifier.predict(x, batch_size=256).argmax(1)

    @once
    def crafted(self, adversary: Adversary | None, part: str) -> np.ndarray:
        """The images of a part of the data, clean or adversarial, crafted with the true labels."""
        images = self.clean[part]
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
        return self.predicted(self.crafted(adversary, "test")) != self.clean["test"].y

    @once
    def dynamic_detector(self) -> SubnetworkDetector:
        """Trained at AD(2) against the dynamic adversary, which attacks it as it learns (section 3.3)."""
        detector, images = self.untrained(2, 0), self.clean["train"]

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

        return self.trained_detector("detector-dynamic", detector, fit)

    def explorer(self) -> dict[str, bytes]:
        """Test images for the page under every adversary."""
        images = self.clean["test"]
        attacked = [self.explored(adversary, self.crafted(adversary, "test")) for adversary in self.adversaries]
        return bundle(images.x, images.y, self.study.test.classes, attacked)
