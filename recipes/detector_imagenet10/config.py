"""The config of ``detector-imagenet10`` and its presets."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveInt

from advbench.data.imagenet import SIZE
from advbench.recipes.detector_cifar.config import DetectorConfig
from advbench.study import Eps


class DetectorImagenet10(DetectorConfig):
    """Sizes are numbers of images; null means all."""

    size: int = Field(SIZE, ge=32, description="side of the images in pixels")
    classes: tuple[str, ...] = Field((), description="ten WordNet ids; none: the folders of the data")
    weights: str | None = Field(None, description="file of VGG16, or of its convolutions; null: torchvision's")
    head_images: PositiveInt | None = Field(None, description="training images for a new head, where one is needed")
    train_images: PositiveInt | None = Field(None, description="clean, to train detectors, and as many adversarial")
    eps_fgsm: tuple[Eps, ...] = (2 / 255, 4 / 255, 6 / 255)
    eps_bim: tuple[Eps, ...] = (2 / 255, 4 / 255, 6 / 255)
    eps_bim_l2: tuple[Eps, ...] = Field(
        (400 / 255, 800 / 255, 1200 / 255), description="for images of 224 pixels; in proportion for others"
    )
    deepfool_limit: Eps = Field(6 / 255, description="l-inf bound that its perturbation is clipped to")
    deepfool_iterations: PositiveInt = 50
    deepfool_candidates: PositiveInt = Field(9, description="other classes it linearises, the likeliest first")
    detector_epochs: PositiveInt = 500
    detector_batch: PositiveInt = Field(64, description="half of it adversarial")
    chance_seeds: PositiveInt = Field(3, description="detectors trained on the iterative l2 method at eps 400")

    def data_options(self) -> dict[str, Any]:
        return {"shape": (3, self.size, self.size), "classes": self.classes}


PRESETS = {
    "paper": DetectorImagenet10(),
    "small": DetectorImagenet10(
        size=96,
        test_images=160,
        train_images=280,
        validation_images=60,
        eps_fgsm=(4 / 255,),
        eps_bim=(4 / 255,),
        eps_bim_l2=(400 / 255, 800 / 255),
        deepfool_candidates=3,
        detector_epochs=40,
        detector_batch=32,
    ),
    "quick": DetectorImagenet10(
        size=64,
        head_images=300,
        clean_images=100,
        test_images=16,
        train_images=16,
        validation_images=8,
        eps_fgsm=(4 / 255,),
        eps_bim=(4 / 255,),
        eps_bim_l2=(800 / 255,),
        deepfool_candidates=3,
        deepfool_iterations=10,
        detector_epochs=20,
        detector_batch=16,
    ),
}
