"""What a defence is, and the materials of ``compare-defences``: images, networks, defences in use, adversarial images."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from advbench import attacks, estimators, models
from advbench.checkpoint import load_tensors, save_tensors
from advbench.data import Images, split_indices
from advbench.estimators import TorchClassifier
from advbench.models.tapped import TappedModule
from advbench.report import Attacked, bundle
from advbench.seeds import own_global_state
from advbench.study import History, Materials, Study, Training, once

PLAIN = ("clean", "transfer", "fgsm", "pgd")
"""The attacks that do not know the defence."""

ADAPTIVE, WORST = "adaptive", "worst case"

Adversarial = dict[str, np.ndarray]
"""Images by the name of the attack, each of all test images."""


@dataclass(frozen=True)
class Defended:
    """A defence in use.

    :param classifier: decides, with whatever ART puts before or after its network.
    :param network: the target of an attack that does not know the defence.
    :param detector: anything with ``scores(x)``, one number an image, high for adversarial; None for no detector.
    :param threshold: the score above which an image is flagged.
    """

    classifier: PyTorchClassifier
    network: PyTorchClassifier
    detector: Any = None
    threshold: float = np.inf

    def wrong(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether each image (N, C, H, W) is classified wrong, bool (N,)."""
        return self.classifier.predict(np.array(x), batch_size=256).argmax(1) != y

    def flagged(self, x: np.ndarray) -> np.ndarray:
        """Whether each image is taken for adversarial, bool (N,)."""
        return np.zeros(len(x), bool) if self.detector is None else self.detector.scores(x) > self.threshold

    def beaten(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether each image is classified wrong and not flagged, bool (N,)."""
        return self.wrong(x, y) & ~self.flagged(x)


Kind = Literal["none", "preprocessor", "training", "detector"]


class Defence(ABC):
    """One row of the comparison."""

    name: str
    kind: Kind
    library: Literal["art", "advbench"]  # whose class it is
    text: str  # what it does, in a few words
    note: str = ""  # what a reader must know of it
    model: str | None = None  # the registry name of its network, where it is not the network of the study
    trained: bool = False  # whether it has a network that is trained

    def network(self, made: Comparison) -> nn.Module:
        """The module to train, with fresh weights."""
        raise NotImplementedError

    def train(self, made: Comparison, module: Any, checkpoint: Path) -> History | None:
        """Train that module in place; None where ART's class gives no history."""
        raise NotImplementedError

    @abstractmethod
    def defend(self, made: Comparison, module: Any) -> Defended:
        """Put the defence to use, with its trained module, or None where nothing is trained."""

    @abstractmethod
    def adaptive(self, made: Comparison, defended: Defended, eps: float) -> Adversarial:
        """The test images under the attacks that know the defence, within eps."""


class Comparison(Materials[Any]):
    """Defences around one network, and the images that attack them.

    :cvar defences: by name; ``none`` is the undefended network.
    :cvar model: the registry name of that network; by default one for the data set.
    """

    defences: Mapping[str, Defence]
    model: str | None = None

    def __init__(self, study: Study[Any]) -> None:
        super().__init__(study)
        data, config = study.train, self.config
        self.bounds = config.bounds(data.name)
        held_out = min(config.validation_images, len(data) // 4)
        train, validation = split_indices(len(data), held_out, study.seed)
        self.train = data.images(self._some(train, config.train_images))
        self.validation = data.images(validation)
        self.test = study.test.images(self._some(np.arange(len(study.test)), config.test_images))
        model = self.model or ("resnet32" if data.name == "cifar10" else "cnn2")
        shape = data.x.shape[1:]
        self.spec = models.ModelSpec(model, shape, len(data.classes), (0.0,) * shape[0], (1.0,) * shape[0])

    def _some(self, indices: np.ndarray, n: int | None) -> np.ndarray:
        rng = np.random.default_rng(self.study.seed_of("subset", len(indices)))
        return np.sort(rng.permutation(indices)[:n])

    def network(self, classes: int | None = None, model: str | None = None) -> TappedModule:
        """A fresh network; all defences start from the same weights."""
        spec = replace(self.spec, classes=classes or self.spec.classes, name=model or self.spec.name)
        return models.create(spec, self.study.seed_of("network")).to(self.study.device)

    def stock(
        self, module: nn.Module, classes: int | None = None, shape: tuple[int, ...] | None = None, **options: Any
    ) -> PyTorchClassifier:
        """ART's own estimator around a module; options are those of ``estimators.stock``."""
        shape, classes = shape or self.spec.input_shape, classes or self.spec.classes
        return estimators.stock(module, shape, classes, self.study.device, **options)

    def adam(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(module.parameters(), self.config.lr)

    def schedule(self, epochs: int | None = None) -> dict[str, Any]:
        """Batch size and epochs of a training; by default as many epochs as a network has."""
        return {"batch_size": self.config.batch, "nb_epochs": epochs or self.config.epochs}

    def one_hot(self) -> np.ndarray:
        """The labels of the training images as ART's trainers take them (N, classes)."""
        return np.eye(self.spec.classes, dtype=np.float32)[self.train.y]

    @property
    def baseline(self) -> TorchClassifier:
        """The undefended network, which preprocessors and detectors stand around."""
        return self.defended("none").network

    @once
    def defended(self, name: str) -> Defended:
        """A defence in use."""
        defence = self.defences[name]
        if not defence.trained:
            return defence.defend(self, None)
        module = defence.network(self)
        module.load_state_dict(load_tensors(self.weights(name))[0])
        return defence.defend(self, module.to(self.study.device).eval())

    def weights(self, name: str) -> Path:
        """The weights of a defence's network, trained where the run does not have them."""
        defence = self.defences[name]

        def train(checkpoint: Path) -> Training:
            start, module = time.monotonic(), defence.network(self)
            with own_global_state(self.study.seed_of(name)):
                history = defence.train(self, module, checkpoint)
            seconds = round(time.monotonic() - start, 1)
            spec = replace(self.spec, name=defence.model or self.spec.name)
            meta = asdict(spec) if defence.kind in ("none", "training") else {}  # with it, a file loads as a model
            save = partial(save_tensors, tensors=module.state_dict(), meta=meta)
            return save, history or [{"epoch": None, "seconds": seconds}]

        return self.run.trained(f"defence-{name}", train)

    def _on_baseline(self, stage: str, images: Images, eps: float, steps: int, *seed: object) -> np.ndarray:
        def craft() -> Adversarial:
            attack = attacks.create("pgd", self.baseline, eps, max_iter=steps)
            with own_global_state(self.study.seed_of(*seed)):
                return {"x": attack.generate(images.x, images.y)}

        return self.run.arrays(stage, craft)["x"]

    def labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """What detectors learn from: training images and PGD images made of them, labelled 0 and 1 for adversarial."""
        clean, eps, steps = self.train.first(self.config.detector_images), self.bounds.fit_eps, self.config.fit_steps
        adversarial = self._on_baseline("detector-images", clean, eps, steps, "detector images")
        return np.concatenate([clean.x, adversarial]), np.repeat([0, 1], len(clean.x))

    def transferred(self, eps: float) -> np.ndarray:
        """The test images under PGD on the undefended network, the same for every defence."""
        return self._on_baseline(f"transfer-{eps:.4g}", self.test, eps, self.config.pgd_steps, "transfer", eps)

    def beaten(self, name: str, eps: float) -> dict[str, np.ndarray]:
        """For each attack whether it beats each test image, bool (N,); under ``x`` the images of the adaptive attacks.

        A clean image counts as beaten on the same terms. Of several adaptive attacks ``x`` holds the image that won.
        """

        def attack() -> dict[str, np.ndarray]:
            defended, x, y = self.defended(name), self.test.x, self.test.y
            with own_global_state(self.study.seed_of(name, eps)):
                images = {"clean": x, "transfer": self.transferred(eps)}
                for kind in ("fgsm", "pgd"):
                    naive = attacks.create(kind, defended.network, eps, max_iter=self.config.pgd_steps)
                    images[kind] = naive.generate(x, y)
                adaptive = self.defences[name].adaptive(self, defended, eps)
                images |= adaptive
                masks = {kind: defended.beaten(inside(images[kind], x, eps), y) for kind in images}
            best, won = np.array(x), np.zeros(len(x), bool)
            for kind in adaptive:
                take = masks[kind] | ~won
                best[take], won = images[kind][take], won | masks[kind]
            return {**masks, "x": best}

        return self.run.arrays(f"attacked-{name}-{eps:.4g}", attack)

    def evaluated(self, name: str) -> None:
        """Make a defence and attack it within every bound."""
        for eps in self.bounds.eps:
            self.beaten(name, eps)

    def columns_of(self, name: str) -> dict[str, Any]:
        """The columns that all rows of a defence share."""
        defence = self.defences[name]
        return {"model": defence.model or self.spec.name, "defence": name, "library": defence.library}

    def explorer(self) -> dict[str, bytes]:
        """Test images for the page, each defence under its adaptive attack."""
        attacked = []
        for name in self.config.defences:
            defended = self.defended(name)
            for eps in self.bounds.eps:
                x = self.beaten(name, eps)["x"]
                version = Attacked(ADAPTIVE, eps, x, defended.classifier, name, defended.detector, defended.threshold)
                attacked.append(version)
        with own_global_state(self.study.seed_of("explorer")):
            return bundle(self.test.x, self.test.y, self.study.test.classes, attacked)


def inside(images: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    """The images themselves.

    :raises AssertionError: if one is further than eps from its original, or outside [0, 1].
    """
    assert np.abs(images - x).max() <= eps + 1e-5, "an attack left its bound"
    assert images.min() >= 0 and images.max() <= 1, "an attack left [0, 1]"
    return images
