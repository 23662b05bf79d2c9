"""Report 003 on CIFAR-10: FGSM, PGA and targeted attacks on a small CNN, and the weighted loss (Gisserot, Kunsch & Sykes)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from advbench import attacks, metrics
from advbench.study.registry import Config, Eps, Unit, recipe
from advbench.recipes import _cifar_defences as defences
from advbench.recipes import _weighted_cifar_exhibits as exhibits
from advbench.recipes._cifar_defences import FutureWork, Setting
from advbench.recipes._weighted_cifar_lab import STANDARD, TARGET, Laboratory, Loss, train
from advbench.seeds import own_global_state
from advbench.study.study import Study


class WeightedCifar(Config):
    """Sizes are numbers of images; null means all."""

    train_images: PositiveInt | None = Field(None, description="after those for validation")
    validation_images: PositiveInt = Field(1024, description="the first ones of the training set")
    watched_images: PositiveInt = Field(512, description="validation images attacked after every epoch")
    watched_pgd_steps: PositiveInt = 10
    test_images: PositiveInt | None = None
    variant_images: PositiveInt | None = Field(
        None, description="of these, for what the report leaves open in an attack"
    )
    epochs: PositiveInt = 30
    batch: PositiveInt = 32
    lr: PositiveFloat = 1e-3
    eps: tuple[Eps, ...] = (0.001, 0.01, 0.1)
    reference_eps: Eps = Field(0.01, description="at which networks that know no eps are attacked")
    alphas: tuple[Unit, ...] = Field((0.25, 0.5, 0.75), description="weights of the clean loss beside the report's 0")
    alpha_eps: tuple[Eps, ...] = Field((0.001, 0.01, 0.1), description="eps at which they are tried")
    pgd_eps: tuple[Eps, ...] = Field((0.01, 0.1), description="eps at which PGD takes the place of FGSM in the loss")
    training_pgd_steps: PositiveInt = 7
    several_alpha: Unit = Field(0.25, description="weight of the clean loss where FGSM at every eps shares the rest")
    seeds: PositiveInt = Field(3, description="trainings of each")
    strong_images: PositiveInt = Field(1000, description="attacked with PGD, of the first seed's networks")
    pgd_iterations: PositiveInt = 50
    pgd_restarts: PositiveInt = 10
    autoattack_images: NonNegativeInt = Field(500, description="0: no AutoAttack")
    future: FutureWork = Field(FutureWork(), description="the defences that the reports name as future work")


FUTURE = FutureWork(test_images=500, epochs=30, adaptive_steps=50, restarts=5)
PRESETS = {
    "paper": WeightedCifar(future=FUTURE),
    # the product of the rate and the steps, each over the size of a batch, is that of paper
    "small": WeightedCifar(
        variant_images=1000,
        epochs=12,
        batch=128,
        lr=0.01,
        alpha_eps=(0.01,),
        pgd_eps=(0.01,),
        training_pgd_steps=5,
        seeds=1,
        strong_images=300,
        autoattack_images=48,
        future=FUTURE.quicker(
            train_images=20_000, test_images=300, epochs=6, eps=(0.01,), pgd_steps=20, adaptive_steps=40, restarts=3
        ),
    ),
    "quick": WeightedCifar(
        train_images=900,
        validation_images=100,
        watched_images=100,
        watched_pgd_steps=3,
        test_images=100,
        epochs=6,
        lr=0.02,
        alphas=(0.5,),
        alpha_eps=(0.01,),
        pgd_eps=(0.01,),
        training_pgd_steps=2,
        seeds=1,
        strong_images=32,
        pgd_iterations=20,
        pgd_restarts=2,
        autoattack_images=0,
        future=FUTURE.quicker(
            train_images=600,
            validation_images=100,
            test_images=30,
            epochs=5,
            batch=32,
            eps=(0.01,),
            pgd_steps=10,
            adaptive_steps=15,
            restarts=1,
        ),
    ),
}

SETTING = Setting("small-cnn", "standard")
"""What the defences of future work stand before."""


@recipe(
    "weighted-cifar",
    dataset="cifar10",
    embedded_shape=(3, 32, 32),
    presets=PRESETS,
    question="Is a network that was trained on FGSM images alone robust, when it is right more often under FGSM than on clean "
    "images?",
)
def weighted_cifar(study: Study) -> None:
    """The report's attacks and its defence, the rest of the weighted loss, and the attacks that tell whether it defends."""
    config, run = study.config, study.run
    seeds = range(study.seed, study.seed + config.seeds)
    alone = [Loss("fgsm", eps, 0.0) for eps in config.eps]
    weighted = [Loss("fgsm", eps, alpha) for eps in config.alpha_eps for alpha in config.alphas]
    instead = [Loss("pgd", eps, 0.0) for eps in config.pgd_eps]
    several = Loss("several", None, config.several_alpha)
    defended = [*instead, several, *alone, *weighted]  # the longest training first
    trainings = [(train, (loss, seed)) for seed in seeds for loss in (*defended, STANDARD)]
    study.each(defences.do, [*trainings, *defences.trainings(study, SETTING)])
    for tasks in defences.attacks(study, SETTING):
        study.each(defences.do, tasks)

    of_first = [(loss, loss.stage(study.seed)) for loss in (STANDARD, *defended)]
    ensembled = {STANDARD, *alone, *instead} if config.autoattack_images else set()
    lab = study.measure(
        Laboratory,
        [
            *((f"attacks-seed{seed}", attacks_on_standard, seed) for seed in seeds),
            *((f"targeted-seed{seed}", targeted, seed) for seed in seeds),
            *((f"defence-{loss.stage(seed)}", defence, loss, seed) for seed in seeds for loss, _ in of_first),
            *((f"strong-{stage}", under_pgd, loss) for loss, stage in of_first),
            *((f"autoattack-{stage}", under_autoattack, loss) for loss, stage in of_first if loss in ensembled),
        ],
    )
    defences.record(study, SETTING)
    run.rows("targets", lambda: exhibits.targets(run.results()))
    exhibits.show(run, lab.confusion(), study.test.classes)
    run.explorer(partial(lab.explorer, [STANDARD, *alone]))


