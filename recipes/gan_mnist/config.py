"""The config of ``gan-mnist`` and its presets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from advbench.study import FromZoo

Bound = Annotated[float, Field(gt=0, le=1)]
Variant = Literal["clamp", "output-batch-norm", "ensemble", "fresh", "half-clean", "five-steps", "pgd"]


class GanMnist(FromZoo):
    """Sizes are numbers of images, null means all; an epoch is ``epoch_images`` of an endless shuffled walk."""

    grows = ("seeds",)

    t: tuple[Bound, ...] = Field(
        (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64), min_length=1, description="l-inf bounds of the attacker"
    )
    seeds: PositiveInt = Field(5, description="repetitions of the whole study")
    width: PositiveInt = Field(64, description="maps of the attacker's first layer")
    train_images: PositiveInt | None = None
    test_images: PositiveInt | None = Field(None, description="on which the final figures are measured")
    epoch_images: PositiveInt | None = Field(None, description="an epoch, in every training")
    epoch_test_images: PositiveInt = Field(1000, description="test images attacked after every epoch, for the curves")
    clean_epochs: PositiveInt = Field(20, description="of C1 and C2 in the consecutive mode")
    start_epochs: PositiveInt = Field(5, description="of C1 before the alternating mode")
    attack_epochs: PositiveInt = Field(20, description="of the attacker, in either mode")
    pgd_images: PositiveInt = 1000
    pgd_steps: PositiveInt = 40
    pgd_restarts: PositiveInt = 5
    variants: tuple[Variant, ...] = Field(
        ("clamp", "output-batch-norm", "ensemble", "fresh", "half-clean", "five-steps", "pgd"),
        description="tried at the t nearest to 0.08; pgd: C1 learns from PGD in place of the attacker",
    )
    variant_seeds: PositiveInt = Field(5, description="of the seeds, those in which the variants are trained as well")
    ensemble: int = Field(3, ge=2, description="classifiers that the attacker of the variant ensemble is trained on")


PRESETS = {
    "paper": GanMnist(),
    # one pass over all images for each attacker, twelve looks at it on the way; at half the report's width an attacker
    # learns more from one pass than at the whole: there it does not leave one perturbation for all images
    "small": GanMnist(
        t=(0.04, 0.08, 0.16),
        seeds=3,
        width=32,
        test_images=2000,
        epoch_images=6000,
        epoch_test_images=500,
        clean_epochs=30,
        start_epochs=10,
        attack_epochs=12,
        pgd_images=500,
        pgd_steps=20,
        pgd_restarts=3,
        variants=("clamp", "ensemble", "fresh"),
        variant_seeds=1,
    ),
    # the report's width and five passes for each attacker, in ten looks; the loss of C1 shows whether it still climbs
    "full": GanMnist(
        t=(0.04, 0.08, 0.16),
        seeds=3,
        epoch_images=30_000,
        clean_epochs=40,
        start_epochs=10,
        attack_epochs=10,
        pgd_restarts=3,
        variants=("clamp", "ensemble", "fresh"),
        variant_seeds=1,
    ),
    # two bounds and a narrow attacker: seconds of training show an effect at the large one only
    "quick": GanMnist(
        weights="zoo",
        t=(0.08, 0.32),
        seeds=1,
        width=8,
        test_images=200,
        epoch_images=300,
        epoch_test_images=100,
        clean_epochs=6,
        start_epochs=3,
        attack_epochs=5,
        pgd_images=60,
        pgd_steps=10,
        pgd_restarts=2,
        variants=("ensemble",),
        variant_seeds=1,
        ensemble=2,
    ),
}
