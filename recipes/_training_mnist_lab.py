"""The materials of ``training_mnist``: the three regimes, their trained networks and the FGSM images made on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from art.attacks.evasion import FastGradientMethod

from advbench import attacks, estimators, models
from advbench.data import Images
from advbench.models.lenet import LeNet
from advbench.report import Attacked, bundle
from advbench.runs import Training
from advbench.seeds import derive
from advbench.study import Study
from advbench.trainers import MixedAdversarialTrainer, WeightedAdversarialTrainer


@dataclass(frozen=True)
class Regime:
    """How a network is trained.

    :param kind: ``standard``, ``mixed`` (clean and FGSM images in one batch) or ``weighted`` (alpha = 1/2).
    :param step: the report divides the gradient sum of its mixed batch of 200 by 100, which doubles the step.
    """

    name: str
    kind: str
    step: float = 1

    @property
    def slug(self) -> str:
        return self.name.replace(", ", "-").replace(" ", "-")


REGIMES = (Regime("standard", "standard"), Regime("mixed", "mixed", step=2), Regime("adversarial", "weighted"))


def train(study: Study, training: tuple[Regime, int]) -> None:
    """One network: SGD with momentum 0.9 that is forgotten after each epoch, no selection, the last epoch stays."""
    regime, seed = training
    config = study.config
    images = _training_images(study)
    held_out = study.train.images(slice(len(study.train) - config.validation_images, None))
    spec = models.ModelSpec("lenet", images.x.shape[1:], len(study.train.classes), (0.0,), (1.0,))

    def run(checkpoint: Path) -> Training:
        module = models.create(spec, derive(seed, "lenet"))
        assert isinstance(module, LeNet)
        if config.pipeline == "report":
            module.standardize(torch.from_numpy(study.train.x[: len(images.x)].copy()))
        lr, decay = config.lr * regime.step, config.weight_decay / regime.step  # g + w d, times lr: the gradient alone
        optimizer = torch.optim.SGD(module.parameters(), lr, momentum=0.9, weight_decay=decay)
        clip = None if config.pipeline == "report" else (0.0, 1.0)
        classifier = estimators.classifier(
            module, spec.input_shape, spec.classes, device=study.device, optimizer=optimizer, clip_values=clip
        )

        def each_epoch() -> dict[str, float]:
            optimizer.state.clear()  # the report starts each epoch without momentum
            return _errors(classifier.predict(held_out.x, batch_size=500), held_out.y)

        fgsm = FastGradientMethod(classifier, np.inf, config.eps * module.width)
        trainer = {
            "standard": lambda: WeightedAdversarialTrainer(classifier, [], (1.0,)),
            "mixed": lambda: MixedAdversarialTrainer(classifier, fgsm),
            "weighted": lambda: WeightedAdversarialTrainer(classifier, [fgsm], (0.5, 0.5)),
        }[regime.kind]()
        history = trainer.fit(
            images.x,
            images.y,
            batch_size=config.batch,
            nb_epochs=config.epochs,
            each_epoch=each_epoch,
            seed=derive(seed, "batches"),
            checkpoint=checkpoint,
            label=f"{regime.name}, seed {seed}",
        )
        return lambda path: models.save(path, module, spec), history

    study.run.trained(stage(regime, seed), run)


def stage(regime: Regime, seed: int) -> str:
    return f"{regime.slug}-seed{seed}"


def _training_images(study: Study) -> Images:
    n = len(study.train) - study.config.validation_images
    return study.train.images(slice(min(n, study.config.train_images or n)))


def _errors(logits: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Objective, top-1 and top-5 error of the report's training curves."""
    scores = torch.from_numpy(logits).double()
    labels = torch.from_numpy(y)
    hit = scores.topk(5).indices == labels[:, None]
    return {
        "validation_objective": float(torch.nn.functional.cross_entropy(scores, labels)),
        "validation_top1_error": 1 - float(hit[:, 0].double().mean()),
        "validation_top5_error": 1 - float(hit.any(1).double().mean()),
    }


class Laboratory:
    """The trained networks and what is attacked."""

    def __init__(self, study: Study) -> None:
        self.study, self.run = study, study.run
        self.test = study.test.images(slice(study.config.test_images))
        self.classifier = cache(self._classifier)
        self.fgsm = cache(self._fgsm)

    def _classifier(self, regime: Regime, seed: int, clipped: bool | None = None) -> estimators.TorchClassifier:
        """A trained network; attacks on it leave [0, 1] in the report's pipeline unless ``clipped``."""
        clipped = self.study.config.pipeline == "plain" if clipped is None else clipped
        path = self.run.directory / "models" / f"{stage(regime, seed)}.safetensors"
        module, spec = models.load(path)
        values = (0.0, 1.0) if clipped else None
        return estimators.classifier(
            module, spec.input_shape, spec.classes, device=self.study.device, clip_values=values
        )

    def eps(self, regime: Regime, seed: int) -> float:
        """The eps of the study in pixel units, images in [0, 1]."""
        module = self.classifier(regime, seed).model
        assert isinstance(module, LeNet)
        return self.study.config.eps * module.width

    def explorer(self) -> dict[str, bytes]:
        """Test images for the page, with the FGSM images made on each network of the first seed."""
        seed = self.study.seed
        attacked = [
            Attacked("fgsm", self.eps(r, seed), self.fgsm(r, seed), self.classifier(r, seed), r.name) for r in REGIMES
        ]
        return bundle(self.test.x, self.test.y, self.study.test.classes, attacked)

    def _fgsm(self, regime: Regime, seed: int) -> np.ndarray:
        """The test images attacked on this network with FGSM and the true labels."""
        attack = attacks.create("fgsm", self.classifier(regime, seed), self.eps(regime, seed), batch_size=500)
        return attack.generate(self.test.x, self.test.y)
