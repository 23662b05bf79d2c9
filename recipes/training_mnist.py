"""Report 002 on MNIST: standard, mixed and weighted training under FGSM, with confidence and transfer (Meucci, 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from advbench import attacks, evaluation
from advbench.recipe import Config, Eps, recipe
from advbench.recipes import _training_mnist_exhibits as exhibits
from advbench.recipes._training_mnist_lab import REGIMES, Laboratory, Regime, train
from advbench.study import Study

ABLATION = Regime("adversarial, double step", "weighted", step=2)
"""Is "mixed beats adversarial" only the report's double step? Mixed over the mean of its batch *is* adversarial at
alpha = 1/2 where a network has no batch norm, so one more training answers."""


class TrainingMnist(Config):
    """Sizes are numbers of images; null means all."""

    pipeline: Literal["report", "plain"] = Field(
        "report",
        description="mean image subtracted, range mapped, attacks not clipped; or plain [0, 1] images, clipped",
    )
    eps: Eps = Field(0.1, description="of FGSM, in the units that the network sees after its preprocessing")
    train_images: PositiveInt | None = None
    validation_images: PositiveInt = Field(5000, description="the last ones of the training set")
    test_images: PositiveInt | None = None
    epochs: PositiveInt = 30
    batch: PositiveInt = 100
    lr: PositiveFloat = 0.001
    weight_decay: float = Field(5e-4, ge=0)
    seeds: PositiveInt = Field(3, description="trainings of each regime")
    ablation: bool = True
    strong_images: PositiveInt = Field(1000, description="attacked with PGD and AutoAttack, of the first seed's models")
    pgd_iterations: PositiveInt = 50
    pgd_restarts: PositiveInt = 10


PRESETS = {
    "paper": TrainingMnist(),
    "small": TrainingMnist(train_images=20_000, epochs=15, lr=0.002, strong_images=500),
    "quick": TrainingMnist(
        train_images=3000,
        validation_images=300,
        test_images=1000,
        epochs=6,
        lr=0.002,
        seeds=1,
        strong_images=24,
        pgd_iterations=20,
        pgd_restarts=2,
    ),
}


@recipe(
    "training-mnist",
    dataset="mnist",
    embedded_shape=(1, 28, 28),
    presets=PRESETS,
    question="Does training on adversarial images make a network withstand them, how sure is it of its errors, and whose "
    "adversarial images fool whom?",
)
def training_mnist(study: Study) -> None:
    """Every exhibit of the report, the ablation of its double step, and the attacks that it did not try."""
    config, run = study.config, study.run
    seeds = range(study.seed, study.seed + config.seeds)
    trainings = [(regime, seed) for seed in seeds for regime in REGIMES]
    if config.ablation:
        trainings.append((ABLATION, study.seed))
    study.each(train, trainings)

    lab = study.measure(
        Laboratory,
        [
            *((f"confidence-{regime.slug}-seed{seed}", confidence, regime, seed) for regime, seed in trainings),
            *((f"transfer-seed{seed}", transfer, seed) for seed in seeds),
            *((f"stronger-{regime.slug}", stronger_attacks, regime) for regime in REGIMES),
        ],
    )
    run.rows("targets", lambda: exhibits.targets(run.results()))
    exhibits.show(run)
    run.explorer(lab.explorer)


def confidence(lab: Laboratory, regime: Regime, seed: int) -> Iterator[dict[str, Any]]:
    """The five-row table: each model on clean test images and on the FGSM images made on itself."""
    classifier = lab.classifier(regime, seed)
    for attack, x in ((None, lab.test.x), ("fgsm", lab.fgsm(regime, seed))):
        for metric, figure in evaluation.confidence(classifier.predict(x, batch_size=500), lab.test.y).items():
            yield figure.row(
                metric,
                exhibit="confidence",
                split="test",
                model="lenet",
                defence=regime.name,
                seed=seed,
                attack=attack,
                norm="linf" if attack else None,
                eps=lab.eps(regime, seed) if attack else None,
                reported=exhibits.reported_confidence(regime.name, attack, metric),
            )


def transfer(lab: Laboratory, seed: int) -> Iterator[dict[str, Any]]:
    """Each model on the FGSM images made on each model: error rate, and confidence on the errors."""
    for source in REGIMES:
        x = lab.fgsm(source, seed)
        for regime in REGIMES:
            figures = evaluation.confidence(lab.classifier(regime, seed).predict(x, batch_size=500), lab.test.y)
            for metric in ("error", "confidence_wrong"):
                yield figures[metric].row(
                    metric,
                    exhibit="transfer",
                    split="test",
                    model="lenet",
                    defence=regime.name,
                    source=source.name,
                    seed=seed,
                    attack="fgsm",
                    norm="linf",
                    eps=lab.eps(source, seed),
                    reported=exhibits.reported_transfer(regime.name, source.name, metric),
                )


def stronger_attacks(lab: Laboratory, regime: Regime) -> Iterator[dict[str, Any]]:
    """Which attack would break a defence that trained on FGSM? PGD with restarts, then AutoAttack on what is left.

    At the report's eps, but confined to [0, 1] as those attacks expect; an image counts as robust if nothing beat it.
    """
    config, seed = lab.study.config, lab.study.seed
    classifier = lab.classifier(regime, seed, clipped=True)
    x, y = lab.test.x[: config.strong_images], lab.test.y[: config.strong_images]
    eps = lab.eps(regime, seed)
    fgsm = attacks.create("fgsm", classifier, eps)
    pgd = attacks.create("pgd", classifier, eps, max_iter=config.pgd_iterations)
    ensemble = attacks.create("autoattack", classifier, eps)
    masks = list(evaluation.still_correct(classifier, [fgsm, *[pgd] * config.pgd_restarts, ensemble], x, y))
    tried = f"pgd, {config.pgd_iterations} steps, {config.pgd_restarts} restarts"
    steps = ((None, masks[0]), ("fgsm", masks[1]), (f"+ {tried}", masks[-2]), ("+ autoattack standard", masks[-1]))
    for attack, mask in steps:
        yield evaluation.proportion(int(mask.sum()), len(mask)).row(
            "accuracy",
            exhibit="stronger",
            split="test",
            model="lenet",
            defence=regime.name,
            seed=seed,
            attack=attack,
            norm="linf" if attack else None,
            eps=eps if attack else None,
        )
