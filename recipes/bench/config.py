"""The config of ``bench`` and its presets."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from advbench.study import Eps, EpsGrid, FromZoo


class Bench(FromZoo):
    """Sizes are numbers of images."""

    model: str | None = Field(
        None, description="the network that is attacked, named as in 'advbench evaluate'; null: a ResNet-32"
    )
    train_images: PositiveInt = 6000
    epochs: PositiveInt = 4
    eps: Eps = 2 / 255
    eps_l2: Eps = 40 / 255
    images: PositiveInt = Field(128, description="attacked with FGSM and PGD")
    deepfool_images: PositiveInt = 64
    eps_autoattack: Eps = Field(
        0.5 / 255, description="a bound that some images withstand, which all four attacks work on"
    )
    autoattack_images: PositiveInt = 16
    eps_evaluated: EpsGrid = Field((2 / 255, 8 / 255), description="the bounds of a whole evaluation")
    evaluated_images: PositiveInt = Field(1000, description="of a whole evaluation")
    epoch_images: PositiveInt = Field(1024, description="of one epoch of training")
    batch: PositiveInt = 128
    repeats: PositiveInt = 5
    long_repeats: PositiveInt = Field(
        2, description="rounds of DeepFool and AutoAttack, whose steps differ between images"
    )
    training_repeats: PositiveInt = 3


# bounds that no image withstands: one that does costs AutoAttack thousands of passes, and quick times none of them
EMBEDDED = {"quick": {"eps_autoattack": 128 / 255, "eps_evaluated": (64 / 255, 128 / 255)}}

PRESETS = {
    "paper": Bench(
        images=512, deepfool_images=256, autoattack_images=256, epoch_images=4096, train_images=45_000, epochs=26
    ),
    "small": Bench(),
    "quick": Bench(
        weights="zoo",
        train_images=2000,
        epochs=6,
        images=32,
        deepfool_images=8,
        eps_autoattack=8 / 255,
        autoattack_images=8,
        evaluated_images=20,
        epoch_images=128,
        batch=32,
        repeats=2,
        long_repeats=1,
        training_repeats=1,
    ),
}
