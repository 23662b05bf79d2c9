"""The materials of ``compare_defences``: data, the undefended network, every defence made, and the images that attack it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from art.defences.preprocessor.preprocessor import Preprocessor
from art.estimators.classification import PyTorchClassifier
from torch import nn

from advbench import attacks, estimators, metrics, models
from advbench.checkpoint import load_tensors, save_tensors
from advbench.data import split_indices
from advbench.metrics import Figure
from advbench.models.lipschitz import LipschitzCNN
from advbench.models.tapped import TappedModule
from advbench.report import Attacked, bundle
from advbench.study.run import Training
from advbench.seeds import own_global_state
from advbench.study.stages import stage_seconds
from advbench.study.study import Study

PLAIN = ("clean", "transfer", "fgsm", "pgd")
"""The columns that know nothing of the defence."""

ADAPTIVE, WORST = "adaptive", "worst case"

CERTIFIED = 36 / 255
"""The l2 radius at which certificates on CIFAR-10 are usually compared, for images in [0, 1]."""

Attack = Callable[["Laboratory", str, "Defended", float], dict[str, np.ndarray]]
"""(laboratory, name of the defence, the defence, eps) -> images of one attack or several, each of all test images."""


Kind = Literal["none", "preprocessor", "training", "detector"]
Library = Literal["art", "advbench"]

History = list[dict[str, Any]] | None
"""One dict an epoch, where a training has one."""


@dataclass(frozen=True)
class Defended:
    """A defence as it is used.

    :param classifier: decides, whatever ART puts before or after its network included.
    :param network: what is attacked by someone who does not know the defence.
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


@dataclass(frozen=True)
class Defence:
    """One row of the comparison.

    :param library: whose class it is.
    :param says: what it does, in a few words.
    :param defend: puts it to use, given the weights that ``network`` and ``train`` made.
    :param adaptive: the attack that knows it.
    :param network: the module that is trained, with fresh weights; None where nothing is.
    :param train: trains that module in place, given a checkpoint file; returns one dict an epoch, or None.
    :param note: what a reader must know of it.
    :param model: the network that is trained, where it is not that of the study.
    """

    kind: Kind
    library: Library
    says: str
    defend: Callable[[Laboratory, Any], Defended]
    adaptive: Attack
    network: Callable[[Laboratory], nn.Module] | None = None
    train: Callable[[Laboratory, Any, Path], History] | None = None
    note: str = ""
    model: str | None = None


