"""The materials of ``training-mnist``: the regimes, their trained networks and the FGSM images made on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from art.attacks.evasion import FastGradientMethod

from advbench import attacks, metrics, models
from advbench.data import Images
from advbench.estimators import TorchClassifier
from advbench.models.lenet import LeNet
from advbench.models.tapped import TappedModule
from advbench.recipes.training_mnist.config import TrainingMnist
from advbench.report import Attacked, bundle
from advbench.seeds import derive
from advbench.study import History, Materials, Pretrained, Study, once
from advbench.trainers import MixedAdversarialTrainer, WeightedAdversarialTrainer

BATCH = 500


@dataclass(frozen=True)
class Regime:
    """How a network is trained.

    :param kind: ``standard``, ``mixed`` (clean and FGSM images in one batch) or ``weighted`` (alpha = 1/2).
    :param step: the report divides the gradient sum of its mixed batch of 200 by 100, which doubles the step.
    """

    name: str
    kind: Literal["standard", "mixed", "weighted"]
    step: float = 1

    @property
    def label(self) -> str:
        return self.name.replace(", ", "-").replace(" ", "-")

    def stage(self, seed: int) -> str:
        return f"{self.label}-seed{seed}"


REGIMES = (Regime("standard", "standard"), Regime("mixed", "mixed", step=2), Regime("adversarial", "weighted"))

DOUBLE_STEP = Regime("adversarial, double step", "weighted", step=2)
"""Is "mixed beats adversarial" only the report's double step? Mixed over the mean of its batch *is* adversarial at
alpha = 1/2 where a network has no batch norm, so one more training answers."""


class Networks(Materials[TrainingMnist]):
    """The trained networks and the test images."""

    columns = {"split": "test", "model": "lenet"}

    def __init__(self, study: Study[TrainingMnist]) -> None:
        super().__init__(study)
        self.test = study.test.images(slice(study.config.test_images))

    def network(self, regime: Regime, seed: int) -> str:
        """The stage of a training: SGD with momentum 0.9 that is forgotten after each epoch; the last epoch is kept."""
        config, data = self.config, self.study.train
        n = len(data) - config.validation_images
        images, held_out = data.images(slice(min(n, config.train_images or n))), data.images(slice(n, None))
        spec = models.ModelSpec("lenet", images.x.shape[1:], len(data.classes), (0.0,), (1.0,))
        stage = regime.stage(seed)

        def train(module: TappedModule, checkpoint: Path) -> History:
            assert isinstance(module, LeNet)
            if config.pipeline == "report":
                module.standardize(torch.from_numpy(data.x[: len(images.x)].copy()))
            # g + w d, times lr: the doubled step is of the gradient alone
            lr, decay = config.lr * regime.step, config.weight_decay / regime.step
            optimizer = torch.optim.SGD(module.parameters(), lr, momentum=0.9, weight_decay=decay)
            clip = None if config.pipeline == "report" else (0.0, 1.0)
            classifier = self.wrapped(module, spec, optimizer=optimizer, clip_values=clip)

            def each_epoch() -> dict[str, float]:
                optimizer.state.clear()  # the report starts each epoch without momentum
                return _errors(classifier.predict(held_out.x, batch_size=BATCH), held_out.y)

            return self._trainer(regime, classifier, config.eps * module.width).fit(
                images.x,
                images.y,
                batch_size=config.batch,
                nb_epochs=config.epochs,
                each_epoch=each_epoch,
                seed=derive(seed, "batches"),
                checkpoint=checkpoint,
                label=f"{regime.name}, seed {seed}",
            )

        self.trained(stage, spec, derive(seed, "lenet"), train, training=regime.label, seed=seed)
        return stage

    def _trainer(self, regime: Regime, classifier: TorchClassifier, eps: float) -> WeightedAdversarialTrainer:
        fgsm = FastGradientMethod(classifier, np.inf, eps)
        if regime.kind == "standard":
            return WeightedAdversarialTrainer(classifier, [], (1.0,))
        if regime.kind == "mixed":
            return MixedAdversarialTrainer(classifier, fgsm)
        return WeightedAdversarialTrainer(classifier, [fgsm], (0.5, 0.5))

    @once
    def classifier(self, regime: Regime, seed: int, clipped: bool | None = None) -> TorchClassifier:
        """A trained network; attacks on it leave [0, 1] in the report's pipeline unless ``clipped``."""
        clipped = self.config.pipeline == "plain" if clipped is None else clipped
        return self.loaded(self.network(regime, seed), clip_values=(0.0, 1.0) if clipped else None)

    def logits(self, regime: Regime, seed: int, x: np.ndarray) -> np.ndarray:
        return self.classifier(regime, seed).predict(x, batch_size=BATCH)

    def eps(self, regime: Regime, seed: int) -> float:
        """The eps of the study in pixel units, images in [0, 1]."""
        module = self.classifier(regime, seed).model
        assert isinstance(module, LeNet)
        return self.config.eps * module.width

    @once
    def fgsm(self, regime: Regime, seed: int) -> np.ndarray:
        """The test images under FGSM on this network, with the true labels."""
        attack = attacks.create("fgsm", self.classifier(regime, seed), self.eps(regime, seed), batch_size=BATCH)
        return attack.generate(self.test.x, self.test.y)

    def strong_images(self) -> Images:
        return self.test.first(self.config.strong_images)

    def explorer(self) -> dict[str, bytes]:
        """Test images for the page, with the FGSM images made on each network of the first seed."""
        seed = self.study.seed
        attacked = [
            Attacked("fgsm", self.eps(r, seed), self.fgsm(r, seed), self.classifier(r, seed), r.name) for r in REGIMES
        ]
        return bundle(self.test.x, self.test.y, self.study.test.classes, attacked)


def _errors(logits: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Objective, top-1 and top-5 error of the report's training curves."""
    hit = torch.from_numpy(logits).double().topk(5).indices == torch.from_numpy(y)[:, None]
    return {
        "validation_objective": float(metrics.cross_entropy(logits, y).mean()),
        "validation_top1_error": 1 - float(hit[:, 0].double().mean()),
        "validation_top5_error": 1 - float(hit.any(1).double().mean()),
    }


PRETRAINED = Pretrained(
    base=tuple(regime.stage(0) for regime in REGIMES),
    training=("pipeline", "eps", "train_images", "validation_images", "epochs", "batch", "lr", "weight_decay", "seeds"),
    quick={"test_images": None, "strong_images": 60, "pgd_iterations": 30},
)
