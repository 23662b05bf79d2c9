"""Report 002 on MNIST: standard, mixed and weighted training under FGSM, with confidence and transfer (Meucci, 2016)."""

from __future__ import annotations

from advbench.recipes.reports import MEUCCI
from advbench.recipes.training_mnist.claims import CLAIMS
from advbench.recipes.training_mnist.config import PRESETS, TrainingMnist
from advbench.recipes.training_mnist.exhibits import EXHIBITS
from advbench.recipes.training_mnist.materials import DOUBLE_STEP, PRETRAINED, REGIMES, Networks
from advbench.recipes.training_mnist.measurements import confidence, stronger, transfer
from advbench.study import Study, recipe


@recipe(
    "training-mnist",
    dataset="mnist",
    embedded_shape=(1, 28, 28),
    presets=PRESETS,
    question="Does training on adversarial images make a network withstand them, how sure is it of its errors, and whose "
    "adversarial images fool whom?",
    report=MEUCCI,
    claims=CLAIMS,
    pretrained=PRETRAINED,
)
def training_mnist(study: Study[TrainingMnist]) -> None:
    """Every exhibit of the report, the ablation of its double step, and the attacks that it did not try."""
    made = Networks(study)
    seeds = range(study.seed, study.seed + study.config.seeds)
    trainings = [(regime, seed) for seed in seeds for regime in REGIMES]
    if study.config.ablation and made.available(DOUBLE_STEP.stage(study.seed)):
        trainings.append((DOUBLE_STEP, study.seed))
    study.make_each((Networks.network, made, *training) for training in trainings)
    study.measure_each(confidence, made, trainings, independent=True)
    study.measure_each(transfer, made, seeds, independent=True)
    study.measure_each(stronger, made, REGIMES, independent=True)
    study.show(EXHIBITS, made)
    study.run.explorer(made.explorer)
