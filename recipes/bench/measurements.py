"""The measurements of ``bench``: what each contender costs beside the others, and how strong its attack is."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from advbench import evaluate, metrics
from advbench.attacks import ATTACKS
from advbench.detectors import SubnetworkDetector
from advbench.metrics.timing import interleaved
from advbench.recipes.bench.claims import AUTHORS, EVALUATED
from advbench.recipes.bench.config import Bench
from advbench.recipes.bench.contenders import (
    GRADIENTS,
    LIMITS,
    PLAIN,
    STEPS,
    Contenders,
    attackers,
    authors,
    limits,
    own,
    trainings,
)
from advbench.recipes.bench.materials import Attacked
from advbench.study import Rows


def attacks(made: Attacked, name: str) -> Rows:
    """The same attack of every library on images that are classified right, judged by the model itself in float32."""
    config, norm, is_long = made.config, ATTACKS[name].norm, STEPS[name] is None
    eps, n = _budget(config, name)
    images = made.recognised(n)
    columns = {"attack": name, "norm": norm, "eps": eps, "steps": STEPS[name]}
    n, given = len(images.x), (images.x, images.y)
    ours = own(made.classifier, name, eps, config.batch)
    bare = limits(ours, *given, name)
    others = attackers(made.classifier, *given, name, eps, config.batch)
    contenders: Contenders = {library: partial(attack.generate, *given) for library, attack in ours.items()}
    contenders |= bare | others
    # before the clock runs: folding, allocation and the libraries' first calls are not what is measured
    adversarial, needed = {library: attack() for library, attack in (bare | others).items()}, {}
    for library, attack in ours.items():
        with metrics.counted(attack.estimator) as passes:
            adversarial[library] = contenders[library]()
        needed[library] = passes.both / 2 / n
        for metric, number in (("forward_passes", passes.forward), ("backward_passes", passes.backward)):
            yield metrics.Figure(number / n, n).row(metric, **columns, library=library)
    seconds = interleaved(contenders, config.long_repeats if is_long else config.repeats, name)
    yield from _costs(seconds.drop(columns=list(bare)), PLAIN, columns)
    yield from _multiples(seconds, needed, STEPS[name] or GRADIENTS, columns)
    for without_images in (PLAIN, *bare):
        del adversarial[without_images]
    for library, x in adversarial.items():
        of = {**columns, "library": library}
        fooled = made.classifier.predict(x).argmax(1) != images.y
        distance = np.linalg.norm((x - images.x).reshape(n, -1), 2 if norm == "l2" else np.inf, axis=1)
        yield metrics.proportion(int(fooled.sum()), n).row("success_rate", **of)
        yield metrics.Figure(float(np.median(distance)), n).row("median_distance", **of)
        yield metrics.mean(distance).row("mean_distance", **of)


def _budget(config: Bench, name: str) -> tuple[float | None, int]:
    """The bound of an attack, None for DeepFool, and the number of images."""
    if name == "autoattack":
        return config.eps_autoattack, config.autoattack_images
    if not ATTACKS[name].bounded:
        return None, config.deepfool_images
    return (config.eps_l2 if ATTACKS[name].norm == "l2" else config.eps), config.images


def evaluation(made: Attacked) -> Rows:
    """``advbench.evaluate`` with its checks and all its attacks, beside AutoAttack alone by its authors, at the same bounds."""
    config, classifier = made.config, made.classifier
    images = made.study.test.images(slice(config.evaluated_images))
    n, right = len(images.x), classifier.predict(images.x).argmax(1) == images.y
    left: dict[tuple[str, float], int] = {}

    def ours() -> None:
        result = evaluate(classifier, (images.x, images.y), eps=config.eps_evaluated, device=str(classifier.device))
        left.update({(EVALUATED, eps): round(figure.value * n) for eps, figure in result.robust_accuracy.items()})

    def theirs() -> None:
        for eps in config.eps_evaluated:
            adversarial = authors(classifier, images.x, images.y, eps, config.batch)
            left[AUTHORS, eps] = int((right & (classifier.predict(adversarial).argmax(1) == images.y)).sum())

    seconds = interleaved({AUTHORS: theirs, EVALUATED: ours}, 1, "evaluations")
    yield from _costs(seconds, AUTHORS, {"norm": "linf"})
    for (library, eps), count in left.items():
        yield metrics.proportion(count, n).row("robust_accuracy", library=library, norm="linf", eps=eps)


def training(made: Attacked) -> Rows:
    """One epoch on clean images, of the weighted FGSM loss, and of ART's trainer with as many adversarial images."""
    config = made.config
    images = made.study.train.images(slice(config.epoch_images))
    contenders = trainings(made.classifier, images.x, images.y, config.eps, config.batch)
    seconds = interleaved(contenders, config.training_repeats, "training epochs")
    yield from _costs(seconds, "clean epoch", {"attack": "fgsm", "norm": "linf", "eps": config.eps})


