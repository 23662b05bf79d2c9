"""What a comparison of defences can be asked, whichever recipe it belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from pydantic import Field, PositiveFloat, PositiveInt

from advbench.errors import did_you_mean
from advbench.study.registry import Config, Eps


class Bounds(Config):
    """What depends on the kind of image."""

    eps: tuple[Eps, ...] = Field(description="l-inf bounds of the attacks, for images in [0, 1]")
    fit_eps: Eps = Field(description="bound of the attacks that trained defences and detectors learn from")
    bit_depth: PositiveInt = Field(description="bits a pixel that feature squeezing leaves")
    sigma: PositiveFloat = Field(description="standard deviation of Gaussian augmentation")


class DefenceConfig(Config):
    """Sizes are numbers of images; null means all."""

    train_images: PositiveInt | None = None
    validation_images: PositiveInt = Field(
        1000, description="clean ones that fix thresholds, held out of training, at most a quarter"
    )
    test_images: PositiveInt | None = Field(1000, description="attacked")
    epochs: PositiveInt = Field(20, description="of every network")
    batch: PositiveInt = 128
    lr: PositiveFloat = Field(1e-3, description="of Adam; fast-is-better-than-free has a schedule of its own")
    jpeg_quality: int = Field(75, ge=1, le=95)
    temperature: PositiveFloat = Field(20.0, description="of defensive distillation")
    draws: PositiveInt = Field(10, description="of the reformer's latent space, over which a gradient is averaged")
    pgd_steps: PositiveInt = Field(50, description="of PGD that does not know the defence")
    adaptive_steps: PositiveInt = Field(100, description="of PGD that does")
    restarts: PositiveInt = 10

    def quicker(self, **fields: object) -> Self:
        """The same with some fields smaller."""
        return self.model_copy(update=fields)


def chosen(names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The names that were asked for, and no defence, in the order of those that are known.

    :raises ValueError: for one that is not, in a line that names the nearest.
    """
    wanted, order = {*names, "none"}, tuple(known)
    for name in wanted:
        if name not in order:
            raise ValueError(str(did_you_mean("defence", name, list(order))))
    return tuple(name for name in order if name in wanted)