class Laboratory:
    """The materials of the study: each is made once, kept by the run and handed out from there.

    :param defences: the rows of the comparison by name.
    :param model: the network that is defended; by default one for the data set.
    """

    def __init__(self, study: Study, defences: Mapping[str, Defence], model: str | None = None) -> None:
        self.defences = defences
        self.study, self.config, self.run = study, study.config, study.run
        data, config = study.train, study.config
        self.bounds = config.bounds(data.name)
        held_out = min(config.validation_images, len(data) // 4)
        train, validation = split_indices(len(data), held_out, study.seed)
        self.train = data.images(self._some(train, config.train_images))
        self.validation = data.images(validation)
        self.test = study.test.images(self._some(np.arange(len(study.test)), config.test_images))
        name = model or ("resnet32" if data.name == "cifar10" else "cnn2")
        channels = data.x.shape[1]
        mean, std = ((0.0,) * channels, (1.0,) * channels)
        self.spec = models.ModelSpec(name, data.x.shape[1:], len(data.classes), mean, std)
        self.defended = cache(self._defended)

    def _some(self, indices: np.ndarray, n: int | None) -> np.ndarray:
        rng = np.random.default_rng(self.study.seed_of("subset", len(indices)))
        return np.sort(rng.permutation(indices)[:n])

    def network(self, classes: int | None = None, model: str | None = None) -> TappedModule:
        """A fresh network, for all defences with the same weights to start from."""
        spec = replace(self.spec, classes=classes or self.spec.classes, name=model or self.spec.name)
        return models.create(spec, self.study.seed_of("network")).to(self.study.device)

    def classifier(self, module: nn.Module, **optimizer: Any) -> estimators.TorchClassifier:
        """Our ART estimator around a module from images to logits."""
        return estimators.classifier(
            module, self.spec.input_shape, self.spec.classes, device=self.study.device, **optimizer
        )

    def stock(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        loss: nn.Module | None = None,
        classes: int | None = None,
        shape: tuple[int, ...] | None = None,
        preprocessor: Preprocessor | None = None,
    ) -> PyTorchClassifier:
        """ART's own estimator around a module, for ART's own trainers, detectors and preprocessors."""
        device = self.study.device
        wrapped = PyTorchClassifier(
            module,
            loss or nn.CrossEntropyLoss(),
            shape or self.spec.input_shape,
            classes or self.spec.classes,
            optimizer=optimizer,
            clip_values=(0.0, 1.0),
            preprocessing_defences=preprocessor,
            preprocessing=None,
            device_type="cpu" if device.type == "cpu" else "gpu",
        )
        wrapped._device = device  # ART's constructor only knows "the" GPU
        module.to(device).eval()
        return wrapped

    def adam(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(module.parameters(), self.config.lr)

    def one_hot(self, y: np.ndarray) -> np.ndarray:
        return np.eye(self.spec.classes, dtype=np.float32)[y]

    @property
    def undefended(self) -> estimators.TorchClassifier:
        """The network that preprocessors and detectors are put around."""
        return self.defended("none").network

    def _defended(self, name: str) -> Defended:
        defence = self.defences[name]
        if defence.network is None:
            return defence.defend(self, None)
        module = defence.network(self)
        module.load_state_dict(load_tensors(self.weights(name))[0])
        return defence.defend(self, module.to(self.study.device).eval())

    def weights(self, name: str) -> Path:
        """The file of what a defence learned; it learns where that is not kept yet."""
        return self.run.trained(f"defence-{name}", lambda checkpoint: self._trained(name, checkpoint))

    def _trained(self, name: str, checkpoint: Path) -> Training:
        defence, start = self.defences[name], time.monotonic()
        assert defence.network is not None and defence.train is not None
        module = defence.network(self)
        with own_global_state(self.study.seed_of(name)):
            history = defence.train(self, module, checkpoint)
        module.eval()
        seconds = round(time.monotonic() - start, 1)
        spec: dict[str, Any] = {}
        if defence.kind in ("none", "training"):  # with it, a file loads as a model
            spec = asdict(replace(self.spec, name=defence.model or self.spec.name))
        save = partial(save_tensors, tensors=module.state_dict(), meta=spec)
        return save, history or [{"epoch": None, "seconds": seconds}]

    def threshold(self, detector: Any) -> float:
        """The lowest threshold that flags at most the asked share of the clean validation images."""
        scores = detector.scores(self.validation.x)
        return float(np.quantile(scores, 1 - self.config.false_positives, method="higher"))

    def labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """What detectors learn from: training images and PGD's versions of them, and 0 or 1 for adversarial."""
        clean = self.train.first(self.config.detector_images)

        def craft() -> dict[str, np.ndarray]:
            attack = attacks.create("pgd", self.undefended, self.bounds.fit_eps, max_iter=self.config.fit_steps)
            with own_global_state(self.study.seed_of("detector images")):
                return {"x": attack.generate(clean.x, clean.y)}

        adversarial = self.run.arrays("detector-images", craft)["x"]
        return np.concatenate([clean.x, adversarial]), np.repeat([0, 1], len(clean.x))

    def attacked(self, name: str, eps: float) -> dict[str, np.ndarray]:
        """For each attack whether it beats each test image, bool (N,); and under ``x`` the images of the adaptive attacks.

        A clean image counts as beaten on the same terms. Of several adaptive attacks ``x`` holds the image that won.
        """

        def run() -> dict[str, np.ndarray]:
            defended, x, y = self.defended(name), self.test.x, self.test.y
            with own_global_state(self.study.seed_of(name, eps)):
                plain = {
                    "clean": x,
                    "transfer": self.transferred(eps),
                    **{kind: self._blind(kind, defended, eps) for kind in ("fgsm", "pgd")},
                }
                adaptive = self.defences[name].adaptive(self, name, defended, eps)
                masks = {attack: defended.beaten(inside(images, x, eps), y) for attack, images in plain.items()}
                best, won = np.array(x), np.zeros(len(x), bool)
                for attack, images in adaptive.items():
                    masks[attack] = mask = defended.beaten(inside(images, x, eps), y)
                    take = mask | ~won
                    best[take], won = images[take], won | mask
            return {**masks, "x": best}

        return self.run.arrays(f"attacked-{name}-{eps:.4g}", run)

    def _blind(self, kind: str, defended: Defended, eps: float) -> np.ndarray:
        attack = attacks.create(kind, defended.network, eps, max_iter=self.config.pgd_steps)
        return attack.generate(self.test.x, self.test.y)

    def transferred(self, eps: float) -> np.ndarray:
        """PGD on the undefended network, the same images for every defence."""

        def craft() -> dict[str, np.ndarray]:
            attack = attacks.create("pgd", self.undefended, eps, max_iter=self.config.pgd_steps)
            with own_global_state(self.study.seed_of("transfer", eps)):
                return {"x": attack.generate(self.test.x, self.test.y)}

        return self.run.arrays(f"transfer-{eps:.4g}", craft)["x"]

    def accuracies(self, name: str) -> Iterator[dict[str, Any]]:
        """The share of test images that stand: right or, with a detector, flagged; under each attack and under all."""
        for eps in self.bounds.eps:
            masks = {key: mask for key, mask in self.attacked(name, eps).items() if key != "x"}
            adaptive = np.any([mask for key, mask in masks.items() if key not in PLAIN], axis=0)
            joined = {**masks, ADAPTIVE: adaptive, WORST: np.any(list(masks.values()), axis=0)}
            for attack, beaten in joined.items():
                metric = "joint_accuracy" if self.defences[name].kind == "detector" else "accuracy"
                common = {"exhibit": "comparison", "attack": attack, "norm": "linf", "eps": eps}
                yield self._row(name, metric, _share(~beaten), **common)
            gap = metrics.difference(_share(~joined["pgd"]), _share(~adaptive))
            yield self._row(name, "gap", gap, exhibit="gap", norm="linf", eps=eps)

    def certificates(self, name: str) -> Iterator[dict[str, Any]]:
        """Of a network of known Lipschitz constant: the constant, the certified l2 radii, and who is right within one."""
        classifier, images = self.defended(name).classifier, self.test
        if not isinstance(classifier.model, LipschitzCNN):
            return
        bound, logits = classifier.model.lipschitz_bound(), classifier.predict(images.x, batch_size=256)
        radius = metrics.median(metrics.certified_radius(logits, images.y, bound))
        share = metrics.certified_accuracy(logits, images.y, bound, CERTIFIED)
        yield self._row(name, "lipschitz_bound", Figure(bound, 1), exhibit="certificate")
        yield self._row(name, "certified_radius", radius, exhibit="certificate", norm="l2")
        yield self._row(name, "certified_accuracy", share, exhibit="certificate", norm="l2", eps=CERTIFIED)

    def costs(self, name: str) -> Iterator[dict[str, Any]]:
        """Clean accuracy, for which a flagged image counts as lost, false positives, and seconds of training."""
        defended, images = self.defended(name), self.test
        with own_global_state(self.study.seed_of("cost", name)):
            right, flagged = ~defended.wrong(images.x, images.y), defended.flagged(images.x)
        yield self._row(name, "clean_accuracy", _share(right & ~flagged), exhibit="cost")
        if defended.detector is not None:
            yield self._row(name, "false_positives", _share(flagged), exhibit="cost")
        seconds = stage_seconds(self.run.directory).get(f"defence-{name}", 0.0)
        yield self._row(name, "training_seconds", Figure(seconds, 1), exhibit="cost")

    def _row(self, name: str, metric: str, figure: Figure, **context: Any) -> dict[str, Any]:
        library = self.defences[name].library
        model = self.defences[name].model or self.spec.name
        return figure.row(metric, split="test", model=model, defence=name, library=library, **context)

    def explorer(self) -> dict[str, bytes]:
        """Test images for the page, each defence under its adaptive attack."""
        attacked = []
        for name in self.config.defences:
            defended = self.defended(name)
            for eps in self.bounds.eps:
                x = self.attacked(name, eps)["x"]
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


def _share(stands: np.ndarray) -> Figure:
    return metrics.proportion(int(stands.sum()), len(stands))