def _columns(loss: Loss, seed: int, eps: float | None, attack: str | None) -> dict[str, Any]:
    return {
        "split": "test",
        "model": "small-cnn",
        "defence": loss.name,
        "fit_eps": loss.eps,
        "seed": seed,
        "attack": attack,
        "norm": "linf" if attack else None,
        "eps": eps,
    }


def attacks_on_standard(lab: Laboratory, seed: int) -> Iterator[dict[str, Any]]:
    """FGSM and PGA on the undefended network, as the report has them and with what it leaves open varied."""
    some = lab.test.first(lab.config.variant_images or len(lab.test.y))

    def row(attack: str | None, eps: float | None, predicted: np.ndarray) -> dict[str, Any]:
        columns = _columns(STANDARD, seed, eps, attack)
        figure = metrics.accuracy(predicted, lab.test.y[: len(predicted)])
        return figure.row("accuracy", exhibit="attacks", **columns, reported=exhibits.reported_attack(attack, eps))

    yield row(None, None, lab.predicted(STANDARD, seed, lab.test.x))
    for eps in lab.config.eps:
        yield row("fgsm", eps, lab.predicted(STANDARD, seed, lab.fgsm(STANDARD, seed, eps)))
        yield row("pga", eps, lab.under_pga(seed, eps))
        variants = {
            "fgsm, not clipped": lab.fgsm(STANDARD, seed, eps, clipped=False, images=some),
            "pga, not clipped": lab.pga(STANDARD, seed, eps, clipped=False, images=some),
            "pga, step eps/40": lab.pga(STANDARD, seed, eps, parts=40, images=some),
        }
        for attack, x in variants.items():
            yield row(attack, eps, lab.predicted(STANDARD, seed, x))


