"""The materials of ``weighted-cifar``: the losses of the report, the networks they train and the attacks on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import FastGradientMethod
from sklearn.metrics import confusion_matrix

from advbench import attacks, models
from advbench.attacks import PGD
from advbench.data import Images
from advbench.estimators import TorchClassifier
from advbench.models.tapped import TappedModule
from advbench.recipes.compare_defences.future import FutureDefences
from advbench.recipes.weighted_cifar.config import PRESETS, WeightedCifar
from advbench.report import Attacked, bundle
from advbench.report.explorer import IMAGES
from advbench.seeds import derive, own_global_state
from advbench.study import History, Materials, Pretrained, Study, once
from advbench.trainers import WeightedAdversarialTrainer

TARGET = 4
"""The label that targeted attacks aim at: deer."""

PGA_STEPS = 30
BATCH = 500

Label = Literal["true", "predicted", "deer"]


@dataclass(frozen=True)
class Loss:
    """alpha J(x) + (1 - alpha) J(p(x)), p an attack at one eps; several attacks share 1 - alpha equally.

    :param kind: ``standard`` is J(x) alone; ``pgd`` takes PGD in place of FGSM; ``several`` FGSM at every eps of the
        study; ``fixed`` FGSM on the undefended network, once, not on the current weights.
    """

    kind: Literal["standard", "fgsm", "pgd", "several", "fixed"]
    eps: float | None = None
    alpha: float = 1.0

    @property
    def label(self) -> str:
        eps = "" if self.eps is None else f"-eps{self.eps:g}"
        alpha = "" if self.kind == "standard" else f"-alpha{self.alpha:g}"
        return f"{self.kind}{eps}{alpha}"

    def stage(self, seed: int) -> str:
        return f"{self.label}-seed{seed}"


STANDARD = Loss("standard")


def fgsm(classifier: TorchClassifier, images: Images, eps: float, label: Label = "true") -> np.ndarray:
    """Images under FGSM, away from the true or the predicted label, or towards deer."""
    labels = {"true": images.y, "predicted": None, "deer": np.full_like(images.y, TARGET)}
    attack = FastGradientMethod(classifier, np.inf, eps, targeted=label == "deer", batch_size=BATCH)
    return attack.generate(images.x, labels[label])


class Future(FutureDefences):
    """The defences of future work, around the network of this report."""

    model = "small-cnn"
    undefended = "standard"


class Networks(Materials[WeightedCifar]):
    """The trained networks, the test images, and what the undefended network predicts of them under attack."""

    columns = {"split": "test", "model": "small-cnn"}

    def __init__(self, study: Study[WeightedCifar]) -> None:
        super().__init__(study)
        self.test = study.test.images(slice(study.config.test_images))

    def has(self, loss: Loss) -> bool:
        """Whether the study has the network of a loss, in each seed."""
        if loss != STANDARD and not self.config.defended:
            return False
        return all(self.available(loss.stage(self.study.seed + i)) for i in range(self.config.seeds))

    def network(self, loss: Loss, seed: int) -> str:
        """The stage of a training: SGD with momentum, the last epoch is kept.

        After each epoch the network is tested on validation images: clean, under FGSM and under PGD.
        """
        config, data, stage = self.config, self.study.train, loss.stage(seed)
        spec = models.ModelSpec("small-cnn", data.x.shape[1:], len(data.classes), (0.0,), (1.0,))

        def train(module: TappedModule, checkpoint: Path) -> History:
            first = config.validation_images
            images = data.images(slice(first, None if config.train_images is None else first + config.train_images))
            watched = data.images(slice(min(first, config.watched_images)))
            optimizer = torch.optim.SGD(module.parameters(), config.lr, momentum=0.9, fused=True)
            classifier = self.wrapped(module, spec, optimizer=optimizer)
            crafted = self._training_attacks(loss, classifier)
            weights = [loss.alpha, *((1 - loss.alpha) / len(crafted) for _ in crafted)] if crafted else [1.0]
            return WeightedAdversarialTrainer(classifier, crafted, weights).fit(
                self.moved(loss, seed, images) if loss.kind == "fixed" else images.x,
                images.y,
                batch_size=config.batch,
                nb_epochs=config.epochs,
                each_epoch=lambda: self._watched(classifier, watched, loss.eps or config.reference_eps, seed),
                rate=(lambda time: config.lr * (1 - time / config.epochs)) if config.decay else None,
                seed=derive(seed, "batches"),
                checkpoint=checkpoint,
                label=stage,
            )

        columns = {"training": loss.label, "defence": loss.kind, "fit_eps": loss.eps, "alpha": loss.alpha}
        self.trained(stage, spec, derive(seed, "small-cnn"), train, **columns, seed=seed)
        return stage

    def _training_attacks(self, loss: Loss, classifier: TorchClassifier) -> list[EvasionAttack]:
        steps, batch = self.config.training_pgd_steps, self.config.batch
        if loss.kind == "pgd":
            return [attacks.create("pgd", classifier, loss.eps, max_iter=steps, batch_size=batch)]
        bounds = {"standard": (), "fixed": (), "fgsm": (loss.eps,), "several": self.config.eps}[loss.kind]
        return [FastGradientMethod(classifier, np.inf, eps) for eps in bounds]

    def _watched(self, classifier: TorchClassifier, images: Images, eps: float, seed: int) -> dict[str, float]:
        steps = self.config.watched_pgd_steps
        fgsm = attacks.create("fgsm", classifier, eps)
        pgd = attacks.create("pgd", classifier, eps, max_iter=steps, batch_size=BATCH)
        with own_global_state(derive(seed, "watch")):
            under_pgd = pgd.generate(images.x, images.y)
        shown = {"clean": images.x, "fgsm": fgsm.generate(images.x, images.y), "pgd": under_pgd}
        return {
            f"watched_{name}": float((classifier.predict(x, batch_size=BATCH).argmax(1) == images.y).mean())
            for name, x in shown.items()
        }

    def attack_eps(self, loss: Loss) -> tuple[float, ...]:
        """The eps at which a network is attacked: that of its training, or all of the study where it knows several."""
        return self.config.eps if loss.kind == "several" else (loss.eps or self.config.reference_eps,)

    @once
    def classifier(self, loss: Loss, seed: int, clipped: bool = True) -> TorchClassifier:
        """A trained network; attacks on it leave [0, 1] unless ``clipped``."""
        return self.loaded(self.network(loss, seed), clip_values=(0.0, 1.0) if clipped else None)

    def moved(self, loss: Loss, seed: int, images: Images) -> np.ndarray:
        """Images under FGSM on the undefended network, at the eps of a loss."""
        assert loss.eps is not None
        return fgsm(self.classifier(STANDARD, seed), images, loss.eps)

    def predicted(self, loss: Loss, seed: int, x: np.ndarray) -> np.ndarray:
        return self.classifier(loss, seed).predict(x, batch_size=BATCH).argmax(1)

    def pga(
        self, classifier: TorchClassifier, images: Images, eps: float, parts: int = 4, targeted: bool = False
    ) -> np.ndarray:
        """Images under the report's projected gradient ascent: 30 steps of eps / parts, no random start.

        :param targeted: towards deer, in place of away from the true label.
        """
        options = {"max_iter": PGA_STEPS, "targeted": targeted, "batch_size": BATCH, "verbose": False}
        attack = PGD(classifier, np.inf, eps, eps / parts, **options)
        towards = np.full_like(images.y, TARGET) if targeted else None
        return self.attacked(attack, images, f"{'PGD to deer' if targeted else 'PGA'}, eps {eps:g}", towards)

    def under_pga(self, seed: int, eps: float, targeted: bool = False) -> np.ndarray:
        """The labels (N,) that the undefended network predicts for the test images under PGA."""

        def make() -> dict[str, np.ndarray]:
            x = self.pga(self.classifier(STANDARD, seed), self.test, eps, targeted=targeted)
            return {"predicted": self.predicted(STANDARD, seed, x)}

        attack = "pga-to-deer" if targeted else "pga"
        return self.run.arrays(f"{attack}-eps{eps:g}-seed{seed}", make)["predicted"]

    def confusion(self) -> dict[str, np.ndarray]:
        """Counts (true class, predicted class) of the undefended network, clean and under each attack; first seed."""

        def make() -> dict[str, np.ndarray]:
            seed, eps, classes = self.study.seed, self.config.reference_eps, range(len(self.study.test.classes))
            x = fgsm(self.classifier(STANDARD, seed), self.test, eps)
            predicted = {
                "clean": self.predicted(STANDARD, seed, self.test.x),
                "fgsm": self.predicted(STANDARD, seed, x),
                "pga": self.under_pga(seed, eps),
                "targeted-pga": self.under_pga(seed, eps, targeted=True),
            }
            return {name: confusion_matrix(self.test.y, found, labels=classes) for name, found in predicted.items()}

        return self.run.arrays("confusion", make)

    def explorer(self, losses: Sequence[Loss]) -> dict[str, bytes]:
        """Test images for the page, under the true-label FGSM and the PGA on each network."""
        seed, shown, attacked = self.study.seed, self.test.first(IMAGES), []
        for loss in losses:
            (eps,), classifier, name = self.attack_eps(loss), self.classifier(loss, seed), loss.stage(seed)
            attacked.append(Attacked("fgsm", eps, fgsm(classifier, shown, eps), classifier, name))
            attacked.append(Attacked("pga", eps, self.pga(classifier, shown, eps), classifier, name))
        return bundle(shown.x, shown.y, self.study.test.classes, attacked)


PRETRAINED = Pretrained(
    base=(STANDARD.stage(0),),
    training=(
        *("train_images", "validation_images", "watched_images", "watched_pgd_steps", "epochs", "batch", "lr", "decay"),
        *("training_pgd_steps", "several_alpha", "seeds"),
    ),
    quick={
        "test_images": 3000,
        "variant_images": 500,
        "alphas": (0.25, 0.5, 0.75),
        "pgd_eps": (0.01, 0.1),
        "fixed_eps": (0.001, 0.01, 0.1),
        "strong_images": 200,
        # those that train nothing: other networks would need hours
        "future": PRESETS["quick"].future.quicker(defences=("none", "jpeg-compression"), test_images=100),
    },
)
