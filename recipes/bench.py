"""What attacks and trainings cost: ART, foolbox, torchattacks and advbench side by side, as ratios of one run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field, PositiveInt

from advbench import estimators, metrics, models
from advbench.detectors import SubnetworkDetector
from advbench.errors import UsageError
from advbench.metrics.timing import interleaved
from advbench.models.tapped import TappedModule
from advbench.study.registry import Config, Eps, recipe
from advbench.recipes import _bench_exhibits as exhibits
from advbench.recipes._bench_contenders import PLAIN, SETTINGS, Setting, attackers, trainings
from advbench.study.run import Training
from advbench.study.study import Study
from advbench.trainers import Schedule, train_classifier


class Bench(Config):
    """Sizes are numbers of images."""

    model: Path | None = Field(
        None, description="a run directory whose classifier is attacked; null: train a ResNet-32"
    )
    train_images: PositiveInt = 6000
    epochs: PositiveInt = 4
    eps: Eps = 2 / 255
    eps_l2: Eps = 40 / 255
    images: PositiveInt = Field(128, description="attacked with FGSM and PGD")
    deepfool_images: PositiveInt = 64
    epoch_images: PositiveInt = Field(1024, description="of one epoch of training")
    batch: PositiveInt = 128
    repeats: PositiveInt = 5
    deepfool_repeats: PositiveInt = 2
    training_repeats: PositiveInt = 3


PRESETS = {
    "paper": Bench(images=512, deepfool_images=256, epoch_images=4096, train_images=45_000, epochs=26),
    "small": Bench(),
    "quick": Bench(
        train_images=2000,
        epochs=6,
        images=32,
        deepfool_images=8,
        epoch_images=128,
        batch=32,
        repeats=2,
        deepfool_repeats=1,
        training_repeats=1,
    ),
}


@recipe(
    "bench",
    dataset="cifar10",
    embedded_shape=(3, 16, 16),
    presets=PRESETS,
    question="What do attacks and adversarial training cost here and in other libraries, at the same budget and strength?",
)
def bench(study: Study) -> None:
    """One block a question: attacks at a budget, DeepFool, an epoch of adversarial training, an epoch of a detector."""
    run, config = study.run, study.config
    classifier = _classifier(study)
    for name, setting in SETTINGS.items():
        run.rows(name, partial(attack, study, classifier, name, setting))
    run.rows("weighted-epoch", partial(adversarial_training, study, classifier))
    if isinstance(classifier.model, TappedModule):
        run.rows("detector-epoch", partial(detector_training, study, classifier))
    run.rows("targets", lambda: exhibits.targets(run.results()))
    exhibits.show(run, config.repeats)


def _classifier(study: Study) -> estimators.TorchClassifier:
    config, data = study.config, study.train
    if config.model is not None:
        return estimators.load(config.model, "classifier", "exact", str(study.device))

    def train(checkpoint: Path) -> Training:
        n = min(config.train_images, len(data) - 500)
        spec = models.ModelSpec("resnet32", data.x.shape[1:], len(data.classes))
        module = models.create(spec, study.seed_of("classifier"))
        schedule = Schedule(config.epochs, lr=0.1, weight_decay=5e-4, nesterov=True, flip=data.name == "cifar10")
        held_out = data.x[-500:], data.y[-500:]
        seed = study.seed_of("order")
        history = train_classifier(module, (data.x[:n], data.y[:n]), held_out, schedule, seed, study.device, checkpoint)
        return lambda path: models.save(path, module, spec), history

    study.run.trained("classifier", train)
    return estimators.load(study.run.directory, "classifier", "exact", str(study.device))


def attack(
    study: Study, classifier: estimators.TorchClassifier, name: str, setting: Setting
) -> Iterator[dict[str, Any]]:
    """The same attack of every library on correctly classified images, judged by the model itself in float32."""
    config = study.config
    n = config.deepfool_images if setting.deepfool else config.images
    x, y = _correct(study, classifier, n)
    eps = None if setting.deepfool else config.eps_l2 if setting.norm == "l2" else config.eps
    found: dict[str, np.ndarray] = {}
    contenders = attackers(classifier, x, y, setting, eps, config.batch, found)
    for contender in contenders.values() if not setting.deepfool else ():
        contender()  # folding, allocation and the libraries' first calls are not what is measured
    repeats = config.deepfool_repeats if setting.deepfool else config.repeats
    common = {"exhibit": "attacks", "attack": name, "norm": setting.norm, "eps": eps, "model": "resnet32"}
    yield from _costs(interleaved(contenders, repeats, name), PLAIN, common)
    for library, adversarial in found.items():
        fooled = classifier.predict(adversarial).argmax(1) != y
        delta = (adversarial - x).reshape(len(x), -1)
        distance = np.linalg.norm(delta, axis=1) if setting.norm == "l2" else np.abs(delta).max(1)
        yield metrics.proportion(int(fooled.sum()), len(x)).row("success_rate", **common, library=library)
        yield metrics.Figure(float(np.median(distance)), len(x)).row("median_distance", **common, library=library)
        yield metrics.mean(distance).row("mean_distance", **common, library=library)


def adversarial_training(study: Study, classifier: estimators.TorchClassifier) -> Iterator[dict[str, Any]]:
    """One epoch on clean images, of the weighted FGSM loss, and of ART's trainer with as many adversarial images."""
    config = study.config
    images = study.train.images(slice(config.epoch_images))
    contenders = trainings(classifier, images.x, images.y, config.eps, config.batch)
    common = {"exhibit": "training", "attack": "fgsm", "norm": "linf", "eps": config.eps, "model": "resnet32"}
    yield from _costs(interleaved(contenders, config.training_repeats, "training epochs"), "clean epoch", common)


