"""The materials of ``detector_adaptive``: the detectors under attack, and the images made to evade them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np

from advbench.attacks import CarliniWagnerL2, OrthogonalPGD, SelectivePGD
from advbench.data import Images
from advbench.detectors import SubnetworkDetector, combined
from advbench.recipes._detector_cifar_lab import Adversary
from advbench.recipes._detector_cifar_lab import Laboratory as DetectorLaboratory
from advbench.recipes.detector_cifar import SCHEDULES, DetectorCifar
from advbench.report import Attacked, bundle
from advbench.study.study import Study

PGD = {"selective-pgd": SelectivePGD, "orthogonal-pgd": OrthogonalPGD}

Threat = Literal["zero", "limited", "perfect"]
"""What the attacker knows of the detector: that there is none, one of the same kind and another seed, or all of it."""


@dataclass(frozen=True)
class Defender:
    """A detector, and the adversary whose images it was trained on."""

    name: str
    detector: SubnetworkDetector
    adversary: Adversary

    @property
    def slug(self) -> str:
        return self.name.replace(", ", "-")

    def columns(self) -> dict[str, Any]:
        fit = {"fit_attack": self.adversary.attack, "fit_eps": self.adversary.eps}
        return {"detector": self.name, "position": self.detector.position, **fit}


class Laboratory:
    """The materials of the study: each is made once, kept by the run and handed out from there."""

    def __init__(self, study: Study) -> None:
        self.study, self.config, self.run = study, study.config, study.run
        self.detectors = of = self._asked()
        schedule = SCHEDULES[of.schedule]
        self._lab = DetectorLaboratory(
            replace(study, config=of), schedule.of_length(of.epochs) if of.epochs else schedule
        )
        self.classifier = self._lab.classifier
        self.clean = self._correct()
        self.pgd = cache(self._pgd)
        self.threshold = cache(self._threshold)

    def _asked(self) -> DetectorCifar:
        """How the detectors are trained, or were."""
        if self.config.source is None:
            return self.config.detectors
        stages = ("split", "classifier", "adversarial-*", "detector-*")
        return DetectorCifar(**self.run.adopt(self.config.source, "detector-cifar", stages)["config"])

    def _correct(self) -> Images:
        """The first test images that the classifier has right: an attack on another would be won before it began."""
        images = self._lab.clean["test"]
        right = np.flatnonzero(self._lab.predicted(images.x) == images.y)[: self.config.images]
        return Images(images.x[right], images.y[right])

    @property
    def defenders(self) -> list[Defender]:
        """Static detectors of FGSM and of the iterative method, and the dynamic one, all at AD(2)."""
        of = self.detectors
        fgsm, bim = Adversary("fgsm", of.eps_fgsm[-1]), Adversary("bim", of.dynamic_eps)
        return [
            Defender("static, fgsm", self._lab.static_detector(fgsm, 2), fgsm),
            Defender("static, bim", self._lab.static_detector(bim, 2), bim),
            Defender("dynamic", self._lab.dynamic_detector(), bim),
        ]

    def threats(self, defender: Defender) -> tuple[Threat, ...]:
        """No second dynamic detector is trained, so none can stand in for the first."""
        return ("zero", "perfect") if defender.name == "dynamic" else ("zero", "limited", "perfect")

    def _threshold(self, defender: Defender, percent: int) -> float:
        """The detector's threshold at a false-positive rate, from clean validation images."""
        return defender.detector.threshold_at(percent / 100, self._lab.clean["validation"].x)

    def wrong(self, adversarial: np.ndarray) -> np.ndarray:
        """Whether the classifier is wrong about each of the first images, bool (N,)."""
        return self._lab.predicted(adversarial) != self.clean.y[: len(adversarial)]

    def naive(self, defender: Defender) -> tuple[np.ndarray, np.ndarray]:
        """Scores on clean test images and on those of the adversary that the detector was trained on."""
        test = self._lab.clean["test"].x
        return defender.detector.scores(test), defender.detector.scores(self._lab.crafted(defender.adversary, "test"))

    def _pgd(self, defender: Defender, name: str, eps: float) -> np.ndarray:
        attack = PGD[name](self.classifier, defender.detector, eps=eps, max_iter=self.config.steps)
        return self._kept(f"{name}-{defender.slug}-{eps * 255:g}-images", attack, self.clean)

    def carlini(self, defender: Defender, threat: Threat) -> np.ndarray:
        """Carlini & Wagner's attack on the classifier alone, or on it and a detector as one network."""
        images = self.clean.first(self.config.carlini_images)
        searches = self.config.carlini_searches
        if threat == "zero":
            attack = CarliniWagnerL2(
                self.classifier, learning_rate=0.005, binary_search_steps=searches, max_iter=self.config.carlini_steps
            )
            return self._kept("carlini-zero-images", attack, images)
        detector = defender.detector
        if threat == "limited":
            detector = self._lab.static_detector(defender.adversary, 2, seed=1)
        attack = CarliniWagnerL2(
            combined(self.classifier, detector),
            confidence=self.config.surrogate_confidence if threat == "limited" else 0.0,
            learning_rate=0.01,
            binary_search_steps=searches,
            max_iter=self.config.carlini_adaptive_steps,
            never=(self.classifier.nb_classes,),
        )
        return self._kept(f"carlini-{threat}-{defender.slug}-images", attack, images)

    def _kept(self, stage: str, attack: Any, images: Images) -> np.ndarray:
        return self.run.arrays(stage, lambda: {"x": attack.generate(images.x, images.y)})["x"]

    def explorer(self) -> dict[str, bytes]:
        """The attacked images for the page, each beside the detector that they evade, at 5 % false positives."""
        attacked = [
            Attacked(
                f"{name} on {defender.name}",
                eps,
                self.pgd(defender, name, eps),
                self.classifier,
                detector=defender.detector,
                threshold=self.threshold(defender, 5),
            )
            for defender in self.defenders
            for name in PGD
            for eps in self.config.eps
        ]
        return bundle(self.clean.x, self.clean.y, self.study.test.classes, attacked)
