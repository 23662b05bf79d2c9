"""The detectors of ``detector-cifar`` under attacks that know them (Bryniarski et al., 2021; Carlini & Wagner, 2017)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from advbench import metrics
from advbench.progress import track
from advbench.study.registry import Config, Eps, recipe
from advbench.recipes import _detector_adaptive_exhibits as exhibits
from advbench.recipes._detector_adaptive_lab import PGD, Defender, Laboratory, Threat
from advbench.recipes.detector_cifar import PRESETS as DETECTORS
from advbench.recipes.detector_cifar import DetectorCifar
from advbench.study.study import Study

FPR = (5, 28, 50)
"""False-positive rates in percent: 5 and 50 of SR@N, 28 of the published figure on Carlini & Wagner's attack."""


class DetectorAdaptive(Config):
    """Sizes are numbers of images."""

    source: Path | None = Field(
        None,
        description="a finished run of detector-cifar whose classifier and detectors are attacked; null: train them",
    )
    detectors: DetectorCifar = Field(description="how they are trained where there is no source")
    images: PositiveInt = Field(1000, description="test images that the classifier has right; all are attacked")
    eps: tuple[Eps, ...] = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    steps: PositiveInt = Field(1000, description="of selective and orthogonal PGD, each of eps / 10")
    carlini_images: PositiveInt = 1000
    carlini_steps: PositiveInt = Field(
        3000, description="of Carlini & Wagner's attack on the classifier, for each constant"
    )
    carlini_adaptive_steps: PositiveInt = Field(300, description="of the same on classifier and detector")
    carlini_searches: PositiveInt = Field(3, description="constants tried an image")
    surrogate_confidence: PositiveFloat = Field(
        5.0, description="margin of the attack on a detector of another seed, so that it transfers"
    )


PRESETS = {
    "paper": DetectorAdaptive(detectors=DETECTORS["paper"]),
    "small": DetectorAdaptive(
        detectors=DETECTORS["small"],
        images=80,
        steps=50,
        carlini_images=40,
        carlini_steps=200,
        carlini_adaptive_steps=100,
    ),
    "quick": DetectorAdaptive(
        detectors=DETECTORS["quick"],
        images=24,
        eps=(1 / 255, 8 / 255),
        steps=15,
        carlini_images=16,
        carlini_steps=100,
        carlini_adaptive_steps=50,
    ),
}


@recipe(
    "detector-adaptive",
    dataset="cifar10",
    embedded_shape=(3, 16, 16),
    presets=PRESETS,
    question="How much of a detector's accuracy is left when the attack is made to evade it?",
)
def detector_adaptive(study: Study) -> None:
    """Each detector on the attack that it was trained on, then under every attack that knows it."""
    config, run = study.config, study.run
    lab = Laboratory(study)
    defenders = lab.defenders
    for defender in defenders:
        run.rows(f"naive-{defender.slug}", partial(naive, lab, defender))
    attacks = [(defender, name, eps) for defender in defenders for name in PGD for eps in config.eps]
    for defender, name, eps in track(attacks, "adaptive attacks", len(attacks)):
        run.rows(f"{name}-{defender.slug}-{eps * 255:g}", partial(under_pgd, lab, defender, name, eps))
    threats = [(defender, threat) for defender in defenders for threat in lab.threats(defender)]
    for defender, threat in track(threats, "Carlini & Wagner", len(threats)):
        run.rows(f"carlini-{threat}-{defender.slug}", partial(under_carlini, lab, defender, threat))
    run.rows("targets", lambda: exhibits.targets(run.results()))
    exhibits.show(run)
    run.explorer(lab.explorer)


def naive(lab: Laboratory, defender: Defender) -> Iterator[dict[str, Any]]:
    """What such a detector is usually praised for: it meets the attack of its training, which knows nothing of it."""
    clean, adversarial = lab.naive(defender)
    common = {"exhibit": "naive", **defender.columns(), **defender.adversary.columns()}
    yield metrics.detectability(clean, adversarial).row("detectability", **common)
    yield metrics.auc(clean, adversarial).row("auc", **common)
    threshold = lab.threshold(defender, 5)
    yield metrics.true_positive_rate(adversarial, threshold).row("tpr_at_5_fpr", **common)


def under_pgd(lab: Laboratory, defender: Defender, name: str, eps: float) -> Iterator[dict[str, Any]]:
    """SR@5 and SR@50: the shares of images that are wrong and not flagged."""
    common = {"exhibit": "adaptive", **defender.columns(), "attack": name, "norm": "linf", "eps": eps}
    yield from _success(lab, defender, lab.pgd(defender, name, eps), common)


def under_carlini(lab: Laboratory, defender: Defender, threat: Threat) -> Iterator[dict[str, Any]]:
    """The same for the nearest image that is found, its distance, and how well the detector sees it."""
    adversarial, clean = lab.carlini(defender, threat), lab.clean.x
    common = {
        "exhibit": "carlini",
        **defender.columns(),
        "attack": "cw-l2",
        "norm": "l2",
        "source": f"{threat} knowledge",
    }
    yield from _success(lab, defender, adversarial, common)
    wrong = lab.wrong(adversarial)
    distance = np.linalg.norm((adversarial - clean[: len(adversarial)]).reshape(len(adversarial), -1), axis=1)
    yield metrics.mean(distance[wrong]).row("mean_l2", **common)
    scores = defender.detector.scores(adversarial)[wrong]
    yield metrics.true_positive_rate(scores, lab.threshold(defender, 28)).row("tpr_at_28_fpr", **common)
    yield metrics.auc(defender.detector.scores(clean), scores).row("auc", **common)


def _success(
    lab: Laboratory, defender: Defender, adversarial: np.ndarray, common: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    wrong, scores = lab.wrong(adversarial), defender.detector.scores(adversarial)
    common = {"split": "test", "model": "resnet32", **common}
    yield metrics.proportion(int(wrong.sum()), len(wrong)).row("error", **common)
    for percent in FPR:
        yield metrics.sr_at(wrong, scores, lab.threshold(defender, percent)).row(f"sr_at_{percent}", **common)
