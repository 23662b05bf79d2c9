"""An evaluation from its options to its page: stage by stage, so that the same command goes on where it stopped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from advbench import attacks, metrics
from advbench.attacks.registry import ATTACKS
from advbench.checkpoint import fingerprint
from advbench.data import find as images
from advbench.data.find import Images
from advbench.data.pixels import Pixels
from advbench.device import resolve_device
from advbench.estimators import TorchClassifier, contract
from advbench.evaluation import detection, exhibits
from advbench.evaluation.battery import Battery, Bounded, battery, fitting
from advbench.evaluation.checking import run_checks
from advbench.evaluation.options import Options, number
from advbench.metrics import still_correct
from advbench.models import find as network
from advbench.progress import log
from advbench.seeds import derive, own_global_state
from advbench.study.config import digest
from advbench.study.execution import computing
from advbench.study.run import Run
from advbench.study.schema import About


def start(
    options: Options, out: Path | None = None, device: str = "auto", seed: int = 0, data_dir: Path | None = None
) -> Run:
    """Evaluate a model to the end, or on from where it was stopped.

    :param out: the run directory, by default one under runs/ that is named after the model.
    :param data_dir: a folder that already holds a named data set.
    :raises UsageError: for a model, weights, data or an option that cannot be used; see the modules of this package.
    :raises DataUnavailable: where a named data set cannot be had.
    """
    wanted = battery(options.attacks, options.norm)
    where = resolve_device(device)
    found = network.find(options.model, options.weights)
    pictures = images.find(options.data, options.shape or found.shape, options.labels, options.n, seed, data_dir)
    mean, std = (options.mean, options.std) if options.mean else (found.mean, found.std)
    module = contract.normalised(found.module, mean, std, pictures.x.shape[1]) if mean else found.module
    classifier, notes = contract.classifier(module, pictures, where)
    detector = detection.load(options.detector, classifier, len(pictures.x)) if options.detector else None
    wanted, left_out = fitting(wanted, classifier.nb_classes)
    notes = [*pictures.notes, *notes, *left_out]
    if mean and not options.mean:
        notes.append(f"normalised as {options.model} was published: mean {_list(mean)}, std {_list(std)}")
    asked: dict[str, Any] = {
        "recipe": "evaluate",
        "preset": options.attacks,
        "dataset": pictures.name,
        "note": "",
        "seed": seed,
        "settings": [],
        "command": options.command(seed),
        "config": {
            **options.model_dump(mode="json"),
            "weights_sha256": fingerprint(module),
            "images_sha256": pictures.fingerprint,
            **({"detector_sha256": fingerprint(detector.subnetwork)} if detector else {}),
        },
    }
    name = re.sub(r"[^A-Za-z0-9]+", "-", Path(options.model).name).strip("-")
    run = Run(out or Path("runs") / f"evaluate-{name}-{digest(asked)}", asked)
    question = f"How robust is {options.model} on {pictures.name}, and did the attacks on it work?"
    with computing(run, About(question=question, command="evaluate"), where):
        log.info(
            "%s on %d images of %s, on %s; results in %s",
            options.model,
            len(pictures.x),
            pictures.name,
            where,
            run.directory,
        )
        for note in notes:
            log.warning("%s", note)
        _compute(run, classifier, pictures, options, wanted, seed, (mean, std))
        if detector:
            joint = partial(
                detection.rows,
                *(run, classifier, detector, pictures),
                *(options.eps, options.norm, options.detector_steps, seed),
            )
            run.rows("detector", joint)
        exhibits.show(run, options.norm, notes)
    return run


def _compute(
    run: Run,
    classifier: TorchClassifier,
    pictures: Images,
    options: Options,
    wanted: Battery,
    seed: int,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]],
) -> None:
    checks = partial(run_checks, classifier, pictures, options, seed, normalisation)
    run.rows("checks", checks)  # first: who is told that the attacks cannot work need not wait for them
    x, y = pictures.x, pictures.y
    clean = run.arrays("clean", partial(_clean, classifier, x, y))["correct"]
    distances = {
        name: run.arrays(name, partial(_distance, classifier, name, x, y, clean))["distance"]
        for name in wanted.distances
    }
    left = {0.0: {"clean": clean}}
    worst = clean
    for eps in options.eps:
        left[eps] = {}
        for step in wanted.bounded:
            stage = f"{step.name}-{number(eps).replace('/', '-of-')}"
            attack = partial(_attack, classifier, step, eps, x, y, worst, derive(seed, stage))
            worst = run.arrays(stage, attack)["correct"]
            left[eps][f"+ {step.label}" if left[eps] else step.label] = worst
            if len(left[eps]) == 1 and (nearest := f"deepfool-{options.norm}") in distances:
                # a perturbation that DeepFool found within eps is one attack more, at no cost
                worst = left[eps]["+ DeepFool"] = worst & (distances[nearest] > eps)
    run.rows("accuracy", partial(_accuracy_rows, left, options.norm))
    run.rows("distance", partial(_distance_rows, distances, clean))


def _clean(classifier: TorchClassifier, x: Pixels, y: np.ndarray) -> dict[str, np.ndarray]:
    """Which images are right as they are."""
    return {"correct": np.concatenate([classifier.predict(x[part]).argmax(1) == y[part] for part in x.parts()])}


def _attack(
    classifier: TorchClassifier, step: Bounded, eps: float, x: Pixels, y: np.ndarray, before: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Which images are still right after an attack on those that were right before it."""
    correct = np.array(before)
    tries = [step.attack(classifier, eps, seed)] * step.restarts
    with own_global_state(seed):
        for todo in x.parts_of(np.flatnonzero(before)):
            *_, correct[todo] = still_correct(classifier, tries, x[todo], y[todo])
    return {"correct": correct}


