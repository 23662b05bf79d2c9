"""The materials of ``fgsm-cifar``: the readings of the report, the networks they train and the FGSM images on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from art.attacks.evasion import FastGradientMethod

from advbench import models
from advbench.data import Images
from advbench.estimators import TorchClassifier
from advbench.models.tapped import TappedModule
from advbench.models.vgg import VGG
from advbench.recipes.compare_defences.future import FutureDefences
from advbench.recipes.fgsm_cifar.config import PRESETS, FgsmCifar
from advbench.report import Attacked, bundle
from advbench.report.explorer import IMAGES
from advbench.seeds import derive
from advbench.study import History, Materials, Pretrained, Study, in_parts, once
from advbench.trainers import MixedAdversarialTrainer, StaticAdversarialTrainer, WeightedAdversarialTrainer
from advbench.trainers.losses import SoftmaxMSE

BATCH = 500

LARGEST = 0.1
"""The eps of the training images is uniform between 0 and this."""

Loss = Literal["mse", "ce"]
Source = Literal["trained", "untrained"]


@dataclass(frozen=True)
class Regime:
    """How a network is trained.

    :param kind: ``standard``, ``static`` (FGSM images made once) or ``dynamic`` (made on the current weights).
    :param each: whether every image has an eps of its own; otherwise one is drawn for the whole training.
    :param crafted_on: the network on which the static images are made: the standard one, trained, or a fresh one.
    """

    name: str
    kind: Literal["standard", "static", "dynamic"] = "standard"
    each: bool = False
    crafted_on: Source | None = None
    model: str = "vgg"

    @property
    def label(self) -> str:
        return f"{self.model}-{self.name}".replace(" ", "-")

    def stage(self, seed: int) -> str:
        return f"{self.label}-seed{seed}"


STANDARD = Regime("none")
AVERAGE = Regime("none", model="vgg-average")
READINGS = {
    "V1": Regime("V1", "static", each=True, crafted_on="trained"),
    "V2": Regime("V2", "static", crafted_on="trained"),
    "V3": Regime("V3", "static", crafted_on="untrained"),
    "V1 dynamic": Regime("V1 dynamic", "dynamic", each=True),
    "V2 dynamic": Regime("V2 dynamic", "dynamic"),
}
"""The report describes V1, its code does V2, and a stored block of the code V3."""


class Future(FutureDefences):
    """The defences of future work, around the network of this report."""

    model = "vgg"
    undefended = "vgg-none"


def training_eps(regime: Regime, seed: int, n: int, one: float | None = None) -> np.ndarray:
    """The eps of n training images, (N,): one each, or the same for all, which is then that of every such regime.

    :param one: what the same for all is; by default it is drawn.
    """
    if regime.each:
        return np.random.default_rng(derive(seed, "eps of each image")).uniform(0, LARGEST, n)
    return np.full(n, np.random.default_rng(derive(seed, "one eps")).uniform(0, LARGEST) if one is None else one)


def directions(classifier: TorchClassifier, images: Images, label: str) -> np.ndarray:
    """sgn of the loss gradient, int8 (N, C, H, W): x + eps times this is FGSM for every eps, from one gradient."""

    def of_part(part: slice) -> np.ndarray:
        return np.sign(classifier.loss_gradient(images.x[part], images.y[part])).astype(np.int8)

    return in_parts(of_part, len(images.x), label)


class Networks(Materials[FgsmCifar]):
    """The trained networks, the test images and FGSM on them."""

    def __init__(self, study: Study[FgsmCifar]) -> None:
        super().__init__(study)
        self.test = study.test.images(slice(study.config.test_images))

    def has(self, regime: Regime) -> bool:
        """Whether the study has the network of a regime, in each seed."""
        seed = self.study.seed
        return all(self.available(regime.stage(seed + i)) for i in range(self.config.seeds))

    def _spec(self, model: str) -> models.ModelSpec:
        data = self.study.train
        return models.ModelSpec(model, data.x.shape[1:], len(data.classes), (0.0,), (1.0,))

    def _train_images(self) -> Images:
        return self.study.train.images(slice(self.config.train_images))

    def network(self, regime: Regime, seed: int) -> str:
        """The stage of a training: Adam, the last epoch is kept. An epoch of a static training holds every image twice."""
        config, spec, stage = self.config, self._spec(regime.model), regime.stage(seed)
        epochs = config.epochs if regime.kind == "standard" else config.defended_epochs
        # a dynamic training adds as many adversarial images to each batch
        batch = {"standard": config.batch, "static": config.defended_batch, "dynamic": config.defended_batch // 2 or 1}

        def train(module: TappedModule, checkpoint: Path) -> History:
            assert isinstance(module, VGG)
            optimizer = torch.optim.Adam(module.decayed(config.l2), config.lr, fused=True)
            classifier = self.wrapped(module, spec, optimizer=optimizer, clip_values=None)
            watched = self.study.test.images(slice(config.watched_images))

            def each_epoch() -> dict[str, float]:
                predicted = classifier.predict(watched.x, batch_size=BATCH).argmax(1)
                return {"watched_accuracy": float((predicted == watched.y).mean())}

            return self._fit(regime, seed, classifier)(
                batch_size=batch[regime.kind],
                nb_epochs=epochs,
                each_epoch=each_epoch,
                rate=(lambda time: config.lr * (1 - time / epochs)) if config.decay else None,
                seed=derive(seed, "batches"),
                checkpoint=checkpoint,
                label=stage,
            )

        self.trained(stage, spec, derive(seed, "weights"), train, training=regime.label, seed=seed)
        return stage

    def _fit(self, regime: Regime, seed: int, classifier: TorchClassifier) -> Callable[..., History]:
        """The ``fit`` of the regime's trainer with its images."""
        images, bfloat16, one = self._train_images(), self.config.bfloat16, self.config.one_eps
        if regime.kind == "standard":
            return partial(
                WeightedAdversarialTrainer(classifier, [], (1.0,), bfloat16=bfloat16).fit, images.x, images.y
            )
        if regime.crafted_on:
            direction = self.training_directions(regime.crafted_on, seed)
            eps = training_eps(regime, seed, len(images.x), one)
            return partial(StaticAdversarialTrainer(classifier, bfloat16).fit, images.x, images.y, direction, eps)
        images = images.first(self.config.dynamic_images or len(images.y))
        largest = LARGEST if regime.each else float(training_eps(regime, seed, 1, one)[0])
        attack = FastGradientMethod(classifier, np.inf, largest)
        return partial(MixedAdversarialTrainer(classifier, attack, regime.each, bfloat16).fit, images.x, images.y)

    def training_directions(self, source: Source, seed: int) -> np.ndarray:
        """sgn of the gradient of the squared error at each training image, int8 (N, C, H, W), memory-mapped."""

        def make() -> dict[str, np.ndarray]:
            if source == "trained":
                classifier = self.classifier(STANDARD, seed, "mse")
            else:
                spec = self._spec("vgg")
                module = models.create(spec, derive(seed, "untrained"))
                classifier = self.wrapped(module, spec, clip_values=None, loss=SoftmaxMSE())
            return {"direction": directions(classifier, self._train_images(), f"FGSM on the {source} network")}

        return self.run.arrays(f"directions-{source}-seed{seed}", make)["direction"]

    @once
    def classifier(self, regime: Regime, seed: int, loss: Loss = "ce", clipped: bool = False) -> TorchClassifier:
        """A trained network that attacks with a loss; attacks on it leave [0, 1], as in the report, unless ``clipped``."""
        clip, squared = (0.0, 1.0) if clipped else None, SoftmaxMSE() if loss == "mse" else None
        return self.loaded(self.network(regime, seed), clip_values=clip, loss=squared)

    @once
    def direction(self, regime: Regime, seed: int, loss: Loss) -> np.ndarray:
        """sgn of the loss gradient at each test image, int8 (N, C, H, W)."""
        return directions(self.classifier(regime, seed, loss), self.test, f"FGSM, {loss}, on {regime.stage(seed)}")

    def fgsm(self, regime: Regime, seed: int, loss: Loss, eps: float) -> np.ndarray:
        """The test images under FGSM on this network with the true labels, not clipped."""
        return self.test.x + np.float32(eps) * self.direction(regime, seed, loss)

    def logits(self, regime: Regime, seed: int, x: np.ndarray) -> np.ndarray:
        classifier = self.classifier(regime, seed)
        return in_parts(
            lambda part: classifier.predict(x[part], batch_size=BATCH), len(x), f"predictions of {regime.stage(seed)}"
        )

    @once
    def under_fgsm(self, regime: Regime, seed: int, source: Regime, loss: Loss, eps: float) -> np.ndarray:
        """A network's logits on the test images under FGSM on the network of a source."""
        return self.logits(regime, seed, self.fgsm(source, seed, loss, eps))

    def penalty(self, regime: Regime, seed: int) -> float:
        """What Keras adds to the loss that it reports: l2 times the squared kernels."""
        module = self.classifier(regime, seed).model
        assert isinstance(module, VGG)
        kernels, _ = module.decayed(self.config.l2)
        return self.config.l2 * sum(float(kernel.detach().square().sum()) for kernel in kernels["params"])

    def nearest_eps(self, eps: float) -> float:
        """The eps of the study that is nearest to this one."""
        return min(self.config.eps, key=lambda known: abs(known - eps))

    def picture(self, eps: float) -> dict[str, np.ndarray]:
        """The first four test images that FGSM moves from the right label, with its direction and both predictions."""

        def make() -> dict[str, np.ndarray]:
            seed = self.study.seed
            before = self.logits(STANDARD, seed, self.test.x).argmax(1)
            after = self.under_fgsm(STANDARD, seed, STANDARD, "mse", eps).argmax(1)
            fooled = np.flatnonzero((before == self.test.y) & (after != before))
            chosen = (fooled if len(fooled) else np.arange(len(before)))[:4]
            direction = self.direction(STANDARD, seed, "mse")[chosen]
            return {"x": self.test.x[chosen], "direction": direction, "y": before[chosen], "predicted": after[chosen]}

        return self.run.arrays("picture", make)

    def explorer(self, regimes: Sequence[Regime]) -> dict[str, bytes]:
        """Test images for the page, under FGSM on the standard network and on each network itself."""
        seed, eps, shown, attacked = self.study.seed, self.nearest_eps(0.01), self.test.first(IMAGES), []
        for regime in regimes:
            classifier, name = self.classifier(regime, seed), regime.stage(seed)
            for source in dict.fromkeys((STANDARD, regime)):
                direction = directions(self.classifier(source, seed, "mse"), shown, f"FGSM on {source.stage(seed)}")
                attack = "fgsm-mse" if source == regime else "fgsm-mse on the standard network"
                attacked.append(Attacked(attack, eps, shown.x + np.float32(eps) * direction, classifier, name))
        return bundle(shown.x, shown.y, self.study.test.classes, attacked)


PRETRAINED = Pretrained(
    base=(STANDARD.stage(0),),
    training=(
        *("train_images", "epochs", "defended_epochs", "batch", "defended_batch", "lr", "decay", "l2", "bfloat16"),
        *("dynamic_images", "one_eps", "pooling", "seeds"),
    ),
    beyond_base=("defended_epochs", "defended_batch", "dynamic_images", "one_eps"),
    quick={
        "pooling": False,
        "test_images": 600,
        "readings": ("V1", "V2", "V3", "V1 dynamic"),
        "strong_images": 100,
        "pgd_iterations": 20,
        # those that train nothing: other networks would need hours
        "future": PRESETS["quick"].future.quicker(defences=("none", "jpeg-compression"), test_images=60),
    },
)
