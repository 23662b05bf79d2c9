"""The materials of ``fgsm_cifar``: the readings of the report, the networks they train and the FGSM images on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from art.attacks.evasion import FastGradientMethod

from advbench import estimators, models
from advbench.data import Images
from advbench.trainers.losses import SoftmaxMSE
from advbench.models.vgg import VGG
from advbench.progress import track
from advbench.report import Attacked, bundle
from advbench.report.explorer import IMAGES
from advbench.study.run import Training
from advbench.seeds import derive
from advbench.study.study import Study
from advbench.trainers import MixedAdversarialTrainer, StaticAdversarialTrainer, WeightedAdversarialTrainer

LARGEST = 0.1
"""The eps of the training images is uniform between 0 and this."""

Loss = Literal["mse", "ce"]


@dataclass(frozen=True)
class Regime:
    """How a network is trained.

    :param kind: ``standard``, ``static`` (FGSM images made once) or ``dynamic`` (made on the current weights).
    :param each: whether every image has an eps of its own; otherwise one is drawn for the whole training.
    :param source: the network on which the static images are made: the standard one, trained, or a fresh one.
    """

    name: str
    kind: Literal["standard", "static", "dynamic"] = "standard"
    each: bool = False
    source: Literal["trained", "untrained"] = "trained"
    model: str = "vgg"

    def stage(self, seed: int) -> str:
        return f"{self.model}-{self.name}".replace(" ", "-") + f"-seed{seed}"


STANDARD = Regime("none")
AVERAGE = Regime("none", model="vgg-average")
READINGS = {
    "V1": Regime("V1", "static", each=True),
    "V2": Regime("V2", "static"),
    "V3": Regime("V3", "static", source="untrained"),
    "V1 dynamic": Regime("V1 dynamic", "dynamic", each=True),
    "V2 dynamic": Regime("V2 dynamic", "dynamic"),
}
"""The report says one thing, its code another, and a stored block of the code a third."""


def train(study: Study, training: tuple[Regime, int]) -> None:
    """One network with Adam; the last epoch stays. An epoch of a static training holds every image twice."""
    regime, seed = training
    config = study.config
    images = study.train.images(slice(config.train_images))
    if regime.kind == "dynamic":
        images = images.first(config.dynamic_images or len(images.y))
    watched = study.test.images(slice(config.watched_images))
    spec = _spec(study, regime.model)

    def run(checkpoint: Path) -> Training:
        module = models.create(spec, derive(seed, "weights"))
        assert isinstance(module, VGG)
        module.to(study.device)
        optimizer = torch.optim.Adam(module.decayed(config.l2), config.lr, fused=True)
        classifier = estimators.classifier(
            module, spec.input_shape, spec.classes, device=study.device, optimizer=optimizer, clip_values=None
        )
        epochs = config.epochs if regime.kind == "standard" else config.defended_epochs

        def watch() -> dict[str, float]:
            predicted = classifier.predict(watched.x, batch_size=500).argmax(1)
            return {"watched_accuracy": float((predicted == watched.y).mean())}

        fitting = {
            "batch_size": config.batch if regime.kind == "standard" else config.defended_batch,
            "nb_epochs": epochs,
            "each_epoch": watch,
            "rate": (lambda time: config.lr * (1 - time / epochs)) if config.decay else None,
            "seed": derive(seed, "batches"),
            "checkpoint": checkpoint,
            "label": regime.stage(seed),
        }
        if regime.kind == "standard":
            standard = WeightedAdversarialTrainer(classifier, [], (1.0,), bfloat16=config.bfloat16)
            history = standard.fit(images.x, images.y, **fitting)
        elif regime.kind == "static":
            direction, eps = training_directions(study, regime.source, seed), drawn_eps(regime, seed, len(images.x))
            static = StaticAdversarialTrainer(classifier, bfloat16=config.bfloat16)
            history = static.fit(images.x, images.y, direction, eps, **fitting)
        else:
            largest = LARGEST if regime.each else float(drawn_eps(regime, seed, 1)[0])
            fgsm = FastGradientMethod(classifier, np.inf, largest)
            dynamic = MixedAdversarialTrainer(classifier, fgsm, random_eps=regime.each, bfloat16=config.bfloat16)
            fitting["batch_size"] = max(config.defended_batch // 2, 1)  # as many again are adversarial
            history = dynamic.fit(images.x, images.y, **fitting)
        return lambda path: models.save(path, module, spec), history

    study.run.trained(regime.stage(seed), run)


def drawn_eps(regime: Regime, seed: int, n: int) -> np.ndarray:
    """The eps of n training images, (N,): one each, or the same for all, which is then that of every such regime."""
    if regime.each:
        return np.random.default_rng(derive(seed, "eps of each image")).uniform(0, LARGEST, n)
    return np.full(n, np.random.default_rng(derive(seed, "one eps")).uniform(0, LARGEST))


def craft(study: Study, seed: int) -> None:
    """Keep the directions of the training images on the trained network, which several readings ask for at once."""
    training_directions(study, "trained", seed)


def training_directions(study: Study, source: Literal["trained", "untrained"], seed: int) -> np.ndarray:
    """sgn of the gradient of the squared error at each training image, int8 (N, C, H, W), memory-mapped."""

    def make() -> dict[str, np.ndarray]:
        spec = _spec(study, "vgg")
        if source == "trained":
            module, _ = models.load(study.run.directory / "models" / f"{STANDARD.stage(seed)}.safetensors")
        else:
            module = models.create(spec, derive(seed, "untrained"))
        classifier = estimators.classifier(
            module, spec.input_shape, spec.classes, device=study.device, clip_values=None, loss=SoftmaxMSE()
        )
        images = study.train.images(slice(study.config.train_images))
        return {"direction": directions(classifier, images, f"FGSM on the {source} network")}

    return study.run.arrays(f"directions-{source}-seed{seed}", make)["direction"]


def directions(classifier: estimators.TorchClassifier, images: Images, label: str) -> np.ndarray:
    """sgn of the loss gradient, int8 (N, C, H, W): x + eps times this is FGSM for every eps, from one gradient."""
    starts = range(0, len(images.x), 500)
    parts = [
        np.sign(classifier.loss_gradient(images.x[i : i + 500], images.y[i : i + 500])).astype(np.int8)
        for i in track(starts, label, len(starts))
    ]
    return np.concatenate(parts)


def _spec(study: Study, model: str) -> models.ModelSpec:
    return models.ModelSpec(model, study.train.x.shape[1:], len(study.train.classes), (0.0,), (1.0,))


class Laboratory:
    """The trained networks and the test images."""

    def __init__(self, study: Study) -> None:
        self.study, self.run, self.config = study, study.run, study.config
        self.test = study.test.images(slice(study.config.test_images))
        self.classifier = cache(self._classifier)
        self.direction = lru_cache(6)(self._direction)

    def _classifier(
        self, regime: Regime, seed: int, loss: Loss = "ce", clipped: bool = False
    ) -> estimators.TorchClassifier:
        """A trained network that attacks with a loss; they leave [0, 1], as in the report, unless ``clipped``."""
        module, spec = models.load(self.run.directory / "models" / f"{regime.stage(seed)}.safetensors")
        return estimators.classifier(
            module,
            spec.input_shape,
            spec.classes,
            device=self.study.device,
            clip_values=(0.0, 1.0) if clipped else None,
            loss=SoftmaxMSE() if loss == "mse" else None,
        )

    def _direction(self, regime: Regime, seed: int, loss: Loss) -> np.ndarray:
        return directions(self.classifier(regime, seed, loss), self.test, f"FGSM, {loss}, on {regime.stage(seed)}")

    def attacked(self, regime: Regime, seed: int, loss: Loss, eps: float) -> np.ndarray:
        """The test images under FGSM on this network with the true labels, not clipped."""
        return self.test.x + np.float32(eps) * self.direction(regime, seed, loss)

    def logits(self, regime: Regime, seed: int, x: np.ndarray) -> np.ndarray:
        return self.classifier(regime, seed).predict(x, batch_size=500)

    def penalty(self, regime: Regime, seed: int) -> float:
        """What Keras adds to the loss that it reports: l2 times the squared kernels."""
        module = self.classifier(regime, seed).model
        assert isinstance(module, VGG)
        kernels, _ = module.decayed(self.config.l2)
        return self.config.l2 * sum(float(kernel.detach().square().sum()) for kernel in kernels["params"])

    def picture(self, eps: float) -> dict[str, np.ndarray]:
        """The first four test images that are right until FGSM moves them, with its direction and both predictions."""

        def make() -> dict[str, np.ndarray]:
            seed = self.study.seed
            before = self.logits(STANDARD, seed, self.test.x).argmax(1)
            after = self.logits(STANDARD, seed, self.attacked(STANDARD, seed, "mse", eps)).argmax(1)
            fooled = np.flatnonzero((before == self.test.y) & (after != before))
            chosen = (fooled if len(fooled) else np.arange(len(before)))[:4]
            direction = self.direction(STANDARD, seed, "mse")[chosen]
            return {"x": self.test.x[chosen], "direction": direction, "y": before[chosen], "predicted": after[chosen]}

        return self.run.arrays("picture", make)

    def explorer(self, regimes: list[Regime], eps: float) -> dict[str, bytes]:
        """Test images for the page, under FGSM on the standard network and on each network itself."""
        seed, shown, attacked = self.study.seed, self.test.first(IMAGES), []
        for regime in regimes:
            classifier, name = self.classifier(regime, seed), regime.stage(seed)
            for source in dict.fromkeys((STANDARD, regime)):
                direction = directions(self.classifier(source, seed, "mse"), shown, f"FGSM on {source.stage(seed)}")
                made_on = "" if source == regime else " on the standard network"
                x = shown.x + np.float32(eps) * direction
                attacked.append(Attacked(f"fgsm-mse{made_on}", eps, x, classifier, name))
        return bundle(shown.x, shown.y, self.study.test.classes, attacked)
