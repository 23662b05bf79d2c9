"""Report 000 on CIFAR-10: FGSM through the squared error on a VGG-like network, and the readings of its defence (2020/21)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
from art.attacks.attack import EvasionAttack
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from advbench import attacks, metrics
from advbench.metrics import Figure
from advbench.study.registry import Config, Eps, recipe
from advbench.recipes import _cifar_defences as defences
from advbench.recipes import _fgsm_cifar_exhibits as exhibits
from advbench.recipes._cifar_defences import FutureWork, Setting
from advbench.recipes._fgsm_cifar_lab import AVERAGE, READINGS, STANDARD, Laboratory, Loss, Regime, craft, train
from advbench.seeds import own_global_state
from advbench.study.study import Study

Reading = Literal["V1", "V2", "V3", "V1 dynamic", "V2 dynamic"]


class FgsmCifar(Config):
    """Sizes are numbers of images; null means all."""

    train_images: PositiveInt | None = None
    test_images: PositiveInt | None = None
    watched_images: PositiveInt = Field(1000, description="test images classified after every epoch, for the curves")
    epochs: PositiveInt = Field(10, description="of the standard network")
    defended_epochs: PositiveInt = Field(10, description="each of all clean images and as many adversarial ones")
    batch: PositiveInt = 32
    defended_batch: PositiveInt = 64
    lr: PositiveFloat = 1e-3
    decay: bool = Field(False, description="let the learning rate fall linearly to zero, step by step")
    l2: float = Field(1e-4, ge=0, description="Keras' factor of the squared kernels of the convolutions")
    bfloat16: bool = Field(False, description="train in bfloat16 where the processor has it")
    eps: tuple[Eps, ...] = (0.001, 0.005, 0.01, 0.05, 0.1)
    readings: tuple[Reading, ...] = Field(
        ("V1", "V2", "V3", "V1 dynamic", "V2 dynamic"),
        description="V1: an eps for each image; V2: one for all; V3: as V2, images made on an untrained network; "
        "dynamic: on the current weights, by cross-entropy",
    )
    dynamic_images: PositiveInt | None = Field(None, description="training images of the dynamic readings")
    pooling: bool = Field(True, description="also train the network with average pooling")
    seeds: PositiveInt = Field(3, description="trainings of each; the single eps of V2 and V3 is drawn anew in each")
    strong_images: PositiveInt = Field(1000, description="attacked with PGD, of the first seed's networks")
    pgd_iterations: PositiveInt = 50
    pgd_restarts: PositiveInt = 5
    autoattack_images: NonNegativeInt = Field(500, description="0: no AutoAttack")
    autoattack_eps: Eps = 0.01
    future: FutureWork = Field(FutureWork(), description="the defences that the report names as future work")


FUTURE = FutureWork(test_images=500, epochs=10, batch=64, adaptive_steps=50, restarts=5)
PRESETS = {
    "paper": FgsmCifar(future=FUTURE),
    # the passes go to the undefended network, whose accuracy everything else starts from; pooling is left to paper
    "small": FgsmCifar(
        test_images=2000,
        epochs=7,
        defended_epochs=2,
        batch=64,
        lr=2e-3,
        decay=True,
        bfloat16=True,
        readings=("V1", "V2", "V3", "V1 dynamic"),
        dynamic_images=12_000,
        pooling=False,
        seeds=1,
        strong_images=40,
        pgd_restarts=1,
        autoattack_images=24,
        future=FUTURE.quicker(
            train_images=4000,
            test_images=150,
            epochs=5,
            batch=32,
            eps=(0.01,),
            pgd_steps=20,
            adaptive_steps=30,
            restarts=2,
        ),
    ),
    # small batches: batch norm with Keras' momentum needs some hundred steps before its statistics are those of the images
    "quick": FgsmCifar(
        train_images=600,
        test_images=120,
        watched_images=60,
        epochs=5,
        defended_epochs=2,
        batch=6,
        defended_batch=6,
        decay=True,
        readings=("V1", "V1 dynamic"),
        pooling=False,
        seeds=1,
        strong_images=8,
        pgd_iterations=10,
        pgd_restarts=1,
        autoattack_images=0,
        # of the others batch norm asks for more steps than quick can take
        future=FUTURE.quicker(
            defences=("none", "jpeg-compression", "vae-reformer", "lipschitz"),
            train_images=300,
            validation_images=100,
            test_images=20,
            epochs=8,
            batch=8,
            eps=(0.01,),
            pgd_steps=5,
            adaptive_steps=8,
            restarts=1,
        ),
    ),
}

SETTING = Setting("vgg", "vgg-none")
"""What the defences of future work stand before."""


@recipe(
    "fgsm-cifar",
    dataset="cifar10",
    embedded_shape=(3, 32, 32),
    presets=PRESETS,
    question="Does a network that trained on FGSM images withstand FGSM on itself, or only the images that were made on "
    "another network?",
)
def fgsm_cifar(study: Study) -> None:
    """The report's table in every reading of its text and code, then what it did not try: attacks on the defended network."""
    config, run = study.config, study.run
    seeds = range(study.seed, study.seed + config.seeds)
    readings = [READINGS[name] for name in config.readings]
    static = [regime for regime in readings if regime.kind == "static"]
    standard = [STANDARD, AVERAGE] if config.pooling else [STANDARD]
    dynamic = [regime for regime in readings if regime.kind == "dynamic"]
    crafted = [regime for regime in static if regime.source == "trained"]
    alone = [*standard, *dynamic, *(regime for regime in static if regime not in crafted)]
    trainings = defences.trainings(study, SETTING)
    on_undefended, on_others = defences.attacks(study, SETTING)
    study.each(defences.do, [*((train, (regime, seed)) for seed in seeds for regime in alone), *trainings])
    study.each(defences.do, [*((craft, seed) for seed in seeds if crafted), *on_undefended])
    study.each(defences.do, [*((train, (regime, seed)) for seed in seeds for regime in crafted), *on_others])

    of_first = [(regime, regime.stage(study.seed)) for regime in (STANDARD, *readings)]
    ensembled = AUTOATTACKED if config.autoattack_images else ()
    lab = study.measure(
        Laboratory,
        [
            *((f"table-{of.stage(seed)}", table, of, seed) for seed in seeds for of in (*standard, *readings)),
            *((f"pgd-{stage}-eps{eps:g}", under_pgd, of, eps) for of, stage in of_first for eps in config.eps),
            *((f"autoattack-{stage}", under_autoattack, of) for of, stage in of_first if of in ensembled),
        ],
    )
    defences.record(study, SETTING)
    run.rows("targets", lambda: exhibits.targets(run.results()))
    shown = min(config.eps, key=lambda eps: abs(eps - 0.05))
    exhibits.show(run, lab.picture(shown), shown)
    run.explorer(partial(lab.explorer, [STANDARD, *readings], min(config.eps, key=lambda eps: abs(eps - 0.01))))


