"""Report 001 on CIFAR-10: detector subnetworks at AD(k), static and dynamic (Metzen et al., 2017, sections 3 and 4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from advbench import metrics
from advbench.attacks import DynamicDetectorAttack
from advbench.progress import track
from advbench.study.registry import Config, Eps, Unit, recipe
from advbench.recipes import _detector_cifar_exhibits as exhibits
from advbench.recipes._detector_cifar_lab import (
    ITERATIONS,
    STEP,
    Adversary,
    Laboratory,
    adversaries_of,
    detection_rows,
    generate,
    references,
)
from advbench.study.study import Study
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


class DetectorCifar(Config):
    """Sizes are numbers of images; null means all."""

    schedule: Literal["report", "fast"] = Field("report", description="how the classifier is trained")
    epochs: PositiveInt | None = Field(None, description="of the classifier; null: the schedule's own")
    train_images: PositiveInt | None = Field(None, description="for the classifier")
    devices: PositiveInt = Field(1, description="that train the classifier together")
    test_images: PositiveInt | None = Field(None, description="attacked")
    clean_images: PositiveInt | None = Field(None, description="test images for the accuracy without attack")
    eps_fgsm: tuple[Eps, ...] = (1 / 255, 2 / 255, 3 / 255, 4 / 255)
    eps_bim: tuple[Eps, ...] = (1 / 255, 2 / 255, 3 / 255, 4 / 255)
    eps_bim_l2: tuple[Eps, ...] = (20 / 255, 40 / 255, 60 / 255, 80 / 255)
    detector_images: PositiveInt | None = Field(
        None, description="clean ones a detector is trained on, as many adversarial"
    )
    validation_images: PositiveInt | None = Field(
        None, description="clean ones that select the epoch and fix thresholds"
    )
    detector_epochs: PositiveInt = 20
    detector_lr: float = Field(1e-4, gt=0)
    detector_batch: PositiveInt = Field(128, description="half of it adversarial")
    depths: tuple[Literal[0, 1, 2, 3, 4], ...] = Field(
        (0, 1, 2, 3, 4), description="taps of the depth study; none: no study"
    )
    depth_seeds: PositiveInt = 3
    dynamic_eps: Eps = 1 / 255
    dynamic_epochs: PositiveInt = 20
    dynamic_start: Literal["fresh", "static"] = Field(
        "fresh", description="weights that dynamic training starts from: new ones, or the static detector's"
    )
    sigmas: tuple[Unit, ...] = tuple(i / 10 for i in range(11))
    sigma_images: PositiveInt | None = None
    check_iterations: PositiveInt = Field(
        40, description="of the dynamic adversary with step eps / 4 that checks figure 5"
    )
    min_successes: PositiveInt = Field(100, description="successful adversarial images below which a sigma is left out")


PRESETS = {
    "paper": DetectorCifar(),
    "small": DetectorCifar(
        schedule="fast",
        test_images=800,
        eps_fgsm=(4 / 255,),
        eps_bim=(1 / 255,),
        eps_bim_l2=(40 / 255,),
        detector_images=2500,
        validation_images=300,
        detector_epochs=10,
        detector_lr=1e-3,
        detector_batch=32,
        depths=(),
        dynamic_epochs=12,
        dynamic_start="static",
        sigma_images=300,
        check_iterations=20,
    ),
    "quick": DetectorCifar(
        schedule="fast",
        epochs=4,
        train_images=4000,
        test_images=80,
        clean_images=1000,
        eps_fgsm=(4 / 255,),
        eps_bim=(1 / 255,),
        eps_bim_l2=(40 / 255,),
        detector_images=160,
        validation_images=40,
        detector_epochs=2,
        detector_lr=1e-3,
        detector_batch=32,
        depths=(),
        dynamic_epochs=2,
        dynamic_start="static",
        sigmas=(0, 0.5, 1),
        sigma_images=48,
        check_iterations=10,
        min_successes=5,
    ),
}


@recipe(
    "detector-cifar",
    dataset="cifar10",
    embedded_shape=(3, 16, 16),
    presets=PRESETS,
    question="Can a small network that reads a classifier's inner features tell adversarial images from clean ones, and "
    "does it survive an adversary who knows it?",
)
def detector_cifar(study: Study) -> None:
    """The whole CIFAR-10 part of the report; each exhibit is a block of its own below."""
    config, run = study.config, study.run
    schedule = SCHEDULES[config.schedule]
    lab = Laboratory(study, schedule.of_length(config.epochs) if config.epochs else schedule)
    adversaries = adversaries_of(config)

    run.rows("clean", partial(clean_accuracy, lab))
    for adversary in track(adversaries, "adversaries and their detectors", len(adversaries)):
        run.rows(f"static-{adversary.label}", partial(detection, lab, adversary))
    accuracy = {adversary: lab.accuracy_under(adversary).value for adversary in adversaries}
    reference = references(accuracy)
    if config.depths:
        run.rows("depth", partial(depth, lab, reference))
    pairs = [(fit, test) for fit in adversaries for test in adversaries]
    same_attack = [(fit, test) for fit, test in pairs if fit.attack == test.attack and fit.eps is not None]
    if any(fit != test for fit, test in same_attack):
        run.rows("eps-transfer", partial(transfer, lab, "fig3", same_attack))
    run.rows(
        "adversary-transfer", partial(transfer, lab, "fig4", [(fit, test) for fit in reference for test in reference])
    )
    grid = [(kind, sigma) for kind in ("static", "dynamic") for sigma in config.sigmas]
    for kind, sigma in track(grid, "detectors under the dynamic adversary", len(grid)):
        run.rows(f"sigma-{kind}-{sigma:g}", partial(under_dynamic_adversary, lab, kind, sigma))
    run.rows("check", partial(finer_steps, lab))
    run.rows("targets", lambda: exhibits.targets(run.results()))
    exhibits.show(run)
    run.explorer(partial(lab.explorer, adversaries))


def clean_accuracy(lab: Laboratory) -> list[dict[str, Any]]:
    """The classifier on test images, by default all, and on those that are attacked."""
    whole = lab.images(lab.study.test, np.arange(len(lab.study.test)), lab.config.clean_images)
    attacked = lab.clean["test"]
    common = {"split": "test", "model": "resnet32", "exhibit": "classifier"}
    return [
        metrics.accuracy(lab.predicted(images.x), images.y).row(metric, **common)
        for metric, images in (("accuracy", whole), ("accuracy_on_attacked", attacked))
    ]


def detection(lab: Laboratory, adversary: Adversary) -> Iterator[dict[str, Any]]:
    """Figure 2, left: predictive accuracy under an adversary, and how well its own detector sees it."""
    position = adversary.position
    adversarial, images = lab.crafted(adversary, "test"), lab.clean["test"]
    success = lab.predicted(adversarial) != images.y
    changed = np.any(adversarial != images.x, axis=(1, 2, 3))
    clean = lab.scores(adversary, position, 0, None)
    flagged = lab.scores(adversary, position, 0, adversary)
    common = {"split": "test", "model": "resnet32", "exhibit": "fig2-left", **adversary.columns()}
    yield lab.accuracy_under(adversary).row("predictive_accuracy", **common)
    yield metrics.proportion(int((~changed).sum()), len(changed)).row("unchanged_images", **common)
    common |= {"detector": "static", "position": position, "fit_attack": adversary.attack, "fit_eps": adversary.eps}
    detector = lab.static_detector(adversary, position)
    thresholds = {percent: detector.threshold_at(percent / 100, lab.clean["validation"].x) for percent in (1, 5)}
    yield from detection_rows(clean, flagged, success, thresholds, **common)


def depth(lab: Laboratory, reference: list[Adversary]) -> Iterator[dict[str, Any]]:
    """Figure 2, right: the same detector attached at every depth, over several seeds."""
    for adversary in reference:
        for position in lab.config.depths:
            for seed in range(lab.config.depth_seeds):
                figure = metrics.detectability(
                    lab.scores(adversary, position, seed, None), lab.scores(adversary, position, seed, adversary)
                )
                yield figure.row(
                    "detectability",
                    split="test",
                    model="resnet32",
                    exhibit="fig2-right",
                    detector=f"static, seed {seed}",
                    position=position,
                    fit_attack=adversary.attack,
                    fit_eps=adversary.eps,
                    **adversary.columns(),
                )


def transfer(lab: Laboratory, exhibit: str, pairs: list[tuple[Adversary, Adversary]]) -> Iterator[dict[str, Any]]:
    """Figures 3 and 4: a detector trained on one adversary meets another."""
    for fit, test in pairs:
        clean = lab.scores(fit, fit.position, 0, None)
        yield metrics.detectability(clean, lab.scores(fit, fit.position, 0, test)).row(
            "detectability",
            split="test",
            model="resnet32",
            exhibit=exhibit,
            detector="static",
            position=fit.position,
            fit_attack=fit.attack,
            fit_eps=fit.eps,
            **test.columns(),
        )


def under_dynamic_adversary(lab: Laboratory, kind: str, sigma: float, **finer: Any) -> Iterator[dict[str, Any]]:
    """Figure 5: accuracy of classifier and detector, the latter on clean against successful adversarial images.

    :param finer: attack parameters in place of the report's; the rows are then of the exhibit "check".
    """
    config = lab.config
    base = Adversary("bim", config.dynamic_eps)
    detector = lab.static_detector(base, 2) if kind == "static" else lab.dynamic_detector()
    images = lab.clean["test"].first(config.sigma_images or len(lab.clean["test"].x))
    parameters = {"eps_step": min(STEP["bim"], config.dynamic_eps), "max_iter": ITERATIONS, **finer}
    attack = DynamicDetectorAttack(lab.classifier, detector, config.dynamic_eps, sigma=sigma, **parameters)
    adversarial = generate(attack, images, f"dynamic adversary, {kind} detector, sigma {sigma:g}")
    predicted = lab.predicted(adversarial)
    success = predicted != images.y
    common = {
        "split": "test",
        "model": "resnet32",
        "exhibit": "check" if finer else "fig5",
        "detector": kind,
        "position": 2,
        "attack": f"dynamic, {parameters['max_iter']} steps of {parameters['eps_step'] * 255:g}/255",
        "norm": "linf",
        "eps": config.dynamic_eps,
        "sigma": sigma,
    }
    yield metrics.accuracy(predicted, images.y).row("predictive_accuracy", **common)
    yield metrics.Figure(float(success.sum()), len(success)).row("successes", **common)
    if success.sum() >= config.min_successes:
        on_clean, flagged = detector.scores(images.x), detector.scores(adversarial[success])
        yield metrics.detectability(on_clean, flagged).row("balanced_accuracy", **common)
        yield metrics.auc(on_clean, flagged).row("auc", **common)


def finer_steps(lab: Laboratory) -> Iterator[dict[str, Any]]:
    """What breaks figure 5? A step of alpha = eps jumps between corners of the ball; a finer one descends."""
    rows = lab.run.results()
    for kind in ("static", "dynamic"):
        seen = rows[(rows.exhibit == "fig5") & (rows.metric == "balanced_accuracy") & (rows.detector == kind)]
        if len(seen):
            worst = float(seen.loc[seen.value.idxmin()].sigma)
            step = lab.config.dynamic_eps / 4
            yield from under_dynamic_adversary(lab, kind, worst, eps_step=step, max_iter=lab.config.check_iterations)
