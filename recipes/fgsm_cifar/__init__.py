"""Report 000 on CIFAR-10: FGSM through the squared error on a VGG-like network, and the readings of its defence (2020/21)."""

from __future__ import annotations

from itertools import product

from advbench.recipes.compare_defences.future import future_defence
from advbench.recipes.fgsm_cifar.claims import CLAIMS
from advbench.recipes.fgsm_cifar.config import PRESETS, FgsmCifar
from advbench.recipes.fgsm_cifar.exhibits import EXHIBITS, answer
from advbench.recipes.fgsm_cifar.materials import AVERAGE, PRETRAINED, READINGS, STANDARD, Future, Networks
from advbench.recipes.fgsm_cifar.measurements import autoattack, strong, table
from advbench.recipes.reports import FGSM
from advbench.study import Study, recipe

AUTOATTACKED = (STANDARD, READINGS["V1"], READINGS["V1 dynamic"])
"""AutoAttack is costly."""


@recipe(
    "fgsm-cifar",
    dataset="cifar10",
    embedded_shape=(3, 32, 32),
    presets=PRESETS,
    question="Does a network that trained on FGSM images withstand FGSM on itself, or only the images that were made on "
    "another network?",
    report=FGSM,
    claims=CLAIMS,
    answer=answer,
    pretrained=PRETRAINED,
)
def fgsm_cifar(study: Study[FgsmCifar]) -> None:
    """The report's table in every reading of its text and code, then what it did not try: attacks on the defended network."""
    config, made, future = study.config, Networks(study), Future(study)
    seeds = range(study.seed, study.seed + config.seeds)
    networks = [regime for regime in (STANDARD, *(READINGS[name] for name in config.readings)) if made.has(regime)]
    pooled = [AVERAGE] if config.pooling and made.has(AVERAGE) else []
    trained = list(product([*networks, *pooled], seeds))

    first = [(Networks.network, made, regime, seed) for regime, seed in trained if regime.crafted_on != "trained"]
    later = [(Networks.network, made, regime, seed) for regime, seed in trained if regime.crafted_on == "trained"]
    crafted = [(Networks.training_directions, made, "trained", seed) for seed in seeds if later and study.trains]
    study.make_each([*first, *future.trainings()])
    study.make_each([*crafted, *future.attacks_on_undefended()])
    study.make_each([*later, *future.attacks_on_defences()])

    study.measure_each(table, made, trained, independent=True)
    study.measure_each(strong, made, product(networks, config.eps), independent=True)
    if config.autoattack_images:
        attacked = [regime for regime in networks if regime in AUTOATTACKED]
        study.measure_each(autoattack, made, attacked, independent=True)
    study.measure_each(future_defence, future, config.future.defences)
    study.show(EXHIBITS, made)
    study.run.explorer(lambda: made.explorer(networks))
