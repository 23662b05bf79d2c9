"""Report 001 on CIFAR-10: detector subnetworks at AD(k), static and dynamic (Metzen et al., 2017, sections 3 and 4.1)."""

from __future__ import annotations

from itertools import product

from advbench.recipes.detector_cifar import measurements
from advbench.recipes.detector_cifar.claims import CLAIMS
from advbench.recipes.detector_cifar.config import PRESETS, DetectorCifar
from advbench.recipes.detector_cifar.exhibits import EXHIBITS
from advbench.recipes.detector_cifar.materials import PRETRAINED, Detectors
from advbench.recipes.reports import METZEN
from advbench.study import Study, recipe


@recipe(
    "detector-cifar",
    dataset="cifar10",
    embedded_shape=(3, 16, 16),
    presets=PRESETS,
    question="Can a small network that reads a classifier's inner features tell adversarial images from clean ones, and "
    "does it survive an adversary who knows it?",
    report=METZEN,
    claims=CLAIMS,
    pretrained=PRETRAINED,
)
def detector_cifar(study: Study[DetectorCifar]) -> None:
    """The whole CIFAR-10 part of the report: static detectors, their transfer, and the dynamic adversary."""
    made = Detectors(study)
    references = made.references()
    others = [adversary for adversary in made.adversaries if adversary not in references]
    study.measure(measurements.clean_accuracy, made)
    study.make_each(made.detectors(references))
    study.measure_each(measurements.detection, made, references)
    study.measure(measurements.between_adversaries, made)
    dynamic = [(Detectors.dynamic_detector, made)] if "dynamic" in made.kinds else []
    study.make_each([*dynamic, *made.detectors(others)])
    study.measure_each(measurements.dynamic_adversary, made, product(made.kinds, study.config.sigmas))
    study.measure(measurements.finer_steps, made)
    study.measure_each(measurements.detection, made, others)
    study.measure(measurements.between_eps, made)
    study.make_each(made.detectors(references, study.config.depths, range(study.config.depth_seeds)))
    study.measure(measurements.depth, made)
    study.show(EXHIBITS, made)
    study.run.explorer(made.explorer)
