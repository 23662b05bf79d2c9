"""The adversaries of report 001 and a static detector for each: what its parts on CIFAR-10 and ImageNet have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from art.attacks.attack import EvasionAttack

from advbench import attacks, metrics
from advbench.data import split_indices
from advbench.detectors import SubnetworkDetector, threshold_on
from advbench.estimators import TorchClassifier
from advbench.recipes.detector_cifar.config import DetectorConfig
from advbench.report import Attacked
from advbench.study import History, Materials, Study, once

T = TypeVar("T", bound=DetectorConfig)

ITERATIONS = 10


@dataclass(frozen=True)
class Adversary:
    """An attack at one eps; DeepFool has none."""

    attack: str
    eps: float | None = None

    @property
    def label(self) -> str:
        return self.attack if self.eps is None else f"{self.attack}-{round(self.eps * 255, 3):g}"

    def arguments(self, eps: float | None, step: float | None) -> dict[str, Any]:
        """How ``attacks.create`` makes it, within a bound and with the step of an iterative method."""
        eps_step, max_iter = (alpha(step, eps), ITERATIONS) if step and eps else (None, None)
        return {"name": self.attack, "eps": eps, "eps_step": eps_step, "max_iter": max_iter}

    def detector_stage(self, position: int, seed: int) -> str:
        """The training of its detector."""
        return f"detector-{self.label}-ad{position}-seed{seed}"


def alpha(step: float, eps: float) -> float:
    """The step of an iterative method: the report's, or a quarter of a bound that so many of these do not reach."""
    return min(step, eps) if step * ITERATIONS >= eps else eps / 4


def grids_of(config: DetectorConfig) -> list[list[Adversary]]:
    """The adversaries of the report at the eps that a config names: a list for each attack, by growing eps (section 4)."""
    grids = {"fgsm": config.eps_fgsm, "bim": config.eps_bim, "bim-l2": config.eps_bim_l2}
    bounded = [[Adversary(attack, eps) for eps in grid] for attack, grid in grids.items() if grid]
    deepfool = [[Adversary("deepfool-l2")], [Adversary("deepfool-linf")]]
    return [*bounded, *(deepfool if config.deepfool else [])]


