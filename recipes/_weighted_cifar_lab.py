"""The materials of ``weighted_cifar``: the losses of the report, the networks they train and the attacks on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import FastGradientMethod

from advbench import attacks, estimators, models
from advbench.attacks import PGD
from advbench.data import Images
from advbench.progress import track
from advbench.report import Attacked, bundle
from advbench.report.explorer import IMAGES
from advbench.study.run import Training
from advbench.seeds import derive, own_global_state
from advbench.study.study import Study
from advbench.trainers import WeightedAdversarialTrainer

TARGET = 4
"""The label that targeted attacks aim at: deer."""

PGA_STEPS = 30

Kind = Literal["standard", "fgsm", "pgd", "several"]


@dataclass(frozen=True)
class Loss:
    """alpha J(x) + (1 - alpha) J(p(x)), p an attack at one eps; several attacks share 1 - alpha equally.

    :param kind: ``standard`` is J(x) alone; ``pgd`` takes PGD in place of FGSM; ``several`` FGSM at every eps of the
        study.
    """

    kind: Kind
    eps: float | None = None
    alpha: float = 1.0

    @property
    def name(self) -> str:
        return "standard" if self.kind == "standard" else f"{self.kind}, alpha {self.alpha:g}"

    def stage(self, seed: int) -> str:
        eps = "" if self.eps is None else f"-eps{self.eps:g}"
        alpha = "" if self.kind == "standard" else f"-alpha{self.alpha:g}"
        return f"{self.kind}{eps}{alpha}-seed{seed}"


STANDARD = Loss("standard")


def train(study: Study, training: tuple[Loss, int]) -> None:
    """One network: SGD with momentum, the last epoch stays. FGSM and PGD on held-out images watch over every epoch."""
    loss, seed = training
    config = study.config
    images = training_images(study)
    held_out = study.train.images(slice(min(config.validation_images, config.watched_images)))
    spec = models.ModelSpec("small-cnn", images.x.shape[1:], len(study.train.classes), (0.0,), (1.0,))

    def run(checkpoint: Path) -> Training:
        module = models.create(spec, derive(seed, "small-cnn")).to(study.device)
        optimizer = torch.optim.SGD(module.parameters(), config.lr, momentum=0.9, fused=True)
        classifier = estimators.classifier(
            module, spec.input_shape, spec.classes, device=study.device, optimizer=optimizer
        )

        def crafted(kind: str, eps: float) -> EvasionAttack:
            if kind == "fgsm":
                return FastGradientMethod(classifier, np.inf, eps)
            return attacks.create("pgd", classifier, eps, max_iter=config.training_pgd_steps, batch_size=config.batch)

        terms = {
            "standard": [],
            "fgsm": [("fgsm", loss.eps)],
            "pgd": [("pgd", loss.eps)],
            "several": [("fgsm", eps) for eps in config.eps],
        }[loss.kind]
        shares = [(1 - loss.alpha) / len(terms)] * len(terms) if terms else []
        watched_eps = loss.eps or config.reference_eps

        def watch() -> dict[str, float]:
            found = {"clean": held_out.x}
            found["fgsm"] = attacks.create("fgsm", classifier, watched_eps).generate(held_out.x, held_out.y)
            pgd = attacks.create("pgd", classifier, watched_eps, max_iter=config.watched_pgd_steps, batch_size=500)
            with own_global_state(derive(seed, "watch")):
                found["pgd"] = pgd.generate(held_out.x, held_out.y)
            return {
                f"watched_{name}": float((classifier.predict(x, batch_size=500).argmax(1) == held_out.y).mean())
                for name, x in found.items()
            }

        trainer = WeightedAdversarialTrainer(
            classifier, [crafted(kind, eps) for kind, eps in terms], (loss.alpha, *shares)
        )
        history = trainer.fit(
            images.x,
            images.y,
            batch_size=config.batch,
            nb_epochs=config.epochs,
            each_epoch=watch,
            seed=derive(seed, "batches"),
            checkpoint=checkpoint,
            label=loss.stage(seed),
        )
        return lambda path: models.save(path, module, spec), history

    study.run.trained(loss.stage(seed), run)


def training_images(study: Study) -> Images:
    """Those after the validation images, as many as are asked for."""
    first, wanted = study.config.validation_images, study.config.train_images
    return study.train.images(slice(first, None if wanted is None else first + wanted))


class Laboratory:
    """The trained networks, the test images and the attacks of the report."""

    def __init__(self, study: Study) -> None:
        self.study, self.run, self.config = study, study.run, study.config
        self.test = study.test.images(slice(study.config.test_images))
        self.classifier = cache(self._classifier)

    def _classifier(self, loss: Loss, seed: int, clipped: bool = True) -> estimators.TorchClassifier:
        module, spec = models.load(self.run.directory / "models" / f"{loss.stage(seed)}.safetensors")
        return estimators.classifier(
            module,
            spec.input_shape,
            spec.classes,
            device=self.study.device,
            clip_values=(0.0, 1.0) if clipped else None,
        )

    def predicted(self, loss: Loss, seed: int, x: np.ndarray) -> np.ndarray:
        return self.classifier(loss, seed).predict(x, batch_size=500).argmax(1)

    def fgsm(
        self,
        loss: Loss,
        seed: int,
        eps: float,
        label: Literal["true", "predicted", "deer"] = "true",
        clipped: bool = True,
        images: Images | None = None,
    ) -> np.ndarray:
        """The test images, or others, under FGSM away from the true or the predicted label, or towards deer."""
        images = images or self.test
        attack = FastGradientMethod(
            self.classifier(loss, seed, clipped), np.inf, eps, targeted=label == "deer", batch_size=500
        )
        return attack.generate(images.x, None if label == "predicted" else self._labels(images, label == "deer"))

    def pga(
        self,
        loss: Loss,
        seed: int,
        eps: float,
        parts: int = 4,
        clipped: bool = True,
        targeted: bool = False,
        images: Images | None = None,
    ) -> np.ndarray:
        """The same under the report's projected gradient ascent: 30 steps of eps / parts, no random start."""
        images = images or self.test
        attack = PGD(
            self.classifier(loss, seed, clipped),
            np.inf,
            eps,
            eps / parts,
            max_iter=PGA_STEPS,
            targeted=targeted,
            batch_size=500,
            verbose=False,
        )
        y = self._labels(images, targeted)
        starts = range(0, len(y), 500)
        label = f"PGA{' to deer' * targeted}, eps {eps:g}, step eps/{parts}, {loss.stage(seed)}"
        return np.concatenate(
            [attack.generate(images.x[i : i + 500], y[i : i + 500]) for i in track(starts, label, len(starts))]
        )

    def under_pga(self, seed: int, eps: float, targeted: bool = False) -> np.ndarray:
        """What the undefended network says of every test image under PGA."""

        def make() -> dict[str, np.ndarray]:
            return {"predicted": self.predicted(STANDARD, seed, self.pga(STANDARD, seed, eps, targeted=targeted))}

        return self.run.arrays(f"pga{'-to-deer' * targeted}-eps{eps:g}-seed{seed}", make)["predicted"]

    def _labels(self, images: Images, targeted: bool) -> np.ndarray:
        labels = np.full(len(images.y), TARGET) if targeted else images.y
        return np.eye(len(self.study.test.classes), dtype=np.float32)[labels]

    def confusion(self) -> dict[str, np.ndarray]:
        """Counts (true class, predicted class) of the standard network, clean, under FGSM and towards deer."""

        def make() -> dict[str, np.ndarray]:
            seed, eps = self.study.seed, self.config.reference_eps
            said = {
                "clean": self.predicted(STANDARD, seed, self.test.x),
                "fgsm": self.predicted(STANDARD, seed, self.fgsm(STANDARD, seed, eps)),
                "pga": self.under_pga(seed, eps),
                "targeted-pga": self.under_pga(seed, eps, targeted=True),
            }
            return {name: self._counts(predicted) for name, predicted in said.items()}

        return self.run.arrays("confusion", make)

    def _counts(self, predicted: np.ndarray) -> np.ndarray:
        classes = len(self.study.test.classes)
        return np.bincount(self.test.y * classes + predicted, minlength=classes**2).reshape(classes, classes)

    def explorer(self, losses: list[Loss]) -> dict[str, bytes]:
        """Test images for the page, under the true-label FGSM and the PGA on each network."""
        seed, shown, attacked = self.study.seed, self.test.first(IMAGES), []
        for loss in losses:
            eps = loss.eps or self.config.reference_eps
            classifier, name = self.classifier(loss, seed), loss.stage(seed)
            attacked.append(Attacked("fgsm", eps, self.fgsm(loss, seed, eps, images=shown), classifier, name))
            attacked.append(Attacked("pga", eps, self.pga(loss, seed, eps, images=shown), classifier, name))
        return bundle(shown.x, shown.y, self.study.test.classes, attacked)
