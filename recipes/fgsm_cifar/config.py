"""The config of ``fgsm-cifar`` and its presets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from advbench.recipes.compare_defences.future import FutureWork
from advbench.study import Eps, EpsGrid, FromZoo

Reading = Literal["V1", "V2", "V3", "V1 dynamic", "V2 dynamic"]


class FgsmCifar(FromZoo):
    """Sizes are numbers of images; null means all."""

    grows = ("seeds",)

    train_images: PositiveInt | None = None
    test_images: PositiveInt | None = None
    watched_images: PositiveInt = Field(1000, description="test images classified after every epoch, for the curves")
    epochs: PositiveInt = Field(10, description="of the standard network")
    defended_epochs: PositiveInt = Field(10, description="each of all clean images and as many adversarial ones")
    batch: PositiveInt = 32
    defended_batch: PositiveInt = 64
    lr: PositiveFloat = 1e-3
    decay: bool = Field(False, description="let the learning rate fall linearly to zero, step by step")
    l2: float = Field(1e-4, ge=0, description="Keras' factor of the squared kernels of the convolutions")
    bfloat16: bool = Field(False, description="train in bfloat16 where the processor has it")
    eps: EpsGrid = (0.001, 0.005, 0.01, 0.05, 0.1)
    readings: tuple[Reading, ...] = Field(
        ("V1", "V2", "V3", "V1 dynamic", "V2 dynamic"),
        description="V1: an eps for each image; V2: one for all; V3: as V2, images made on an untrained network; "
        "dynamic: on the current weights, by cross-entropy",
    )
    one_eps: Eps | None = Field(None, description="that single eps of V2 and V3; null: drawn between 0 and 0.1")
    dynamic_images: PositiveInt | None = Field(None, description="training images of the dynamic readings")
    pooling: bool = Field(True, description="also train the network with average pooling")
    seeds: PositiveInt = Field(3, description="trainings of each; a single eps of V2 and V3 is drawn anew in each")
    strong_images: PositiveInt = Field(1000, description="attacked with PGD, of the first seed's networks")
    pgd_iterations: PositiveInt = 50
    pgd_restarts: PositiveInt = 5
    autoattack_images: NonNegativeInt = Field(500, description="0: no AutoAttack")
    autoattack_eps: Eps = 0.01
    future: FutureWork = Field(FutureWork(), description="the defences that the report names as future work")


FUTURE = FutureWork(test_images=500, epochs=10, batch=64, adaptive_steps=50, restarts=5)
FUTURE_SMALL = FUTURE.quicker(
    train_images=4000, test_images=150, epochs=5, batch=32, eps=(0.01,), pgd_steps=20, adaptive_steps=30, restarts=2
)
PRESETS = {
    "paper": FgsmCifar(future=FUTURE),
    # the undefended network as the code of the report trains it: ten epochs in batches of 32 at a constant rate
    "full": FgsmCifar(
        bfloat16=True,
        readings=("V1", "V2", "V3", "V1 dynamic"),
        dynamic_images=25_000,
        pooling=False,
        seeds=1,
        strong_images=300,
        pgd_restarts=2,
        autoattack_images=100,
        future=FUTURE_SMALL,
    ),
    # the passes go to the undefended network, whose accuracy everything else starts from; pooling is left to paper
    "small": FgsmCifar(
        test_images=2000,
        epochs=7,
        defended_epochs=2,
        batch=64,
        lr=2e-3,
        decay=True,
        bfloat16=True,
        readings=("V1", "V2", "V3", "V1 dynamic"),
        dynamic_images=12_000,
        pooling=False,
        seeds=1,
        strong_images=40,
        pgd_restarts=1,
        autoattack_images=24,
        future=FUTURE_SMALL,
    ),
    # small batches: batch norm with Keras' momentum needs some hundred steps before its statistics are those of the images
    "quick": FgsmCifar(
        weights="zoo",
        train_images=600,
        test_images=120,
        watched_images=60,
        epochs=5,
        defended_epochs=2,
        batch=6,
        defended_batch=6,
        decay=True,
        readings=("V1", "V1 dynamic"),
        pooling=False,
        seeds=1,
        strong_images=8,
        pgd_iterations=10,
        pgd_restarts=1,
        autoattack_images=0,
        # of the others batch norm asks for more steps than quick can take
        future=FUTURE.quicker(
            defences=("none", "jpeg-compression", "vae-reformer", "lipschitz"),
            train_images=300,
            validation_images=100,
            test_images=20,
            epochs=8,
            batch=8,
            eps=(0.01,),
            pgd_steps=5,
            adaptive_steps=8,
            restarts=1,
        ),
    ),
}
