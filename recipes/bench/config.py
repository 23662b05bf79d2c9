"""The config of ``bench`` and its presets."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveInt

from advbench.study import Eps, FromZoo


class Bench(FromZoo):
    """Sizes are numbers of images."""

    model: Path | None = Field(
        None, description="a run directory whose classifier is attacked; null: train a ResNet-32"
    )
    train_images: PositiveInt = 6000
    epochs: PositiveInt = 4
    eps: Eps = 2 / 255
    eps_l2: Eps = 40 / 255
    images: PositiveInt = Field(128, description="attacked with FGSM and PGD")
    deepfool_images: PositiveInt = 64
    epoch_images: PositiveInt = Field(1024, description="of one epoch of training")
    batch: PositiveInt = 128
    repeats: PositiveInt = 5
    deepfool_repeats: PositiveInt = 2
    training_repeats: PositiveInt = 3


PRESETS = {
    "paper": Bench(images=512, deepfool_images=256, epoch_images=4096, train_images=45_000, epochs=26),
    "small": Bench(),
    "quick": Bench(
        weights="zoo",
        train_images=2000,
        epochs=6,
        images=32,
        deepfool_images=8,
        epoch_images=128,
        batch=32,
        repeats=2,
        deepfool_repeats=1,
        training_repeats=1,
    ),
}
