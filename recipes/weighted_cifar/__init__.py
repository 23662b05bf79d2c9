"""Report 003 on CIFAR-10: FGSM, PGA and targeted attacks on a small CNN, and the weighted loss (Gisserot, Kunsch & Sykes)."""

from __future__ import annotations

from itertools import product

from advbench.recipes.compare_defences.future import future_defence
from advbench.recipes.reports import WEIGHTED
from advbench.recipes.weighted_cifar.claims import CLAIMS
from advbench.recipes.weighted_cifar.config import PRESETS, WeightedCifar
from advbench.recipes.weighted_cifar.exhibits import EXHIBITS
from advbench.recipes.weighted_cifar.materials import PRETRAINED, STANDARD, Future, Loss, Networks
from advbench.recipes.weighted_cifar.measurements import autoattack, defence, strong, targeted, undefended
from advbench.study import Study, recipe


@recipe(
    "weighted-cifar",
    dataset="cifar10",
    embedded_shape=(3, 32, 32),
    presets=PRESETS,
    question="Is a network that was trained on FGSM images alone robust, when it is right more often under FGSM than on clean "
    "images?",
    report=WEIGHTED,
    claims=CLAIMS,
    pretrained=PRETRAINED,
)
def weighted_cifar(study: Study[WeightedCifar]) -> None:
    """The report's attacks and its defence, the rest of the weighted loss, and the attacks that tell whether it defends."""
    config, made, future = study.config, Networks(study), Future(study)
    seeds = range(study.seed, study.seed + config.seeds)
    alone = [loss for eps in config.eps if made.has(loss := Loss("fgsm", eps, 0.0))]
    weighted = [Loss("fgsm", eps, alpha) for eps in config.alpha_eps for alpha in config.alphas]
    with_pgd = [loss for eps in config.pgd_eps if made.has(loss := Loss("pgd", eps, 0.0))]
    several = Loss("several", None, config.several_alpha)
    fixed = [loss for eps in config.fixed_eps if made.has(loss := Loss("fixed", eps, 0.0))]
    every = dict.fromkeys([*with_pgd, several, *alone, *weighted, STANDARD])
    longest_first = list(filter(made.has, every))
    losses = dict.fromkeys([STANDARD, *longest_first, *fixed])

    trainings = [(Networks.network, made, loss, seed) for seed in seeds for loss in longest_first]
    study.make_each([*trainings, *future.trainings()])
    study.make_each((Networks.network, made, loss, seed) for seed in seeds for loss in fixed)
    study.make_each(future.attacks_on_undefended())
    study.make_each(future.attacks_on_defences())

    study.measure_each(undefended, made, seeds, independent=True)
    study.measure_each(targeted, made, seeds, independent=True)
    study.measure_each(defence, made, product(losses, seeds), independent=True)
    study.measure_each(strong, made, losses, independent=True)
    if config.autoattack_images:
        study.measure_each(autoattack, made, [STANDARD, *with_pgd, *alone], independent=True)
    study.measure_each(future_defence, future, config.future.defences)
    study.show(EXHIBITS, made)
    study.run.explorer(lambda: made.explorer([STANDARD, *alone]))