def detector(made: Attacked) -> Rows:
    """A later epoch of a static detector at AD(2) against the training of its subnetwork alone."""
    config, device, net = made.config, made.study.device, made.classifier.model
    x = made.study.train.images(slice(config.epoch_images)).x
    labels = np.arange(len(x)) % 2
    subject = SubnetworkDetector(made.classifier, 2)
    fit = partial(subject.fit, x, labels, batch_size=config.batch)
    with torch.no_grad():
        features = torch.cat([net.features(part.to(device), 2) for part in torch.from_numpy(x).split(256)])
    target = torch.from_numpy(labels).to(device)
    contenders: Contenders = {
        "subnetwork alone": partial(_epoch, copy.deepcopy(subject.subnetwork), features, target, config.batch),
        "one epoch": partial(fit, nb_epochs=1),
        "three epochs": partial(fit, nb_epochs=3),
    }
    seconds = interleaved(contenders, config.training_repeats, "detector epochs")
    later = (seconds.pop("three epochs") - seconds.pop("one epoch")) / 2
    yield from _costs(seconds.assign(**{"advbench, later epochs": later}), "subnetwork alone", {"position": 2})


def _epoch(net: nn.Module, features: Tensor, target: Tensor, batch: int) -> None:
    optimizer = torch.optim.Adam(net.train().parameters(), 1e-4, betas=(0.99, 0.999))
    for chosen in torch.randperm(len(target)).split(batch):
        loss = nn.functional.cross_entropy(net(features[chosen]), target[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _costs(seconds: pd.DataFrame, unit: str, columns: dict[str, Any]) -> Rows:
    """Of each contender: the median over the rounds of its seconds over those of every other, smallest and largest too."""
    for library in seconds:
        for other in [unit, *(name for name in seconds if name not in (unit, library))]:
            ratio = seconds[library] / seconds[other]
            costs = {"cost": ratio.median(), "cost_lowest": ratio.min(), "cost_highest": ratio.max()}
            for metric, value in costs.items():
                yield _of_rounds(value, ratio).row(metric, **columns, library=library, source=other)
        yield _of_rounds(seconds[library].median(), seconds).row("seconds", **columns, library=library)


def _multiples(seconds: pd.DataFrame, needed: dict[str, float], steps: int, columns: dict[str, Any]) -> Rows:
    """Of each contender: the median over the rounds of its seconds over those of the bare gradients that are needed.

    :param needed: the gradients an image, one forward and one backward pass each, that the attacks of advbench make.
    :param steps: the gradients an image in the measured limits.
    """
    bare = {library: seconds[limit] / steps for library, limit in LIMITS.items()}
    for limit in LIMITS.values():
        yield _of_rounds(seconds[limit].median(), seconds).row("seconds", **columns, library=limit)
    for library in seconds.drop(columns=list(LIMITS.values())):
        same = library if library in LIMITS else next(iter(LIMITS))
        ratio = seconds[library] / (bare[same] * needed[same])
        yield _of_rounds(ratio.median(), ratio).row("limit", **columns, library=library, source=LIMITS[same])


def _of_rounds(value: float, rounds: pd.DataFrame | pd.Series) -> metrics.Figure:
    return metrics.Figure(value, len(rounds), unit="rounds")
