"""The config of ``training-mnist`` and its presets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from advbench.study import Eps, FromZoo


class TrainingMnist(FromZoo):
    """Sizes are numbers of images; null means all."""

    grows = ("seeds",)

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
    "full": TrainingMnist(seeds=10, strong_images=500),  # seeds decide what three leave open
    "quick": TrainingMnist(
        weights="zoo",
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
