"""The materials of ``detector-adaptive``: the detectors under attack, and the images made to evade them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from art.attacks.attack import EvasionAttack

from advbench.attacks import CarliniWagnerL2, OrthogonalPGD, SelectivePGD
from advbench.data import Images
from advbench.detectors import SubnetworkDetector, combined
from advbench.recipes.detector_adaptive.config import DetectorAdaptive
from advbench.recipes.detector_cifar.adversaries import Adversary
from advbench.recipes.detector_cifar.config import PRESETS as DETECTORS
from advbench.recipes.detector_cifar.config import DetectorCifar
from advbench.recipes.detector_cifar.materials import PRETRAINED as DETECTORS_TRAINED
from advbench.recipes.detector_cifar.materials import ZOO_EPS_FGSM, Detectors
from advbench.report import Attacked, bundle
from advbench.study import Materials, Pretrained, Study, once

PGD = {"selective-pgd": SelectivePGD, "orthogonal-pgd": OrthogonalPGD}

Knowledge = Literal["zero", "limited", "perfect"]
"""What the attacker knows of the detector: that there is none, one of the same kind and another seed, or all of it."""


@dataclass(frozen=True)
class Defender:
    """A detector, and the adversary whose images it was trained on."""

    kind: Literal["static", "dynamic"]
    adversary: Adversary
    detector: SubnetworkDetector

    @property
    def label(self) -> str:
        return "dynamic" if self.kind == "dynamic" else f"static-{self.adversary.attack}"

    def columns(self) -> dict[str, Any]:
        fit = {"fit_attack": self.adversary.attack, "fit_eps": self.adversary.eps}
        return {"detector": self.kind, "position": self.detector.position, **fit}


class Evasions(Materials[DetectorAdaptive]):
    """The detectors of ``detector-cifar`` and the images that evade them.

    :ivar clean: the first test images that the classifier has right: an attack on another would be won before it began.
    :ivar defenders: static detectors of FGSM and of the iterative method, and the dynamic one, all at AD(2); of those
        the ones that the study has.
    """

    columns = Detectors.columns

    def __init__(self, study: Study[DetectorAdaptive]) -> None:
        super().__init__(study)
        config = self._detectors()
        self.base = base = Detectors(study.with_config(config))
        images = base.clean("test")
        right = np.flatnonzero(base.predicted(images.x) == images.y)[: self.config.images]
        self.clean = Images(images.x[right], images.y[right])
        bim = base.dynamic_base
        static = filter(base.has_detector, (Adversary("fgsm", config.eps_fgsm[-1]), bim))
        self.defenders = [Defender("static", each, base.detector(each, 2, 0)) for each in static]
        if "dynamic" in base.kinds:
            self.defenders.append(Defender("dynamic", bim, base.dynamic_detector()))

    def knowledge(self, defender: Defender) -> tuple[Knowledge, ...]:
        """No second dynamic detector is trained, so none can stand in for the first; nor is one of every static detector."""
        has_second = defender.kind == "static" and self.base.has_detector(defender.adversary, 2, 1)
        return ("zero", "limited", "perfect") if has_second else ("zero", "perfect")

    def _detectors(self) -> DetectorCifar:
        """How the detectors are trained, or were."""
        if self.config.source is None:
            return self.config.detectors
        stages = ("split", "classifier", "adversarial-*", "detector-*")
        return DetectorCifar(**self.run.adopt(self.config.source, "detector-cifar", stages)["config"])

    def wrong(self, adversarial: np.ndarray) -> np.ndarray:
        """Whether the classifier is wrong about each of the first images, bool (N,)."""
        return self.base.predicted(adversarial) != self.clean.y[: len(adversarial)]

    @once
    def pgd(self, defender: Defender, name: str, eps: float) -> np.ndarray:
        attack = PGD[name](self.base.classifier, defender.detector, eps=eps, max_iter=self.config.steps)
        return self._generated(f"{name}-{defender.label}-{eps * 255:g}-images", attack, self.clean)

    def carlini(self, defender: Defender, knowledge: Knowledge) -> np.ndarray:
        """Carlini & Wagner's attack on the classifier alone, or on it and a detector as one network."""
        config, classifier = self.config, self.base.classifier
        images, searches = self.clean.first(config.carlini_images), config.carlini_searches
        if knowledge == "zero":
            attack = CarliniWagnerL2(
                classifier, learning_rate=0.005, binary_search_steps=searches, max_iter=config.carlini_steps
            )
            return self._generated("carlini-zero-images", attack, images)
        limited = knowledge == "limited"
        attack = CarliniWagnerL2(
            combined(classifier, self.base.detector(defender.adversary, 2, 1) if limited else defender.detector),
            confidence=config.surrogate_confidence if limited else 0.0,
            learning_rate=0.01,
            binary_search_steps=searches,
            max_iter=config.carlini_adaptive_steps,
            never=(classifier.nb_classes,),
        )
        return self._generated(f"carlini-{knowledge}-{defender.label}-images", attack, images)

    def _generated(self, stage: str, attack: EvasionAttack, images: Images) -> np.ndarray:
        return self.run.arrays(stage, lambda: {"x": attack.generate(images.x, images.y)})["x"]

    def explorer(self) -> dict[str, bytes]:
        """The attacked images for the page, each beside the detector that they evade, at 5 % false positives."""
        attacked = [
            Attacked(
                f"{name} on {defender.label}",
                eps,
                self.pgd(defender, name, eps),
                self.base.classifier,
                detector=defender.detector,
                threshold=self.base.threshold(defender.detector, 5),
            )
            for defender, name, eps in product(self.defenders, PGD, self.config.eps)
        ]
        return bundle(self.clean.x, self.clean.y, self.study.test.classes, attacked)


PRETRAINED = Pretrained(
    base=("classifier", Adversary("fgsm", ZOO_EPS_FGSM).detector_stage(2, 0)),
    training=("source", "detectors.weights", *(f"detectors.{name}" for name in DETECTORS_TRAINED.training)),
    quick={
        "detectors": DETECTORS["quick"].model_copy(
            update={"eps_fgsm": (ZOO_EPS_FGSM,), "test_images": 200, "validation_images": 500}
        ),
        "images": 60,
        "steps": 30,
        "carlini_images": 24,
        "carlini_steps": 100,
        "carlini_adaptive_steps": 200,
    },
    recipe="detector-cifar",
)
