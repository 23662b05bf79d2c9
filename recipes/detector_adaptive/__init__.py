"""The detectors of ``detector-cifar`` under attacks that know them (Bryniarski et al., 2021; Carlini & Wagner, 2017)."""

from __future__ import annotations

from itertools import product

from advbench.recipes.detector_adaptive.claims import CLAIMS
from advbench.recipes.detector_adaptive.config import PRESETS, DetectorAdaptive
from advbench.recipes.detector_adaptive.exhibits import EXHIBITS
from advbench.recipes.detector_adaptive.materials import PGD, PRETRAINED, Evasions
from advbench.recipes.detector_adaptive.measurements import adaptive, carlini, naive
from advbench.study import Study, recipe


@recipe(
    "detector-adaptive",
    dataset="cifar10",
    embedded_shape=(3, 16, 16),
    presets=PRESETS,
    question="How much of a detector's accuracy is left when the attack is made to evade it?",
    claims=CLAIMS,
    pretrained=PRETRAINED,
)
def detector_adaptive(study: Study[DetectorAdaptive]) -> None:
    """Each detector on the attack that it was trained on, then under every attack that knows it."""
    made = Evasions(study)
    study.measure_each(naive, made, made.defenders)
    study.measure_each(adaptive, made, product(made.defenders, PGD, study.config.eps))
    study.measure_each(carlini, made, [(each, known) for each in made.defenders for known in made.knowledge(each)])
    study.show(EXHIBITS, made)
    study.run.explorer(made.explorer)