AUTOATTACKED = (STANDARD, READINGS["V1"], READINGS["V1 dynamic"])
"""AutoAttack is costly."""


def table(lab: Laboratory, regime: Regime, seed: int) -> Iterator[dict[str, Any]]:
    """One network on clean images, on the FGSM images made on the standard network, and on those made on itself.

    The report's table is the second of these: for its defended network it is transfer.
    """
    common = {"split": "test", "model": regime.model, "defence": regime.name, "seed": seed}
    own: tuple[Loss, ...] = ("mse", "ce")
    yield from _accuracy_and_loss(lab, regime, lab.test.x, **common, exhibit="clean", attack=None)
    for loss in own:
        moved = np.any(lab.direction(regime, seed, loss), axis=(1, 2, 3))
        share = metrics.proportion(int((~moved).sum()), len(lab.test.y))
        yield share.row("zero_gradient", **common, exhibit="zero gradient", attack=f"fgsm-{loss}")
    for eps in lab.config.eps:
        of_eps = {**common, "norm": "linf", "eps": eps}
        if regime.model == "vgg":
            x = lab.attacked(STANDARD, seed, "mse", eps)
            columns = {**of_eps, "exhibit": "transfer", "attack": "fgsm-mse", "source": "none"}
            yield from _accuracy_and_loss(lab, regime, x, **columns)
        for loss in own:
            predicted = lab.logits(regime, seed, lab.attacked(regime, seed, loss, eps)).argmax(1)
            columns = {**of_eps, "exhibit": "white box", "attack": f"fgsm-{loss}", "source": regime.name}
            yield metrics.accuracy(predicted, lab.test.y).row("accuracy", **columns)


