"""Report 001 on ten ImageNet classes: detectors on the features of a pretrained VGG16 (Metzen et al., 2017, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from pydantic import Field, PositiveInt

from advbench import metrics
from advbench.data.imagenet import SIZE
from advbench.detectors import threshold_on
from advbench.progress import track
from advbench.study.registry import Config, Eps, recipe
from advbench.recipes import _detector_imagenet10_exhibits as exhibits
from advbench.recipes._detector_cifar_lab import Adversary, adversaries_of, detection_rows, references
from advbench.recipes._detector_imagenet10_lab import POSITION, Laboratory
from advbench.study.study import Study

CHANCE = Adversary("bim-l2", 400 / 255)
"""Where the report's detector stayed at chance level."""


class DetectorImagenet10(Config):
    """Sizes are numbers of images; null means all."""

    size: int = Field(SIZE, ge=32, description="side of the images in pixels")
    classes: tuple[str, ...] = Field((), description="ten WordNet ids; none: the folders of the data")
    weights: str | None = Field(
        None, description="file with the weights of VGG16, or of its convolutions; null: torchvision's"
    )
    head_images: PositiveInt | None = Field(None, description="training images for a new head, where one is needed")
    clean_images: PositiveInt | None = Field(None, description="test images for the accuracy without attack")
    test_images: PositiveInt | None = Field(None, description="attacked")
    train_images: PositiveInt | None = Field(
        None, description="clean ones a detector is trained on, as many adversarial"
    )
    validation_images: PositiveInt | None = Field(
        None, description="clean ones that select the epoch and fix thresholds"
    )
    eps_fgsm: tuple[Eps, ...] = (2 / 255, 4 / 255, 6 / 255)
    eps_bim: tuple[Eps, ...] = (2 / 255, 4 / 255, 6 / 255)
    eps_bim_l2: tuple[Eps, ...] = Field(
        (400 / 255, 800 / 255, 1200 / 255), description="for images of 224 pixels; in proportion for others"
    )
    deepfool_limit: Eps = Field(6 / 255, description="l-inf bound that its perturbation is clipped to")
    deepfool_iterations: PositiveInt = 50
    deepfool_candidates: PositiveInt = Field(9, description="other classes it linearises, the likeliest first")
    detector_epochs: PositiveInt = 500
    detector_lr: float = Field(1e-4, gt=0)
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


@recipe(
    "detector-imagenet10",
    dataset="imagenet10",
    embedded_shape=(3, 32, 32),
    presets=PRESETS,
    question="Can a small network that reads the features of a pretrained VGG16 tell adversarial ImageNet images from clean "
    "ones, and does a detector trained on one adversary see another?",
)
def detector_imagenet10(study: Study) -> None:
    """The ImageNet part of the report; each exhibit is a block of its own below."""
    config, run = study.config, study.run
    lab = Laboratory(study)
    adversaries = adversaries_of(config)

    run.rows("clean", partial(clean_accuracy, lab))
    for adversary in track(adversaries, "adversaries and their detectors", len(adversaries)):
        run.rows(f"static-{adversary.label}", partial(detection, lab, adversary))
    accuracy = {adversary: lab.accuracy_under(adversary).value for adversary in adversaries}
    reference = references({each: value for each, value in accuracy.items() if each != CHANCE} or accuracy)
    same_attack = [(a, b) for a in adversaries for b in adversaries if a.attack == b.attack and a.eps is not None]
    if any(fit != test for fit, test in same_attack):
        run.rows("eps-transfer", partial(transfer, lab, "eps-transfer", same_attack))
    every_pair = [(fit, test) for fit in reference for test in reference]
    run.rows("adversary-transfer", partial(transfer, lab, "adversary-transfer", every_pair))
    if CHANCE in adversaries:
        run.rows("chance", partial(chance_level, lab))
    run.rows("targets", lambda: exhibits.targets(run.results()))
    exhibits.show(run, lab.scale)
    attacked = {each.label: lab.crafted(each, "test").pictures[0] for each in reference}
    exhibits.pictures(run, lab.crafted(None, "test").pictures[0], attacked)
    run.explorer(partial(lab.explorer, reference))


def clean_accuracy(lab: Laboratory) -> Iterator[dict[str, Any]]:
    """The classifier on test images, by default all, on those that are attacked, and the files that are no images."""
    common = {"split": "test", "model": lab.model, "exhibit": "classifier"}
    yield metrics.accuracy(lab.clean_predictions(), lab.labels("whole test")).row("accuracy", **common)
    attacked = metrics.accuracy(lab.crafted(None, "test").predicted, lab.labels("test"))
    yield attacked.row("accuracy_on_attacked", **common)
    for part in (lab.study.train, lab.study.test):
        total = len(part) + len(part.unreadable)
        unreadable = metrics.Figure(len(part.unreadable), total)
        yield unreadable.row("unreadable_files", **{**common, "split": part.split})


def detection(lab: Laboratory, adversary: Adversary) -> Iterator[dict[str, Any]]:
    """Predictive accuracy under an adversary, the size of its perturbations, and how well its own detector sees it."""
    crafted = lab.crafted(adversary, "test")
    success = crafted.predicted != lab.labels("test")
    clean, flagged = lab.scores(adversary, None), lab.scores(adversary, adversary)
    validation = lab.scores(adversary, None, part="validation")
    common = {"split": "test", "model": lab.model, "exhibit": "adversaries", **lab.columns(adversary)}
    yield lab.accuracy_under(adversary).row("predictive_accuracy", **common)
    yield metrics.proportion(int((crafted.linf == 0).sum()), len(success)).row("unchanged_images", **common)
    yield metrics.mean(crafted.linf).row("mean_linf", **common)
    yield metrics.mean(crafted.l2).row("mean_l2", **common)
    common |= _fitted_on(lab, adversary)
    thresholds = {percent: threshold_on(validation, percent / 100) for percent in (1, 5)}
    yield from detection_rows(clean, flagged, success, thresholds, **common)


def transfer(lab: Laboratory, exhibit: str, pairs: Sequence[tuple[Adversary, Adversary]]) -> Iterator[dict[str, Any]]:
    """A detector trained on one adversary meets another."""
    for fit, test in pairs:
        figure = metrics.detectability(lab.scores(fit, None), lab.scores(fit, test))
        yield figure.row(
            "detectability",
            split="test",
            model=lab.model,
            exhibit=exhibit,
            reported=exhibits.reported(exhibit, fit, test),
            **_fitted_on(lab, fit),
            **lab.columns(test),
        )


def chance_level(lab: Laboratory) -> Iterator[dict[str, Any]]:
    """The one cell of the report at chance level, again from several initial weights of the detector."""
    for seed in range(lab.config.chance_seeds):
        figure = metrics.detectability(lab.scores(CHANCE, None, seed), lab.scores(CHANCE, CHANCE, seed))
        yield figure.row(
            "detectability",
            split="test",
            model=lab.model,
            exhibit="chance",
            reported=0.5,
            **{**_fitted_on(lab, CHANCE), "detector": f"static, seed {seed}"},
            **lab.columns(CHANCE),
        )


def _fitted_on(lab: Laboratory, fit: Adversary) -> dict[str, Any]:
    return {"detector": "static", "position": POSITION, "fit_attack": fit.attack, "fit_eps": lab.bound(fit)}
