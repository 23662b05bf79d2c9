"""The config of ``detector-cifar`` and its presets."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from advbench.study import Config, Eps, FromZoo, Unit
from advbench.trainers import Schedule

SCHEDULES = {
    # section 4.1: 0.1, then 0.01 after 41 epochs and 0.001 after 61
    "report": Schedule(epochs=100, lr=0.1, weight_decay=1e-4, milestones=(41, 61)),
    # one cycle over images of 16, 24 and 32 pixels
    "fast": Schedule(
        epochs=26,
        lr=0.2,
        weight_decay=5e-4,
        nesterov=True,
        bfloat16=True,
        sizes=((6 / 26, 16), (10 / 26, 24), (10 / 26, 0)),
    ),
}


class DetectorConfig(Config):
    """What the parts of the report on both data sets have in common. Sizes are numbers of images; null means all."""

    test_images: PositiveInt | None = Field(None, description="attacked")
    clean_images: PositiveInt | None = Field(None, description="test images for the accuracy without attack")
    validation_images: PositiveInt | None = Field(None, description="clean, to select the epoch and fix thresholds")
    eps_fgsm: tuple[Eps, ...] = (1 / 255, 2 / 255, 3 / 255, 4 / 255)
    eps_bim: tuple[Eps, ...] = (1 / 255, 2 / 255, 3 / 255, 4 / 255)
    eps_bim_l2: tuple[Eps, ...] = (20 / 255, 40 / 255, 60 / 255, 80 / 255)
    deepfool: bool = Field(True, description="in l2 and l-inf; an attack with an eps is left out by no eps: '[]'")
    detector_epochs: PositiveInt = 20
    detector_lr: float = Field(1e-4, gt=0)
    detector_batch: PositiveInt = Field(128, description="half of it adversarial")
    detector_decay: bool = Field(False, description="let their learning rate fall linearly to zero, step by step")
    detector_bfloat16: bool = Field(False, description="train them in bfloat16 where the processor has it")

    @model_validator(mode="after")
    def _has_an_adversary(self) -> Self:
        if not (self.eps_fgsm or self.eps_bim or self.eps_bim_l2 or self.deepfool):
            raise ValueError("no adversary is left: eps_fgsm, eps_bim and eps_bim_l2 are empty and deepfool is false")
        return self


class DetectorCifar(FromZoo, DetectorConfig):
    """Sizes are numbers of images; null means all."""

    schedule: Literal["report", "fast"] = Field("report", description="how the classifier is trained")
    epochs: PositiveInt | None = Field(None, description="of the classifier; null: the schedule's own")
    train_images: PositiveInt | None = Field(None, description="for the classifier")
    devices: PositiveInt = Field(1, description="that train the classifier together")
    detector_images: PositiveInt | None = Field(None, description="clean, to train detectors, and as many adversarial")
    depths: tuple[Literal[0, 1, 2, 3, 4], ...] = Field((0, 1, 2, 3, 4), description="taps of the depth study, if any")
    depth_seeds: PositiveInt = 3
    dynamic_eps: Eps = 1 / 255
    dynamic_epochs: PositiveInt = 20
    dynamic_start: Literal["fresh", "static"] = Field(
        "fresh", description="weights that dynamic training starts from: new ones, or the static detector's"
    )
    sigmas: tuple[Unit, ...] = tuple(i / 10 for i in range(11))
    sigma_images: PositiveInt | None = None
    check_iterations: PositiveInt = Field(40, description="of the dynamic adversary with step eps / 4 (finer steps)")
    check_sigmas: tuple[Unit, ...] | None = Field(
        None, description="at which it takes finer steps; null: where each detector is worst"
    )
    min_successes: PositiveInt = Field(100, description="successful adversarial images below which a sigma is left out")

    @property
    def classifier_schedule(self) -> Schedule:
        schedule = SCHEDULES[self.schedule]
        return schedule.of_length(self.epochs) if self.epochs else schedule


REDUCED = {
    "schedule": "fast",
    "eps_fgsm": (4 / 255,),
    "eps_bim": (1 / 255,),
    "eps_bim_l2": (40 / 255,),
    "detector_lr": 1e-3,
    "detector_batch": 32,
    "depths": (),
    "dynamic_start": "static",
}
PRESETS = {
    "paper": DetectorCifar(),
    "small": DetectorCifar(
        **REDUCED,
        test_images=800,
        detector_images=2500,
        validation_images=300,
        detector_epochs=10,
        dynamic_epochs=12,
        sigma_images=300,
        check_iterations=20,
    ),
    # every claim, in hours on two cores: shorter schedules with a falling rate, three eps of each grid, one detector a depth
    "full": DetectorCifar(
        schedule="fast",
        epochs=36,
        test_images=5000,
        validation_images=1000,
        eps_fgsm=(1 / 255, 2 / 255, 4 / 255),
        eps_bim=(1 / 255, 2 / 255, 4 / 255),
        eps_bim_l2=(20 / 255, 40 / 255, 80 / 255),
        detector_lr=1e-3,
        detector_epochs=5,
        detector_decay=True,
        detector_bfloat16=True,
        depth_seeds=1,
        dynamic_start="static",
        dynamic_epochs=6,
        sigma_images=1000,
    ),
    "quick": DetectorCifar(
        **REDUCED,
        weights="zoo",
        epochs=4,
        train_images=4000,
        test_images=80,
        clean_images=1000,
        detector_images=160,
        validation_images=40,
        detector_epochs=2,
        dynamic_epochs=2,
        sigmas=(0, 0.5, 1),
        sigma_images=48,
        check_iterations=10,
        min_successes=5,
    ),
}

# at 4/255 hardly a digit changes, and no detector learns to see it
_BOUNDS = {"eps_fgsm": (24 / 255,), "eps_bim": (16 / 255,), "eps_bim_l2": (1.0,), "dynamic_eps": 16 / 255}
EMBEDDED: dict[str, dict[str, object]] = {
    **dict.fromkeys(PRESETS, _BOUNDS),
    "quick": {
        **_BOUNDS,
        "epochs": 12,
        "detector_images": 600,
        "detector_epochs": 10,
        "detector_decay": True,
        "detector_bfloat16": True,
        "dynamic_epochs": 5,
        "check_iterations": 20,
    },
}
"""The settings for the embedded digits."""