def _distance(
    classifier: TorchClassifier, name: str, x: Pixels, y: np.ndarray, clean: np.ndarray
) -> dict[str, np.ndarray]:
    """The norm of DeepFool's perturbation of each image: 0 where it was wrong already, infinite where none was found."""
    attack, distance = attacks.create(name, classifier), np.zeros(len(x))
    for part in x.parts():
        images = x[part]
        adversarial = attack.generate(images, y[part])
        delta = (adversarial - images).reshape(len(images), -1)
        size = np.linalg.norm(delta, ord=2 if ATTACKS[name].norm == "l2" else np.inf, axis=1)
        beaten = classifier.predict(adversarial).argmax(1) != y[part]
        distance[part] = np.where(clean[part], np.where(beaten, size, np.inf), 0)
    return {"distance": distance}


def _accuracy_rows(left: dict[float, dict[str, np.ndarray]], norm: str) -> Iterator[dict[str, object]]:
    for eps, steps in left.items():
        for label, mask in steps.items():
            yield metrics.proportion(int(mask.sum()), len(mask)).row(
                "accuracy", exhibit="robustness", attack=label, norm=norm, eps=eps
            )
        *_, worst = steps.values()
        name = "robust_accuracy" if eps else "clean_accuracy"
        yield metrics.proportion(int(worst.sum()), len(worst)).row(name, exhibit="headline", norm=norm, eps=eps)


def _distance_rows(distances: dict[str, np.ndarray], clean: np.ndarray) -> Iterator[dict[str, object]]:
    for name, distance in distances.items():
        right = distance[clean]
        context = {"exhibit": "distance", "attack": name, "norm": ATTACKS[name].norm}
        yield metrics.median(right).row("median_distance", **context)
        finite = distance[np.isfinite(distance)]
        for eps in np.linspace(0, finite.max(initial=0), 41) if len(finite) else ():
            beyond = int((distance > eps).sum())
            yield metrics.proportion(beyond, len(distance)).row("accuracy", eps=float(eps), **context)


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
