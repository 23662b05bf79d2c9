"""The config of ``detector-adaptive`` and its presets."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from advbench.recipes.detector_cifar.config import EMBEDDED as DIGITS
from advbench.recipes.detector_cifar.config import PRESETS as DETECTORS
from advbench.recipes.detector_cifar.config import DetectorCifar
from advbench.study import EpsGrid, FromZoo


class DetectorAdaptive(FromZoo):
    """Sizes are numbers of images."""

    source: Path | None = Field(
        None,
        description="a finished run of detector-cifar whose classifier and detectors are attacked; null: train them",
    )
    detectors: DetectorCifar = Field(
        description="how they are trained where there is no source; where they come from says weights, not theirs"
    )
    images: PositiveInt = Field(1000, description="test images that the classifier has right; all are attacked")
    eps: EpsGrid = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    steps: PositiveInt = Field(1000, description="of selective and orthogonal PGD, each of eps / 10")
    carlini_images: PositiveInt = 1000
    carlini_steps: PositiveInt = Field(
        3000, description="of Carlini & Wagner's attack on the classifier, for each constant"
    )
    carlini_adaptive_steps: PositiveInt = Field(300, description="of the same on classifier and detector")
    carlini_searches: PositiveInt = Field(3, description="constants tried an image")
    surrogate_confidence: PositiveFloat = Field(
        5.0, description="margin of the attack on a detector of another seed, so that it transfers"
    )


PRESETS = {
    "paper": DetectorAdaptive(detectors=DETECTORS["paper"]),
    "small": DetectorAdaptive(
        detectors=DETECTORS["small"],
        images=80,
        steps=50,
        carlini_images=40,
        carlini_steps=200,
        carlini_adaptive_steps=100,
    ),
    "quick": DetectorAdaptive(
        weights="zoo",
        detectors=DETECTORS["quick"],
        images=24,
        eps=(1 / 255, 8 / 255),
        steps=15,
        carlini_images=16,
        carlini_steps=100,
        carlini_adaptive_steps=50,
    ),
}

EMBEDDED: dict[str, dict[str, object]] = {
    name: {"detectors": preset.detectors.model_copy(update=DIGITS[name]), "eps": (8 / 255, 24 / 255)}
    for name, preset in PRESETS.items()
}
"""The settings for the embedded digits, at the bounds at which their detectors have something to see."""
