"""The config of ``weighted-cifar`` and its presets."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from advbench.recipes.compare_defences.future import FutureWork
from advbench.study import Eps, EpsGrid, FromZoo, Unit


class WeightedCifar(FromZoo):
    """Sizes are numbers of images; null means all."""

    grows = ("seeds",)

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
    decay: bool = Field(False, description="let the learning rate fall linearly to zero, step by step")
    eps: EpsGrid = (0.001, 0.01, 0.1)
    reference_eps: Eps = Field(0.01, description="at which networks that know no eps are attacked")
    defended: bool = Field(
        True, description="also train the networks of the weighted loss; false: the undefended one alone"
    )
    alphas: tuple[Unit, ...] = Field((0.25, 0.5, 0.75), description="weights of the clean loss beside the report's 0")
    alpha_eps: tuple[Eps, ...] = Field((0.001, 0.01, 0.1), description="eps at which they are tried")
    pgd_eps: tuple[Eps, ...] = Field((0.01, 0.1), description="eps at which PGD takes the place of FGSM in the loss")
    training_pgd_steps: PositiveInt = 7
    fixed_eps: tuple[Eps, ...] = Field(
        (0.001, 0.01, 0.1), description="eps of FGSM images that are made once, on the undefended network"
    )
    several_alpha: Unit = Field(0.25, description="weight of the clean loss where FGSM at every eps shares the rest")
    seeds: PositiveInt = Field(3, description="trainings of each")
    strong_images: PositiveInt = Field(1000, description="attacked with PGD, of the first seed's networks")
    pgd_iterations: PositiveInt = 50
    pgd_restarts: PositiveInt = 10
    autoattack_images: NonNegativeInt = Field(500, description="0: no AutoAttack")
    future: FutureWork = Field(FutureWork(), description="the defences that the reports name as future work")


FUTURE = FutureWork(test_images=500, epochs=30, adaptive_steps=50, restarts=5)
FUTURE_SMALL = FUTURE.quicker(
    train_images=20_000, test_images=300, epochs=6, eps=(0.01,), pgd_steps=20, adaptive_steps=40, restarts=3
)
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
        future=FUTURE_SMALL,
    ),
    # a falling rate for as long as the undefended network gains on validation images
    "full": WeightedCifar(
        variant_images=2000,
        epochs=20,
        lr=4e-3,
        decay=True,
        alpha_eps=(0.01,),
        pgd_eps=(0.01,),
        training_pgd_steps=5,
        strong_images=500,
        pgd_restarts=5,
        autoattack_images=100,
        future=FUTURE_SMALL,
    ),
    "quick": WeightedCifar(
        weights="zoo",
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
        fixed_eps=(),
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