class StaticDetectors(Materials[T], ABC):
    """A classifier, its adversaries, and a detector trained on the images of each.

    :ivar steps: alpha of the iterative methods.
    :ivar positions: the tap where the report attaches the detector, by attack.
    :ivar architecture: of the detectors.
    :ivar on_features: whether they are given features that were computed before, not images.
    :ivar unreferenced: adversaries that do not stand for their attack in a comparison of attacks.
    """

    classifier: TorchClassifier
    steps: Mapping[str, float]
    positions: Mapping[str, int]
    architecture = "cifar"
    on_features = False
    unreferenced: frozenset[Adversary] = frozenset()

    def __init__(self, study: Study[T]) -> None:
        super().__init__(study)
        n, names = len(study.train), ("train", "validation")
        self.split = self.run.arrays(
            "split", lambda: dict(zip(names, split_indices(n, max(n // 10, 1), study.seed), strict=True))
        )
        self.grids = grids_of(self.config)
        self.adversaries = [adversary for grid in self.grids for adversary in grid]

    @abstractmethod
    def inputs(self, part: str, *adversaries: Adversary | None) -> Any:
        """What detectors are given of a part of the data, under one adversary after another; None leaves it clean."""

    @abstractmethod
    def wrong(self, adversary: Adversary) -> np.ndarray:
        """Whether the classifier is wrong about each test image under an adversary, bool (N,)."""

    def eps(self, adversary: Adversary) -> float | None:
        """The bound for images of this size."""
        return adversary.eps

    def columns_of(self, adversary: Adversary) -> dict[str, Any]:
        norm = attacks.ATTACKS[adversary.attack].norm
        return {"attack": adversary.attack, "norm": norm, "eps": self.eps(adversary)}

    def fit_columns(self, adversary: Adversary, position: int, seed: int) -> dict[str, Any]:
        fit = {"fit_attack": adversary.attack, "fit_eps": self.eps(adversary)}
        return {"detector": "static", "position": position, "train_seed": seed, **fit}

    def attack(self, adversary: Adversary) -> EvasionAttack:
        arguments = adversary.arguments(self.eps(adversary), self.steps.get(adversary.attack))
        return attacks.create(classifier=self.classifier, **arguments)

    def accuracy_under(self, adversary: Adversary) -> metrics.Figure:
        wrong = self.wrong(adversary)
        return metrics.proportion(int((~wrong).sum()), len(wrong))

    def has_detector(self, adversary: Adversary, position: int | None = None, seed: int = 0) -> bool:
        """Whether the study has the detector of an adversary, by default where the report attaches it."""
        position = self.positions[adversary.attack] if position is None else position
        return self.available(adversary.detector_stage(position, seed))

    def references(self) -> list[Adversary]:
        """Of each attack the smallest eps that pushes accuracy below 30 %, the largest where none does (section 4.1)."""
        grids = [
            [each for each in grid if each not in self.unreferenced and self.has_detector(each)] for grid in self.grids
        ]
        return [
            next((each for each in grid if self.accuracy_under(each).value < 0.3), grid[-1]) for grid in grids if grid
        ]

    def eps_pairs(self) -> list[tuple[Adversary, Adversary]]:
        """Every two adversaries of each attack that has several eps: the one trained on and the one met."""
        detected = [[each for each in grid if self.has_detector(each)] for grid in self.grids]
        return [pair for grid in detected if len(grid) > 1 for pair in product(grid, grid)]

    def untrained(self, position: int, seed: int) -> SubnetworkDetector:
        lr, weights = self.config.detector_lr, self.study.seed_of("detector", seed)
        return SubnetworkDetector(self.classifier, position, lr, weights, architecture=self.architecture)

    def trained_detector(
        self, stage: str, detector: SubnetworkDetector, fit: Callable[[Path], History]
    ) -> SubnetworkDetector:
        """The detector that the run keeps; where it keeps none, ``fit`` trains the given one with a checkpoint file."""
        path = self.weights_file(stage, lambda checkpoint: (detector.save, fit(checkpoint)))
        return SubnetworkDetector.load(path, self.classifier)

    @once
    def detector(self, adversary: Adversary, position: int, seed: int) -> SubnetworkDetector:
        """Trained on clean and precomputed adversarial images; the best validation epoch is kept (sections 3.2, 4.2)."""
        detector = self.untrained(position, seed)

        def labelled(part: str) -> tuple[Any, np.ndarray]:
            inputs = self.inputs(part, None, adversary)
            return inputs, np.repeat([0, 1], len(inputs) // 2)

        def fit(checkpoint: Path) -> History:
            config, held_out = self.config, labelled("validation")
            train = detector.fit_features if self.on_features else detector.fit
            return train(
                *labelled("train"),
                config.detector_batch,
                config.detector_epochs,
                held_out,
                checkpoint,
                decay=config.detector_decay,
                fast=config.detector_bfloat16,
            )

        return self.trained_detector(adversary.detector_stage(position, seed), detector, fit)

    def detectors(
        self, adversaries: Iterable[Adversary], positions: Sequence[int] | None = None, seeds: Iterable[int] = (0,)
    ) -> list[tuple[Any, ...]]:
        """The trainings of detectors, for ``Study.make_each``.

        :param positions: by default where the report attaches the detector of each adversary.
        """
        return [
            (type(self).detector, self, adversary, position, seed)
            for adversary in adversaries
            for position in ([self.positions[adversary.attack]] if positions is None else positions)
            for seed in seeds
            if self.has_detector(adversary, position, seed)
        ]

    @once
    def scores(self, detector: SubnetworkDetector, adversary: Adversary | None, part: str = "test") -> np.ndarray:
        """p_adv of the images of a part of the data, clean (no adversary) or adversarial."""
        inputs = self.inputs(part, adversary)
        return detector.scores_of(inputs) if self.on_features else detector.scores(inputs)

    def threshold(self, detector: SubnetworkDetector, percent: int) -> float:
        """The score above which at most so many percent of the clean validation images are flagged."""
        return threshold_on(self.scores(detector, None, "validation"), percent / 100)

    def explored(self, adversary: Adversary, x: np.ndarray) -> Attacked:
        """Images under an adversary for the page, beside its own detector at 5 % false positives."""
        eps = self.eps(adversary)
        if not self.has_detector(adversary):
            return Attacked(adversary.attack, eps, x, self.classifier)
        detector = self.detector(adversary, self.positions[adversary.attack], 0)
        threshold = self.threshold(detector, 5)
        return Attacked(adversary.attack, eps, x, self.classifier, detector=detector, threshold=threshold)
