"""The fields of ``compare-defences`` and of the comparisons in other recipes, and its presets."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from advbench.errors import did_you_mean
from advbench.recipes.compare_defences.registry import DEFENCES
from advbench.study import Config, Eps, EpsGrid


class Bounds(Config):
    """What depends on the kind of image."""

    eps: EpsGrid = Field(description="l-inf bounds of the attacks, for images in [0, 1]")
    fit_eps: Eps = Field(description="bound of the attacks that trained defences and detectors learn from")
    bit_depth: PositiveInt = Field(description="bits a pixel that feature squeezing leaves")
    sigma: PositiveFloat = Field(description="standard deviation of Gaussian augmentation")


class DefenceConfig(Config):
    """What every comparison of defences needs. Sizes are numbers of images; null means all.

    A subclass gives ``defences`` all defences that it knows as the default.
    """

    defences: tuple[str, ...]
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

    @field_validator("defences")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """These and no defence, in the order of the default."""
        known: tuple[str, ...] = cls.model_fields["defences"].default
        for name in names:
            if name not in known:
                raise ValueError(str(did_you_mean("defence", name, list(known))))
        return tuple(name for name in known if name in {*names, "none"})


GREY = Bounds(eps=(0.1, 0.3), fit_eps=0.3, bit_depth=1, sigma=0.25)
COLOUR = Bounds(eps=(2 / 255, 8 / 255), fit_eps=8 / 255, bit_depth=4, sigma=0.1)


class CompareDefences(DefenceConfig):
    """Sizes are numbers of images; null means all."""

    defences: tuple[str, ...] = Field(tuple(DEFENCES), description="which are compared; no defence always is")
    grey: Bounds = Field(GREY, description="for mnist and digits")
    colour: Bounds = Field(COLOUR, description="for cifar10")
    fit_steps: PositiveInt = Field(7, description="of the PGD that trained defences and detectors learn from")
    detector_images: PositiveInt = Field(5000, description="clean ones a detector learns from, as many adversarial")
    detector_epochs: PositiveInt = 20
    dynamic_epochs: PositiveInt = Field(20, description="of the dynamic detector")
    position: int = Field(2, ge=1, description="the tap AD(k) that detectors read")
    false_positives: float = Field(0.05, gt=0, lt=1, description="share of clean validation images that are flagged")
    smoothing_window: PositiveInt = 3
    trades_beta: PositiveFloat = Field(6.0, description="weight of TRADES' robustness term")
    attacker_width: PositiveInt = Field(64, description="maps of the network that alternating training learns against")
    beyond_views: PositiveInt = Field(50, description="augmented copies of an image that BEYOND compares")
    joint_steps: PositiveInt = Field(500, description="of selective and orthogonal PGD")

    def bounds(self, dataset: str) -> Bounds:
        return self.colour if dataset == "cifar10" else self.grey


PRESETS = {
    "paper": CompareDefences(),
    "small": CompareDefences(
        train_images=10_000,
        test_images=200,
        epochs=8,
        detector_images=1000,
        detector_epochs=8,
        dynamic_epochs=4,
        attacker_width=16,
        beyond_views=20,
        pgd_steps=20,
        adaptive_steps=40,
        restarts=3,
        joint_steps=100,
    ),
    "quick": CompareDefences(
        grey=GREY.model_copy(update={"fit_eps": 0.1}),
        train_images=500,
        validation_images=100,
        test_images=50,
        epochs=4,
        batch=32,
        lr=2e-3,
        fit_steps=4,
        detector_images=150,
        detector_epochs=4,
        dynamic_epochs=4,
        attacker_width=8,
        beyond_views=6,
        pgd_steps=15,
        adaptive_steps=20,
        restarts=2,
        joint_steps=20,
    ),
}