def detector_training(study: Study, classifier: estimators.TorchClassifier) -> Iterator[dict[str, Any]]:
    """A later epoch of a static detector at AD(2) against the training of its subnetwork alone."""
    config = study.config
    x = study.train.images(slice(config.epoch_images)).x
    labels = np.arange(len(x)) % 2
    detector = SubnetworkDetector(classifier, 2)
    fit = partial(detector.fit, x, labels, batch_size=config.batch)
    with torch.no_grad():
        parts = torch.from_numpy(x).split(256)
        features = torch.cat([classifier.model.features(part.to(study.device), 2) for part in parts])
    target = torch.from_numpy(labels).to(study.device)
    contenders: Mapping[str, Callable[[], Any]] = {
        "subnetwork alone": partial(_plain_epoch, copy.deepcopy(detector.subnetwork), features, target, config.batch),
        "one epoch": partial(fit, nb_epochs=1),
        "three epochs": partial(fit, nb_epochs=3),
    }
    seconds = interleaved(contenders, config.training_repeats, "detector epochs")
    seconds["advbench, later epochs"] = (seconds["three epochs"] - seconds["one epoch"]) / 2
    kept = seconds[["subnetwork alone", "advbench, later epochs"]]
    yield from _costs(kept, "subnetwork alone", {"exhibit": "detector", "model": "resnet32", "position": 2})


def _plain_epoch(net: torch.nn.Module, features: torch.Tensor, target: torch.Tensor, batch: int) -> None:
    optimizer = torch.optim.Adam(net.train().parameters(), 1e-4, betas=(0.99, 0.999))
    for chosen in torch.randperm(len(target)).split(batch):
        loss = torch.nn.functional.cross_entropy(net(features[chosen]), target[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _correct(study: Study, classifier: estimators.TorchClassifier, n: int) -> tuple[np.ndarray, np.ndarray]:
    images = study.test.images(slice(4 * n))
    right = np.flatnonzero(classifier.predict(images.x).argmax(1) == images.y)[:n]
    if not len(right):
        raise UsageError(f"the classifier is right about none of {len(images.x)} test images; train it for more epochs")
    return images.x[right], images.y[right]


def _costs(seconds: pd.DataFrame, unit: str, common: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of each contender: the median over the rounds of its seconds over those of every other, smallest and largest too."""
    for library in seconds:
        for other in [unit, *(name for name in seconds if name not in (unit, library))]:
            ratio = seconds[library] / seconds[other]
            for metric, value in (
                ("cost", ratio.median()),
                ("cost_lowest", ratio.min()),
                ("cost_highest", ratio.max()),
            ):
                yield metrics.Figure(value, len(ratio)).row(metric, **common, library=library, source=other)
        yield metrics.Figure(seconds[library].median(), len(seconds)).row("seconds", **common, library=library)
