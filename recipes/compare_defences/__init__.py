"""ART's defences and ours side by side, each under the attack that is made for it; the worst case for each image counts."""

from __future__ import annotations

from advbench.recipes.compare_defences.config import PRESETS, CompareDefences
from advbench.recipes.compare_defences.exhibits import EXHIBITS, answer
from advbench.recipes.compare_defences.measurements import certificate, comparison, cost
from advbench.recipes.compare_defences.registry import AllDefences
from advbench.study import Study, recipe


@recipe(
    "compare-defences",
    dataset="mnist",
    embedded_shape=(1, 28, 28),
    presets=PRESETS,
    question="Which defences are still robust when the attack is made for them, and what do they cost on clean images and in "
    "training?",
    answer=answer,
)
def compare_defences(study: Study[CompareDefences]) -> None:
    """Train every defence and attack it in all processes, then read off the tables."""
    made, names = AllDefences(study), study.config.defences
    study.make_each([(AllDefences.evaluated, made, "none")])  # all others start from its network and its images
    made.labelled()
    study.make_each((AllDefences.evaluated, made, name) for name in names if name != "none")
    study.measure_each(comparison, made, names)
    study.measure_each(certificate, made, names)
    study.measure_each(cost, made, names)
    study.show(EXHIBITS, made)
    study.run.explorer(made.explorer)
