"""The materials of ``detector_cifar``: classifier, adversarial images and detectors, each made once and kept by the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from advbench import attacks, estimators, metrics, models
from advbench.attacks.registry import NORMS
from advbench.data import Dataset, Images, split_indices
from advbench.detectors import SubnetworkDetector
from advbench.progress import track
from advbench.report import Attacked, bundle
from advbench.study.run import Training
from advbench.study.study import Study
from advbench.trainers import Schedule, train_classifier

ITERATIONS = 10
STEP = {"bim": 1 / 255, "bim-l2": 20 / 255}
"""alpha of the iterative methods, the smallest eps of each (section 4.1)."""


@dataclass(frozen=True)
class Adversary:
    """An attack at one eps; DeepFool has none."""

    attack: str
    eps: float | None = None

    @property
    def label(self) -> str:
        return self.attack if self.eps is None else f"{self.attack}-{round(self.eps * 255, 3):g}"

    @property
    def position(self) -> int:
        """Where the report attaches the detector for this adversary (section 4.1)."""
        return 4 if self.attack.startswith("deepfool") else 2

    def columns(self) -> dict[str, Any]:
        return {"attack": self.attack, "norm": NORMS[self.attack], "eps": self.eps}


def adversaries_of(config: Any) -> list[Adversary]:
    """Those of the report, at the eps that a config names (section 4)."""
    return [
        *(Adversary("fgsm", eps) for eps in config.eps_fgsm),
        *(Adversary("bim", eps) for eps in config.eps_bim),
        *(Adversary("bim-l2", eps) for eps in config.eps_bim_l2),
        Adversary("deepfool-l2"),
        Adversary("deepfool-linf"),
    ]


def detection_rows(
    clean: np.ndarray, flagged: np.ndarray, success: np.ndarray, thresholds: Mapping[int, float], **columns: Any
) -> Iterator[dict[str, Any]]:
    """How well a detector sees adversarial images: all of them, and the successful ones.

    :param clean: scores (M,) of clean images.
    :param flagged: scores (N,) of adversarial images, of which ``success`` says which are misclassified.
    :param thresholds: by the percentage of other, clean images that each flags.
    """
    for suffix, score in (("", flagged), ("_successful", flagged[success])):
        yield metrics.detectability(clean, score).row(f"detectability{suffix}", **columns)
        yield metrics.auc(clean, score).row(f"auc{suffix}", **columns)
        for percent, threshold in thresholds.items():
            yield metrics.true_positive_rate(score, threshold).row(f"tpr_at_{percent}_fpr{suffix}", **columns)


def references(accuracy: Mapping[Adversary, float]) -> list[Adversary]:
    """Of each attack the smallest eps that pushes accuracy below 30 %, the largest where none does (section 4.1)."""
    grids = [
        [each for each in accuracy if each.attack == attack] for attack in dict.fromkeys(a.attack for a in accuracy)
    ]
    return [next((each for each in grid if accuracy[each] < 0.3), grid[-1]) for grid in grids]


class Laboratory:
    """The materials of the study: each is made once, kept by the run and handed out from there."""

    def __init__(self, study: Study, schedule: Schedule) -> None:
        self.study, self.config, self.run = study, study.config, study.run
        train = study.train
        held_out = len(train) // 10
        self.split = split = self.run.arrays(
            "split",
            lambda: dict(zip(("train", "validation"), split_indices(len(train), held_out, study.seed), strict=True)),
        )
        self.classifier = self._classifier(schedule)
        self.clean = {
            "train": self.images(train, split["train"], self.config.detector_images),
            "validation": self.images(train, split["validation"], self.config.validation_images),
            "test": self.images(study.test, np.arange(len(study.test)), self.config.test_images),
        }
        self.crafted = cache(self._crafted)
        self.static_detector = cache(self._static_detector)
        self.dynamic_detector = cache(self._dynamic_detector)
        self.scores = cache(self._scores)

    def images(self, dataset: Dataset, indices: np.ndarray, n: int | None) -> Images:
        if n is not None and n < len(indices):
            rng = np.random.default_rng(self.study.seed_of("subset", dataset.split, n))
            indices = np.sort(rng.choice(indices, n, replace=False))
        return dataset.images(indices)

    def _classifier(self, schedule: Schedule) -> estimators.TorchClassifier:
        """ResNet-32, trained on crops and flips of the training split, the best validation epoch kept."""
        data, config = self.study.train, self.config
        chosen, validation = self.split["train"], self.split["validation"]
        if config.train_images is not None and config.train_images < len(chosen):
            rng = np.random.default_rng(self.study.seed_of("classifier", "subset"))
            chosen = np.sort(rng.choice(chosen, config.train_images, replace=False))
            validation = validation[: max(config.train_images // 8, 1)]
        x, y = data.x[chosen], data.y[chosen]
        mean, std = (
            (getattr(x, moment)(axis=(0, 2, 3), dtype=np.float64) / 255).round(4).tolist() for moment in ("mean", "std")
        )
        spec = models.ModelSpec("resnet32", x.shape[1:], len(data.classes), tuple(mean), tuple(std))
        batch = min(schedule.batch_size, max(len(x) // 30, 16))  # few images still make some steps an epoch
        batch -= batch % self.config.devices  # which share it equally
        schedule = replace(
            schedule,
            batch_size=batch,
            lr=schedule.lr * batch / schedule.batch_size,  # Goyal et al. (2017): in proportion to the batch
            flip=data.name == "cifar10",  # a mirrored digit is none
        )
        seed = self.study.seed_of("classifier")

        def train(checkpoint: Path) -> Training:
            module = models.create(spec, seed)
            held_out = data.x[validation], data.y[validation]
            history = train_classifier(
                module, (x, y), held_out, schedule, seed, self.study.device, checkpoint, self.config.devices
            )
            return lambda path: models.save(path, module, spec), history

        self.run.trained("classifier", train)
        return estimators.load(self.run.directory, "classifier", "fast", str(self.study.device))

    def _crafted(self, adversary: Adversary, part: str) -> np.ndarray:
        """The adversarial version of every image of a part of the data, crafted with the true labels."""
        images = self.clean[part]
        step = STEP.get(adversary.attack)
        attack = attacks.create(
            adversary.attack,
            self.classifier,
            adversary.eps,
            eps_step=min(step, adversary.eps) if step and adversary.eps else None,
            max_iter=ITERATIONS if step else None,
        )
        return self.run.arrays(
            f"adversarial-{adversary.label}-{part}",
            lambda: {"x": generate(attack, images, f"{adversary.label} on {part}")},
        )["x"]

    def _static_detector(self, adversary: Adversary, position: int, seed: int = 0) -> SubnetworkDetector:
        """Trained on clean and precomputed adversarial images, the best validation epoch kept (section 3.2)."""
        config = self.config

        def labelled(part: str) -> tuple[np.ndarray, np.ndarray]:
            clean = self.clean[part].x
            return np.concatenate([clean, self.crafted(adversary, part)]), np.repeat([0, 1], len(clean))

        def train(checkpoint: Path) -> Training:
            detector = SubnetworkDetector(
                self.classifier, position, config.detector_lr, self.study.seed_of("detector", seed)
            )
            history = detector.fit(
                *labelled("train"),
                batch_size=config.detector_batch,
                nb_epochs=config.detector_epochs,
                validation=labelled("validation"),
                checkpoint=checkpoint,
            )
            return detector.save, history

        path = self.run.trained(f"detector-{adversary.label}-ad{position}-seed{seed}", train)
        return SubnetworkDetector.load(path, self.classifier)

    def _dynamic_detector(self) -> SubnetworkDetector:
        """Trained at AD(2) against the dynamic adversary, which attacks it as it learns (section 3.3)."""
        config, images = self.config, self.clean["train"]

        def train(checkpoint: Path) -> Training:
            detector = SubnetworkDetector(self.classifier, 2, config.detector_lr, self.study.seed_of("detector", 0))
            if config.dynamic_start == "static":
                static = self.static_detector(Adversary("bim", config.dynamic_eps), 2)
                detector.subnetwork.load_state_dict(static.subnetwork.state_dict())
            history = detector.fit_dynamic(
                images.x,
                images.y,
                batch_size=config.detector_batch,
                nb_epochs=config.dynamic_epochs,
                eps=config.dynamic_eps,
                eps_step=min(STEP["bim"], config.dynamic_eps),
                max_iter=ITERATIONS,
                checkpoint=checkpoint,
            )
            return detector.save, history

        return SubnetworkDetector.load(self.run.trained("detector-dynamic", train), self.classifier)

    def _scores(self, fit: Adversary, position: int, seed: int, test: Adversary | None) -> np.ndarray:
        """p_adv of a static detector on the clean (no test adversary) or adversarial test images."""
        x = self.clean["test"].x if test is None else self.crafted(test, "test")
        return self.static_detector(fit, position, seed).scores(x)

    def predicted(self, x: np.ndarray) -> np.ndarray:
        return self.classifier.predict(x, batch_size=256).argmax(1)

    def explorer(self, adversaries: list[Adversary]) -> dict[str, bytes]:
        """Test images for the page, each adversary beside its own detector at 5 % false positives."""

        def attacked(adversary: Adversary) -> Attacked:
            detector = self.static_detector(adversary, adversary.position)
            return Attacked(
                adversary.attack,
                adversary.eps,
                self.crafted(adversary, "test"),
                self.classifier,
                detector=detector,
                threshold=detector.threshold_at(0.05, self.clean["validation"].x),
            )

        images, classes = self.clean["test"], self.study.test.classes
        return bundle(images.x, images.y, classes, [attacked(adversary) for adversary in adversaries])

    def accuracy_under(self, adversary: Adversary) -> metrics.Figure:
        return metrics.accuracy(self.predicted(self.crafted(adversary, "test")), self.clean["test"].y)


def generate(attack: Any, images: Images, label: str) -> np.ndarray:
    """The attack on all images, 500 at a time so that progress shows."""
    starts = range(0, len(images.x), 500)
    parts = [attack.generate(images.x[i : i + 500], images.y[i : i + 500]) for i in track(starts, label, len(starts))]
    return np.concatenate(parts)