def targeted(lab: Laboratory, seed: int) -> Iterator[dict[str, Any]]:
    """How often the undefended network says deer: of all images, of those that are none, and of those not taken for one before."""
    before = lab.predicted(STANDARD, seed, lab.test.x)
    other = lab.test.y != TARGET
    bases = {"all": np.ones_like(other), "other": other, "moved": other & (before != TARGET)}
    found: list[tuple[str | None, float | None, np.ndarray]] = [(None, None, before)]
    for eps in lab.config.eps:
        found.append(("fgsm", eps, lab.predicted(STANDARD, seed, lab.fgsm(STANDARD, seed, eps, "deer"))))
        found.append(("pgd", eps, lab.under_pga(seed, eps, targeted=True)))
    for attack, eps, predicted in found:
        for base, counted in bases.items():
            rate = metrics.proportion(int((predicted[counted] == TARGET).sum()), int(counted.sum()))
            said = exhibits.reported_target(attack, eps) if base == "all" else None
            columns = _columns(STANDARD, seed, eps, attack)
            yield rate.row(f"target_rate_{base}", exhibit="targeted", **columns, reported=said)


def evaluated(lab: Laboratory, loss: Loss) -> tuple[float, ...]:
    """The eps at which a network is attacked: that of its training, every one of the study where it knows several."""
    if loss.kind == "several":
        return lab.config.eps
    return (loss.eps or lab.config.reference_eps,)


def defence(lab: Laboratory, loss: Loss, seed: int) -> Iterator[dict[str, Any]]:
    """A network on clean images and under FGSM: with the true label, which it may leak, and with the predicted one."""
    for eps in evaluated(lab, loss):
        shown = {
            None: lab.test.x,
            "fgsm, true label": lab.fgsm(loss, seed, eps),
            "fgsm, predicted label": lab.fgsm(loss, seed, eps, "predicted"),
        }
        for attack, x in shown.items():
            figure = metrics.accuracy(lab.predicted(loss, seed, x), lab.test.y)
            columns = _columns(loss, seed, eps, attack)
            yield figure.row(
                "accuracy", exhibit="defence", **columns, reported=exhibits.reported_defence(loss.name, eps, attack)
            )


def under_pgd(lab: Laboratory, loss: Loss) -> Iterator[dict[str, Any]]:
    """One PGD attack on every image, right before or not, as FGSM is counted; then what no attack and no restart beat."""
    config, seed = lab.config, lab.study.seed
    images, classifier = lab.test.first(config.strong_images), lab.classifier(loss, seed)
    for eps in evaluated(lab, loss):
        pgd = attacks.create("pgd", classifier, eps, max_iter=config.pgd_iterations, batch_size=500)
        fgsm = attacks.create("fgsm", classifier, eps, batch_size=500)
        with own_global_state(lab.study.seed_of("pgd", loss.stage(seed), eps)):
            once = lab.predicted(loss, seed, pgd.generate(images.x, images.y))
            masks = list(metrics.still_correct(classifier, [fgsm, *[pgd] * config.pgd_restarts], images.x, images.y))
        one, all_starts = (f"pgd, {config.pgd_iterations} steps", f"worst of fgsm and {config.pgd_restarts} pgd")
        figures = {
            None: metrics.proportion(int(masks[0].sum()), len(images.y)),
            one: metrics.accuracy(once, images.y),
            all_starts: metrics.proportion(int(masks[-1].sum()), len(images.y)),
        }
        for attack, figure in figures.items():
            yield figure.row("accuracy", exhibit="strong", **_columns(loss, seed, eps, attack))


def under_autoattack(lab: Laboratory, loss: Loss) -> Iterator[dict[str, Any]]:
    """What is left after PGD and then AutoAttack, on fewer images."""
    seed, classifier = lab.study.seed, lab.classifier(loss, lab.study.seed)
    images = lab.test.first(lab.config.autoattack_images)
    (eps,) = evaluated(lab, loss)
    pgd = attacks.create("pgd", classifier, eps, max_iter=lab.config.pgd_iterations)
    with own_global_state(lab.study.seed_of("autoattack", loss.stage(seed))):
        ensemble = attacks.create("autoattack", classifier, eps)
        masks = metrics.still_correct(classifier, [pgd, ensemble], images.x, images.y)
        for attack, mask in zip((None, "pgd", "+ autoattack standard"), masks, strict=True):
            figure = metrics.proportion(int(mask.sum()), len(mask))
            yield figure.row("accuracy", exhibit="autoattack", **_columns(loss, seed, eps, attack))
