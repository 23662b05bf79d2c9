"""The materials of ``detector_imagenet10``: what is kept of the images are their features at AD(4), in half precision."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from advbench import attacks, estimators, metrics, models
from advbench.attacks.deepfool import DeepFool
from advbench.attacks.registry import NORMS
from advbench.data import Images, split_indices
from advbench.data.imagenet import SIZE
from advbench.detectors import FeatureFiles, SubnetworkDetector
from advbench.device import float32, images_at_a_time
from advbench.models.tapped import TappedModule
from advbench.models.vgg16 import LinearVGG16
from advbench.progress import track
from advbench.recipes._detector_cifar_lab import ITERATIONS, Adversary
from advbench.recipes._detector_imagenet10_network import CALLED, fit_head, published
from advbench.report import Attacked, bundle
from advbench.study.run import Training
from advbench.study.study import Study

POSITION = 4
PIECE = 64  # images that are crafted and kept together: what a kill can lose, and what is in memory at a time
PICTURES = 12  # test images whose adversarial versions are kept themselves, for the page
STEP = {"bim": 1 / 255, "bim-l2": 400 / 255}
"""alpha of the iterative methods, of l2 at 224 pixels: the smallest eps, as on CIFAR-10 (report 001 leaves it open)."""


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

    @property
    def features(self) -> FeatureFiles:
        return FeatureFiles(self.files)


class Laboratory:
    """The materials of the study: each is made once, kept by the run and handed out from there."""

    def __init__(self, study: Study) -> None:
        self.study, self.config, self.run = study, study.config, study.run
        train = study.train
        split = self.run.arrays(
            "split",
            lambda: dict(
                zip(
                    ("train", "validation"),
                    split_indices(len(train), max(len(train) // 10, 1), study.seed),
                    strict=True,
                )
            ),
        )
        # those of a small subset are among those of a larger one, and the first are of all classes
        shuffled = {
            part: np.random.default_rng(study.seed_of("subset", part)).permutation(indices)
            for part, indices in (*split.items(), ("test", np.arange(len(study.test))))
        }
        config = self.config
        self.part = {
            "head": shuffled["train"][: config.head_images],
            "train": shuffled["train"][: config.train_images],
            "validation": shuffled["validation"][: config.validation_images],
            "test": shuffled["test"][: config.test_images],
            "whole test": shuffled["test"][: config.clean_images],
        }
        self.scale = train.x.shape[3] / SIZE
        self.in_work = images_at_a_time(train.x.shape[1:], study.device)
        self.classifier, self.model = self._classifier()
        self.crafted = cache(self._crafted)
        self.detector = cache(self._detector)
        self.scores = cache(self._scores)

    def _images(self, part: str, indices: np.ndarray) -> Images:
        return (self.study.test if "test" in part else self.study.train).images(indices)

    def labels(self, part: str) -> np.ndarray:
        return (self.study.test if "test" in part else self.study.train).y[self.part[part]]

    def _classifier(self) -> tuple[estimators.TorchClassifier, str]:
        """VGG16, with a head fitted to the training split where it has none, and what the rows call it."""

        def make(_: Path) -> Training:
            start = time.monotonic()
            network, spec = published(self.config.weights, self.study.train, self.study.seed_of("classifier"))
            entry: dict[str, Any] = {"epoch": 1}
            if isinstance(network, LinearVGG16):
                entry["train_accuracy"] = fit_head(network, self._pooled(network), self.labels("head"), spec.classes)
            history = [{**entry, "seconds": round(time.monotonic() - start, 1)}]
            return lambda path: models.save(path, network, spec), history

        module, spec = models.load(self.run.trained("classifier", make))
        classifier = estimators.classifier(module, spec.input_shape, spec.classes, "fast", self.study.device)
        return classifier, f"{CALLED[spec.name]}, {spec.input_shape[2]} px"

    def _pooled(self, network: LinearVGG16) -> np.ndarray:
        network.to(self.study.device)

        def piece(indices: np.ndarray) -> Mapping[str, np.ndarray]:
            with float32():
                batches = torch.from_numpy(self._images("head", indices).x).split(self.in_work)
                pooled = [network.pooled(batch.to(self.study.device)).cpu() for batch in batches]
            return {"pooled": torch.cat(pooled).numpy()}

        kept = self._pieces("pooled", self.part["head"], piece)
        network.cpu()
        return np.concatenate([arrays["pooled"] for arrays in kept])

    def _pieces(
        self, stage: str, indices: np.ndarray, make: Callable[[np.ndarray], Mapping[str, np.ndarray]]
    ) -> list[dict[str, np.ndarray]]:
        """The arrays of the images, a stage for each few of them."""
        starts = range(0, len(indices), PIECE)
        return [
            self.run.arrays(f"{stage}-{start // PIECE}", partial(make, indices[start : start + PIECE]))
            for start in track(starts, stage, len(starts))
        ]

    def bound(self, adversary: Adversary) -> float | None:
        """eps for images of this size: an l2 bound is the report's in the change of a pixel (root mean square)."""
        if adversary.eps is None or NORMS[adversary.attack] != "l2":
            return adversary.eps
        return adversary.eps * self.scale

    def columns(self, adversary: Adversary) -> dict[str, Any]:
        return {**adversary.columns(), "eps": self.bound(adversary)}

    def perturbed(self, adversary: Adversary, images: Images) -> np.ndarray:
        """The adversarial version of every image, crafted with the true labels."""
        config, eps = self.config, self.bound(adversary)
        if eps is None:
            attack = DeepFool(
                self.classifier,
                2 if NORMS[adversary.attack] == "l2" else np.inf,
                max_iter=config.deepfool_iterations,
                candidates=config.deepfool_candidates,
                batch_size=self.in_work,
            )
            low, high = images.x - config.deepfool_limit, images.x + config.deepfool_limit
            return np.clip(attack.generate(images.x, images.y), low, high)
        step = STEP.get(adversary.attack)
        if step and adversary.attack == "bim-l2":
            step *= self.scale
        attack = attacks.create(
            adversary.attack,
            self.classifier,
            eps,
            eps_step=min(step, eps) if step else None,
            max_iter=ITERATIONS if step else None,
            batch_size=self.in_work,
        )
        return attack.generate(images.x, images.y)

    def _crafted(self, adversary: Adversary | None, part: str) -> Crafted:
        """All images of a part under an adversary, or clean."""
        label = "clean" if adversary is None else adversary.label
        first = self.part["test"][0] if part == "test" else None

        def piece(indices: np.ndarray) -> Mapping[str, np.ndarray]:
            images = self._images(part, indices)
            x = images.x if adversary is None else self.perturbed(adversary, images)
            features, predicted = self._judged(x)
            change = (x - images.x).reshape(len(x), -1)
            return {
                "features": features,
                "predicted": predicted,
                "linf": np.abs(change).max(1),
                "l2": np.linalg.norm(change, axis=1),
                "pictures": x[: PICTURES if indices[0] == first else 0],
            }

        kept = self._pieces(stage := f"{label}-{part.replace(' ', '-')}", self.part[part], piece)
        folders = [self.run.directory / "arrays" / f"{stage}-{i}" for i in range(len(kept))]
        together = {
            name: np.concatenate([arrays[name] for arrays in kept]) for name in ("predicted", "linf", "l2", "pictures")
        }
        return Crafted([folder / "features.npy" for folder in folders], **together)

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

        kept = self._pieces("predicted-test", self.part["whole test"], piece)
        return np.concatenate([arrays["predicted"] for arrays in kept])

    def _detector(self, adversary: Adversary, seed: int = 0) -> SubnetworkDetector:
        """Trained on the features of clean and adversarial images, the best validation epoch kept (section 4.2)."""
        config = self.config

        def labelled(part: str) -> tuple[FeatureFiles, np.ndarray]:
            clean, adversarial = self.crafted(None, part), self.crafted(adversary, part)
            return FeatureFiles([*clean.files, *adversarial.files]), np.repeat([0, 1], len(clean.predicted))

        def train(checkpoint: Path) -> Training:
            seed_of = self.study.seed_of("detector", seed)
            detector = SubnetworkDetector(
                self.classifier, POSITION, config.detector_lr, seed_of, architecture="imagenet"
            )
            history = detector.fit_features(
                *labelled("train"),
                batch_size=config.detector_batch,
                nb_epochs=config.detector_epochs,
                validation=labelled("validation"),
                checkpoint=checkpoint,
            )
            return detector.save, history

        path = self.run.trained(f"detector-{adversary.label}-seed{seed}", train)
        return SubnetworkDetector.load(path, self.classifier)

    def _scores(self, fit: Adversary, test: Adversary | None, seed: int = 0, part: str = "test") -> np.ndarray:
        """p_adv by a detector, from the kept features of the clean (no test adversary) or adversarial images."""
        return self.detector(fit, seed).scores_of(self.crafted(test, part).features)

    def accuracy_under(self, adversary: Adversary) -> metrics.Figure:
        return metrics.accuracy(self.crafted(adversary, "test").predicted, self.labels("test"))

    def explorer(self, adversaries: Sequence[Adversary]) -> Any:
        """The few images that are kept themselves, for the page."""

        def attacked(adversary: Adversary) -> Attacked:
            return Attacked(
                adversary.attack,
                self.bound(adversary),
                self.crafted(adversary, "test").pictures,
                self.classifier,
                detector=self.detector(adversary),
            )

        x = self.crafted(None, "test").pictures
        return bundle(x, self.labels("test")[: len(x)], self.study.test.classes, list(map(attacked, adversaries)))