def _accuracy_and_loss(lab: Laboratory, regime: Regime, x: np.ndarray, **columns: Any) -> Iterator[dict[str, Any]]:
    """Accuracy, and the loss as Keras reports it: cross-entropy with the penalty on the kernels."""
    seed = columns["seed"]
    logits = lab.logits(regime, seed, x)
    scores = logits.astype(np.float64) - logits.max(1, keepdims=True)
    losses = np.log(np.exp(scores).sum(1)) - scores[np.arange(len(scores)), lab.test.y]
    figures: dict[str, Figure] = {
        "accuracy": metrics.accuracy(logits.argmax(1), lab.test.y),
        "loss": metrics.mean(losses + lab.penalty(regime, seed)),
    }
    for metric, figure in figures.items():
        yield figure.row(metric, **columns, reported=exhibits.reported(regime, columns.get("eps"), metric))


def under_pgd(lab: Laboratory, regime: Regime, eps: float) -> Iterator[dict[str, Any]]:
    """What is left of a network's accuracy under FGSM and then PGD on itself, confined to [0, 1]."""
    config = lab.config
    pgd = f"pgd, {config.pgd_iterations} steps, {config.pgd_restarts} restarts"
    yield from _left(lab, regime, eps, config.strong_images, {"fgsm-ce": "fgsm", pgd: "pgd"}, "strong")


def under_autoattack(lab: Laboratory, regime: Regime) -> Iterator[dict[str, Any]]:
    """The same under PGD and then AutoAttack, on fewer images and at one eps."""
    config = lab.config
    tried = {"pgd": "pgd", "+ autoattack standard": "autoattack"}
    yield from _left(lab, regime, config.autoattack_eps, config.autoattack_images, tried, "autoattack")


def _left(
    lab: Laboratory, regime: Regime, eps: float, n: int, tried: dict[str, str], exhibit: str
) -> Iterator[dict[str, Any]]:
    config, seed = lab.config, lab.study.seed
    classifier = lab.classifier(regime, seed, clipped=True)
    x, y = lab.test.x[:n], lab.test.y[:n]
    runs: list[EvasionAttack] = []
    over: dict[str | None, int] = {None: 0}  # after how many attacks in a row each of those tried is over
    for name, attack in tried.items():
        made = attacks.create(attack, classifier, eps, max_iter=config.pgd_iterations if attack == "pgd" else None)
        runs += [made] * (config.pgd_restarts if attack == "pgd" else 1)
        over[name] = len(runs)
    with own_global_state(lab.study.seed_of(exhibit, regime.name, eps)):
        masks = list(metrics.still_correct(classifier, runs, x, y))
    for tried_last, position in over.items():
        yield metrics.proportion(int(masks[position].sum()), len(y)).row(
            "accuracy",
            split="test",
            exhibit=exhibit,
            model=regime.model,
            defence=regime.name,
            seed=seed,
            source=regime.name if tried_last else None,
            attack=tried_last,
            norm="linf" if tried_last else None,
            eps=eps,
        )
