"""Report 001 on ten ImageNet classes: detectors on the features of a pretrained VGG16 (Metzen et al., 2017, section 4.2)."""

from __future__ import annotations

from advbench.recipes.detector_imagenet10 import measurements
from advbench.recipes.detector_imagenet10.claims import CLAIMS
from advbench.recipes.detector_imagenet10.config import PRESETS, DetectorImagenet10
from advbench.recipes.detector_imagenet10.exhibits import EXHIBITS, answer
from advbench.recipes.detector_imagenet10.materials import Detectors
from advbench.recipes.reports import METZEN
from advbench.study import Study, recipe


@recipe(
    "detector-imagenet10",
    dataset="imagenet10",
    embedded_shape=(3, 32, 32),
    presets=PRESETS,
    question="Can a small network that reads the features of a pretrained VGG16 tell adversarial ImageNet images from clean "
    "ones, and does a detector trained on one adversary see another?",
    report=METZEN,
    claims=CLAIMS,
    answer=answer,
)
def detector_imagenet10(study: Study[DetectorImagenet10]) -> None:
    """The ImageNet part of the report: static detectors, their transfer, and the adversary that was not detected."""
    made = Detectors(study)
    study.measure(measurements.clean_accuracy, made)
    study.measure_each(measurements.detection, made, made.adversaries)
    study.measure(measurements.between_eps, made)
    study.measure(measurements.between_adversaries, made)
    study.measure(measurements.chance, made)
    study.show(EXHIBITS, made)
    study.run.explorer(made.explorer)
