"""Report 001 on CIFAR-10: detector subnetworks at AD(k), static and dynamic (Metzen et al., 2017, sections 3 and 4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from advbench.recipes import _detector_cifar_exhibits as exhibits
from pydantic import Field, PositiveInt

from advbench import attacks, estimators, evaluation, models
from advbench.attacks import DynamicDetectorAttack
from advbench.attacks.registry import NORMS
from advbench.data import split_indices
from advbench.detectors import SubnetworkDetector
from advbench.progress import track
from advbench.recipe import Config, Eps, Unit, recipe
from advbench.runs import Training
from advbench.study import Study
from advbench.trainers import Schedule, train_classifier

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
ITERATIONS = 10
STEP = {"bim": 1 / 255, "bim-l2": 20 / 255}


class DetectorCifar(Config):
    """Sizes are numbers of images; null means all."""

    schedule: Literal["report", "fast"] = Field("report", description="how the classifier is trained")
    epochs: PositiveInt | None = Field(None, description="of the classifier; null: the schedule's own")
    train_images: PositiveInt | None = Field(None, description="for the classifier")
    test_images: PositiveInt | None = Field(
        None, description="attacked; clean accuracy is always on the whole test set"
    )
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
        test_images=1000,
        eps_fgsm=(4 / 255,),
        eps_bim=(1 / 255,),
        eps_bim_l2=(40 / 255,),
        detector_images=3000,
        validation_images=500,
        detector_epochs=10,
        detector_lr=1e-3,
        detector_batch=64,
        depths=(),
        dynamic_epochs=12,
        sigma_images=400,
        check_iterations=20,
    ),
    "quick": DetectorCifar(
        schedule="fast",
        epochs=4,
        train_images=6000,
        test_images=150,
        eps_fgsm=(4 / 255,),
        eps_bim=(1 / 255,),
        eps_bim_l2=(40 / 255,),
        detector_images=300,
        validation_images=100,
        detector_epochs=3,
        detector_lr=1e-3,
        detector_batch=32,
        depths=(),
        dynamic_epochs=3,
        sigmas=(0, 0.3, 0.6, 1),
        sigma_images=100,
        check_iterations=10,
        min_successes=10,
    ),
}


@dataclass(frozen=True)
class Adversary:
    """An attack at one eps; DeepFool has none."""

    attack: str
    eps: float | None = None

    @property
    def label(self) -> str:
        return self.attack if self.eps is None else f"{self.attack}-{round(self.eps * 255, 3):g}"

    @property
    def position(self) -> int:
        """Where the report attaches the detector for this adversary (section 4.1)."""
        return 4 if self.attack.startswith("deepfool") else 2

    def columns(self) -> dict[str, Any]:
        return {"attack": self.attack, "norm": NORMS[self.attack], "eps": self.eps}


@dataclass(frozen=True)
class Images:
    """Clean images, float32 in [0, 1], and their labels."""

    x: np.ndarray
    y: np.ndarray


@recipe("detector-cifar", dataset="cifar10", embedded_shape=(3, 16, 16), presets=PRESETS)
def detector_cifar(study: Study) -> None:
    """The whole CIFAR-10 part of the report; each exhibit is a block of its own below."""
    config, run = study.config, study.run
    lab = Laboratory(study)
    adversaries = [
        *(Adversary("fgsm", eps) for eps in config.eps_fgsm),
        *(Adversary("bim", eps) for eps in config.eps_bim),
        *(Adversary("bim-l2", eps) for eps in config.eps_bim_l2),
        Adversary("deepfool-l2"),
        Adversary("deepfool-linf"),
    ]

    run.rows("clean", lab.clean_accuracy)
    for adversary in adversaries:
        run.rows(f"static-{adversary.label}", partial(lab.detection, adversary))
    accuracy = {adversary: lab.accuracy_under(adversary).value for adversary in adversaries}
    reference = [_reference(attack, accuracy) for attack in dict.fromkeys(a.attack for a in adversaries)]
    if config.depths:
        run.rows("depth", partial(lab.depth, reference))
    pairs = [(fit, test) for fit in adversaries for test in adversaries]
    same_attack = [(fit, test) for fit, test in pairs if fit.attack == test.attack and fit.eps is not None]
    if any(fit != test for fit, test in same_attack):
        run.rows("eps-transfer", partial(lab.transfer, "fig3", same_attack))
    run.rows(
        "adversary-transfer", partial(lab.transfer, "fig4", [(fit, test) for fit in reference for test in reference])
    )
    for kind in ("static", "dynamic"):
        for sigma in config.sigmas:
            run.rows(f"sigma-{kind}-{sigma:g}", partial(lab.under_dynamic_adversary, kind, sigma))
    run.rows("check", lab.finer_steps)
    run.rows("targets", lambda: exhibits.targets(run.results()))
    exhibits.show(run)


def _reference(attack: str, accuracy: dict[Adversary, float]) -> Adversary:
    """The smallest eps that pushes accuracy below 30 %, the largest where none does (section 4.1, figure 2 right)."""
    grid = [adversary for adversary in accuracy if adversary.attack == attack]
    return next((adversary for adversary in grid if accuracy[adversary] < 0.3), grid[-1])


class Laboratory:
    """The materials of the study: each is made once, kept by the run and handed out from there."""

    def __init__(self, study: Study) -> None:
        self.study, self.config, self.run = study, study.config, study.run
        train = study.train
        held_out = len(train) // 10
        self.split = split = self.run.arrays(
            "split",
            lambda: dict(zip(("train", "validation"), split_indices(len(train), held_out, study.seed), strict=True)),
        )
        self.classifier = self._classifier()
        self.clean = {
            "train": self._images(train, split["train"], self.config.detector_images),
            "validation": self._images(train, split["validation"], self.config.validation_images),
            "test": self._images(study.test, np.arange(len(study.test)), self.config.test_images),
        }
        self.crafted = cache(self._crafted)
        self.static_detector = cache(self._static_detector)
        self.dynamic_detector = cache(self._dynamic_detector)
        self.scores = cache(self._scores)

    def _images(self, dataset: Any, indices: np.ndarray, n: int | None) -> Images:
        if n is not None and n < len(indices):
            rng = np.random.default_rng(self.study.seed_of("subset", dataset.split, n))
            indices = np.sort(rng.choice(indices, n, replace=False))
        return Images(dataset.x[indices].astype(np.float32) / 255, dataset.y[indices])

    def _classifier(self) -> estimators.TorchClassifier:
        """ResNet-32, trained on crops and flips of the training split, the best validation epoch kept."""
        data, config = self.study.train, self.config
        chosen, validation = self.split["train"], self.split["validation"]
        if config.train_images is not None and config.train_images < len(chosen):
            rng = np.random.default_rng(self.study.seed_of("classifier", "subset"))
            chosen = np.sort(rng.choice(chosen, config.train_images, replace=False))
            validation = validation[: max(config.train_images // 8, 1)]
        x, y = data.x[chosen], data.y[chosen]
        mean, std = (
            (getattr(x, moment)(axis=(0, 2, 3), dtype=np.float64) / 255).round(4).tolist() for moment in ("mean", "std")
        )
        spec = models.ModelSpec("resnet32", x.shape[1:], len(data.classes), tuple(mean), tuple(std))
        schedule = replace(SCHEDULES[config.schedule], flip=data.name == "cifar10")  # a mirrored digit is none
        if config.epochs is not None:
            schedule = schedule.of_length(config.epochs)
        seed = self.study.seed_of("classifier")

        def train(checkpoint: Path) -> Training:
            module = models.create(spec, seed)
            held_out = data.x[validation], data.y[validation]
            history = train_classifier(module, (x, y), held_out, schedule, seed, self.study.device, checkpoint)
            return lambda path: models.save(path, module, spec), history

        self.run.trained("classifier", train)
        return estimators.load(self.run.directory, "classifier", "fast", str(self.study.device))

    def _crafted(self, adversary: Adversary, part: str) -> np.ndarray:
        """The adversarial version of every image of a part of the data, crafted with the true labels."""
        images = self.clean[part]
        step = STEP.get(adversary.attack)
        attack = attacks.create(
            adversary.attack,
            self.classifier,
            adversary.eps,
            eps_step=min(step, adversary.eps) if step and adversary.eps else None,
            max_iter=ITERATIONS if step else None,
        )
        return self.run.arrays(
            f"adversarial-{adversary.label}-{part}",
            lambda: {"x": _generate(attack, images, f"{adversary.label} on {part}")},
        )["x"]

    def _static_detector(self, adversary: Adversary, position: int, seed: int = 0) -> SubnetworkDetector:
        """Trained on clean and precomputed adversarial images, the best validation epoch kept (section 3.2)."""
        config = self.config

        def labelled(part: str) -> tuple[np.ndarray, np.ndarray]:
            clean = self.clean[part].x
            return np.concatenate([clean, self.crafted(adversary, part)]), np.repeat([0, 1], len(clean))

        def train(checkpoint: Path) -> Training:
            detector = SubnetworkDetector(
                self.classifier, position, config.detector_lr, self.study.seed_of("detector", seed)
            )
            history = detector.fit(
                *labelled("train"),
                batch_size=config.detector_batch,
                nb_epochs=config.detector_epochs,
                validation=labelled("validation"),
                checkpoint=checkpoint,
            )
            return detector.save, history

        path = self.run.trained(f"detector-{adversary.label}-ad{position}-seed{seed}", train)
        return SubnetworkDetector.load(path, self.classifier)

    def _dynamic_detector(self) -> SubnetworkDetector:
        """Trained at AD(2) against the dynamic adversary, which attacks it as it learns (section 3.3)."""
        config, images = self.config, self.clean["train"]

        def train(checkpoint: Path) -> Training:
            detector = SubnetworkDetector(self.classifier, 2, config.detector_lr, self.study.seed_of("detector", 0))
            history = detector.fit_dynamic(
                images.x,
                images.y,
                batch_size=config.detector_batch,
                nb_epochs=config.dynamic_epochs,
                eps=config.dynamic_eps,
                eps_step=min(STEP["bim"], config.dynamic_eps),
                max_iter=ITERATIONS,
                checkpoint=checkpoint,
            )
            return detector.save, history

        return SubnetworkDetector.load(self.run.trained("detector-dynamic", train), self.classifier)

    def _scores(
        self, fit: Adversary, position: int, seed: int, test: Adversary | None, part: str = "test"
    ) -> np.ndarray:
        """p_adv of a static detector on clean (no test adversary) or adversarial images."""
        x = self.clean[part].x if test is None else self.crafted(test, part)
        return self.static_detector(fit, position, seed).scores(x)

    def predicted(self, x: np.ndarray) -> np.ndarray:
        return self.classifier.predict(x, batch_size=256).argmax(1)

    def accuracy_under(self, adversary: Adversary) -> evaluation.Figure:
        return evaluation.accuracy(self.predicted(self.crafted(adversary, "test")), self.clean["test"].y)

    def clean_accuracy(self) -> list[dict[str, Any]]:
        whole = self._images(self.study.test, np.arange(len(self.study.test)), None)
        attacked = self.clean["test"]
        common = {"split": "test", "model": "resnet32", "exhibit": "classifier"}
        return [
            evaluation.accuracy(self.predicted(images.x), images.y).row(metric, **common)
            for metric, images in (("accuracy", whole), ("accuracy_on_attacked", attacked))
        ]

    def detection(self, adversary: Adversary) -> Iterator[dict[str, Any]]:
        """Figure 2, left: predictive accuracy under an adversary, and how well its own detector sees it."""
        position = adversary.position
        adversarial, images = self.crafted(adversary, "test"), self.clean["test"]
        success = self.predicted(adversarial) != images.y
        changed = np.any(adversarial != images.x, axis=(1, 2, 3))
        clean = self.scores(adversary, position, 0, None)
        flagged = self.scores(adversary, position, 0, adversary)
        common = {"split": "test", "model": "resnet32", "exhibit": "fig2-left", **adversary.columns()}
        yield self.accuracy_under(adversary).row("predictive_accuracy", **common)
        yield evaluation.proportion(int((~changed).sum()), len(changed)).row("unchanged_images", **common)
        common |= {"detector": "static", "position": position, "fit_attack": adversary.attack, "fit_eps": adversary.eps}
        held_out = self.scores(adversary, position, 0, None, "validation")
        for suffix, score in (("", flagged), ("_successful", flagged[success])):
            yield evaluation.detectability(clean, score).row(f"detectability{suffix}", **common)
            yield evaluation.auc(clean, score).row(f"auc{suffix}", **common)
            for percent in (1, 5):
                threshold = float(np.quantile(held_out, 1 - percent / 100, method="higher"))
                yield evaluation.true_positive_rate(score, threshold).row(f"tpr_at_{percent}_fpr{suffix}", **common)

    def depth(self, reference: list[Adversary]) -> Iterator[dict[str, Any]]:
        """Figure 2, right: the same detector attached at every depth, over several seeds."""
        for adversary in reference:
            for position in self.config.depths:
                for seed in range(self.config.depth_seeds):
                    figure = evaluation.detectability(
                        self.scores(adversary, position, seed, None), self.scores(adversary, position, seed, adversary)
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

    def transfer(self, exhibit: str, pairs: list[tuple[Adversary, Adversary]]) -> Iterator[dict[str, Any]]:
        """Figures 3 and 4: a detector trained on one adversary meets another."""
        for fit, test in pairs:
            clean = self.scores(fit, fit.position, 0, None)
            yield evaluation.detectability(clean, self.scores(fit, fit.position, 0, test)).row(
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

    def under_dynamic_adversary(self, kind: str, sigma: float, **finer: Any) -> Iterator[dict[str, Any]]:
        """Figure 5: accuracy of classifier and detector, the latter on clean against successful adversarial images.

        :param finer: attack parameters in place of the report's; the rows are then of the exhibit "check".
        """
        config = self.config
        base = Adversary("bim", config.dynamic_eps)
        detector = self.static_detector(base, 2) if kind == "static" else self.dynamic_detector()
        images = Images(*(a[: config.sigma_images] for a in (self.clean["test"].x, self.clean["test"].y)))
        parameters = {"eps_step": min(STEP["bim"], config.dynamic_eps), "max_iter": ITERATIONS, **finer}
        attack = DynamicDetectorAttack(self.classifier, detector, config.dynamic_eps, sigma=sigma, **parameters)
        adversarial = _generate(attack, images, f"dynamic adversary, {kind} detector, sigma {sigma:g}")
        predicted = self.predicted(adversarial)
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
        yield evaluation.accuracy(predicted, images.y).row("predictive_accuracy", **common)
        yield evaluation.Figure(float(success.sum()), len(success)).row("successes", **common)
        if success.sum() >= config.min_successes:
            clean, flagged = detector.scores(images.x), detector.scores(adversarial[success])
            yield evaluation.detectability(clean, flagged).row("balanced_accuracy", **common)
            yield evaluation.auc(clean, flagged).row("auc", **common)

    def finer_steps(self) -> Iterator[dict[str, Any]]:
        """What breaks figure 5? A step of alpha = eps jumps between corners of the ball; a finer one descends."""
        rows = self.run.results()
        for kind in ("static", "dynamic"):
            seen = rows[(rows.exhibit == "fig5") & (rows.metric == "balanced_accuracy") & (rows.detector == kind)]
            if len(seen):
                worst = float(seen.loc[seen.value.idxmin()].sigma)
                step = self.config.dynamic_eps / 4
                yield from self.under_dynamic_adversary(
                    kind, worst, eps_step=step, max_iter=self.config.check_iterations
                )


def _generate(attack: Any, images: Images, label: str) -> np.ndarray:
    """The attack on all images, 500 at a time so that progress shows."""
    starts = range(0, len(images.x), 500)
    parts = [attack.generate(images.x[i : i + 500], images.y[i : i + 500]) for i in track(starts, label, len(starts))]
    return np.concatenate(parts)
