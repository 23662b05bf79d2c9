"""What attacks and trainings cost: ART, foolbox, torchattacks and advbench side by side, as ratios of one run."""

from __future__ import annotations

from advbench.models.tapped import TappedModule
from advbench.recipes.bench.claims import CLAIMS
from advbench.recipes.bench.config import EMBEDDED, PRESETS, Bench
from advbench.recipes.bench.contenders import STEPS
from advbench.recipes.bench.exhibits import EXHIBITS, answer
from advbench.recipes.bench.materials import PRETRAINED, Attacked
from advbench.recipes.bench.measurements import attacks, detector, evaluation, training
from advbench.study import Study, recipe


@recipe(
    "bench",
    dataset="cifar10",
    embedded_shape=(3, 16, 16),
    embedded=EMBEDDED,
    presets=PRESETS,
    question="What do attacks and adversarial training cost here and in other libraries, at the same budget and strength?",
    claims=CLAIMS,
    answer=answer,
    undecided={"quick": "preset quick times few repeats on few images, so that it decides no claim"},
    pretrained=PRETRAINED,
)
def bench(study: Study[Bench]) -> None:
    """Attacks at a budget, DeepFool and AutoAttack among them, a whole evaluation, an epoch of training, an epoch of a detector."""
    made = Attacked(study)
    study.measure_each(attacks, made, STEPS)
    study.measure(evaluation, made)
    study.measure(training, made)
    if isinstance(made.classifier.model, TappedModule):
        study.measure(detector, made)
    study.show(EXHIBITS, made)
