"""ART's defences and ours side by side, each under the attack that is made for it; the worst case for each image counts."""

from __future__ import annotations

from functools import partial

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from advbench.study.registry import recipe
from advbench.recipes import _compare_defences_exhibits as exhibits
from advbench.recipes._compare_defences_lab import Laboratory
from advbench.recipes._compare_defences_registry import DEFENCES
from advbench.recipes._defence_config import Bounds, DefenceConfig, chosen
from advbench.study.study import Study


class CompareDefences(DefenceConfig):
    """Sizes are numbers of images; null means all."""

    defences: tuple[str, ...] = Field(tuple(DEFENCES), description="which are compared; no defence always is")
    grey: Bounds = Field(
        Bounds(eps=(0.1, 0.3), fit_eps=0.3, bit_depth=1, sigma=0.25), description="for mnist and digits"
    )
    colour: Bounds = Field(
        Bounds(eps=(2 / 255, 8 / 255), fit_eps=8 / 255, bit_depth=4, sigma=0.1), description="for cifar10"
    )
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

    @field_validator("defences")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return chosen(names, DEFENCES)

    def bounds(self, dataset: str) -> Bounds:
        """The part for a data set."""
        return self.colour if dataset == "cifar10" else self.grey


PAPER = CompareDefences()
PRESETS = {
    "paper": PAPER,
    "small": PAPER.quicker(
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
    "quick": PAPER.quicker(
        grey=PAPER.grey.model_copy(update={"fit_eps": 0.1}),
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


@recipe(
    "compare-defences",
    dataset="mnist",
    embedded_shape=(1, 28, 28),
    presets=PRESETS,
    question="Which defences still stand when the attack is made for them, and what do they cost on clean images and in training?",
)
def compare_defences(study: Study) -> None:
    """Train every defence and attack it in all workers, then read off the tables."""
    config, run = study.config, study.run
    lab = Laboratory(study, DEFENCES)
    study.each(evaluate, ["none"])  # its network and its adversarial images are what the others start from
    lab.labelled()
    study.each(evaluate, [name for name in config.defences if name != "none"])
    for name in config.defences:
        run.rows(f"accuracy-{name}", partial(lab.accuracies, name))
        run.rows(f"certificate-{name}", partial(lab.certificates, name))
        run.rows(f"cost-{name}", partial(lab.costs, name))
    exhibits.show(run)
    run.explorer(lab.explorer)


def evaluate(study: Study, name: str) -> None:
    """Make one defence and attack it within every bound."""
    lab = Laboratory(study, DEFENCES)
    for eps in lab.bounds.eps:
        lab.attacked(name, eps)
