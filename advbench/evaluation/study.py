"""An evaluation from its options to its results, stage by stage: the same command goes on where it stopped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from advbench import attacks, metrics
from advbench.attacks.registry import ATTACKS
from advbench.checkpoint import fingerprint
from advbench.data import find as images
from advbench.data.find import Images
from advbench.device import resolve_device
from advbench.errors import UsageError
from advbench.estimators import TorchClassifier, contract
from advbench.evaluation import detection, exhibits, identity, labels
from advbench.evaluation.battery import Battery, Bounded, battery, fitting
from advbench.evaluation.checking import run_checks
from advbench.evaluation.options import Options, stage_at
from advbench.evaluation.subject import Subject
from advbench.metrics import sanity, still_correct
from advbench.models import find as network
from advbench.progress import log
from advbench.seeds import derive, own_global_state
from advbench.study.config import digest
from advbench.study.execution import computing
from advbench.study.run import Run
from advbench.study.schema import About

_SQUARE = "+ Square"

Correct = dict[str, np.ndarray]
"""Which images are right, bool (N,), by the attacks so far."""


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
    if options.shape not in (None, pictures.x.shape[1:]):
        raise UsageError(
            f"--shape {_size(options.shape)}: {options.data} holds images of shape {_size(pictures.x.shape[1:])}"
        )
    if options.norm == "l2" and (largest := max(options.eps)) >= prod(pictures.x.shape[1:]) ** 0.5:
        raise UsageError(
            f"--eps {largest:g}: within it any image may become any other; for grey levels write {largest:g}/255"
        )
    mean, std = (options.mean, options.std) if options.mean else (found.mean, found.std)
    module = contract.normalised(found.module, mean, std, pictures.x.shape[1]) if mean else found.module
    classifier, notes = contract.classifier(module, pictures, where, options.outputs)
    detector = detection.load(options.detector, classifier, len(pictures.x)) if options.detector else None
    wanted, left_out = fitting(wanted, classifier.nb_classes)
    notes = [*found.notes, *pictures.notes, *notes, *left_out]
    if mean and not options.mean:
        published = [", ".join(f"{value:g}" for value in values) for values in (mean, std)]
        notes.append(f"normalised as {options.model} was published: mean {published[0]}, std {published[1]}")
    config: dict[str, Any] = {
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
            **({"code": own} if (own := identity.code(options.model, found.module)) else {}),
            "images_sha256": pictures.fingerprint,
            **({"detector_sha256": fingerprint(detector.subnetwork)} if detector else {}),
        },
    }
    name = re.sub(r"[^A-Za-z0-9]+", "-", Path(options.model).name).strip("-")
    run = Run(out or Path("runs") / f"evaluate-{name}-{digest(config)}", config)
    question = f"How robust is {options.model} on {pictures.name}, and did the attacks on it work?"
    subject = Subject(classifier, pictures, options, seed, mean, std)
    with computing(run, About(question=question, command="evaluate"), where):
        size, directory = len(pictures.x), run.directory
        log.info("%s on %d images of %s, on %s; results in %s", options.model, size, pictures.name, where, directory)
        identity.probe(run, classifier, pictures, seed)
        clean = run.arrays("clean", partial(_clean, classifier, pictures))
        if "predicted" in clean:  # not in a run of an earlier version
            folders = options.labels or (range(pictures.classes or 0) if Path(options.data).is_dir() else ())
            notes += filter(None, [labels.warning(clean["predicted"], pictures.y, classifier.nb_classes, folders)])
        for note in notes:
            log.warning("%s", note)
        run.rows("checks", partial(run_checks, subject))  # first: a reader learns early that attacks cannot work
        _attack_all(run, subject, wanted, clean["correct"])
        if detector:
            run.rows("detector", partial(detection.rows, run, subject, detector))
        exhibits.show(run, options.norm, notes)
        run.record_answer(exhibits.answer(run.results()))
    return run


def _size(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))


def _attack_all(run: Run, subject: Subject, wanted: Battery, clean: np.ndarray) -> None:
    """The accuracy after each attack and all before it at each eps, and the distances to the decision boundary."""
    classifier, pictures, norm = subject.classifier, subject.images, subject.options.norm
    made = {name: run.arrays(name, partial(_distance, classifier, name, pictures, clean)) for name in wanted.distances}
    distances = {name: arrays["distance"] for name, arrays in made.items()}
    cost: dict[tuple[str, float | None], Any] = {(name, None): arrays.get("passes") for name, arrays in made.items()}
    correct: dict[float, Correct] = {0.0: {"clean": clean}}
    worst = clean
    for eps in subject.options.eps:
        correct[eps] = {}
        for step in wanted.bounded:
            stage = stage_at(step.name, eps)
            attack = partial(_attack, classifier, step, eps, pictures, worst, derive(subject.seed, stage))
            arrays = run.arrays(stage, attack)
            worst, cost[step.label, eps] = arrays["correct"], arrays.get("passes")
            correct[eps][f"+ {step.label}" if correct[eps] else step.label] = worst
            if len(correct[eps]) == 1 and (nearest := f"deepfool-{norm}") in distances:
                # a perturbation that DeepFool found within eps is one attack more, at no cost
                worst = correct[eps]["+ DeepFool"] = worst & (distances[nearest] > eps)
    run.rows("accuracy", partial(_accuracy_rows, correct, norm))
    run.rows("distance", partial(_distance_rows, distances, clean))
    if _SQUARE in correct[eps]:
        run.rows("square", partial(_square_row, correct, norm))
    run.rows("cost", partial(_cost_rows, cost, norm, len(clean)))


def _clean(classifier: TorchClassifier, pictures: Images) -> Correct:
    x = pictures.x
    predicted = np.concatenate([classifier.predict(x[part]).argmax(1) for part in x.parts()])
    return {"correct": predicted == pictures.y, "predicted": predicted}


def _attack(
    classifier: TorchClassifier, step: Bounded, eps: float, pictures: Images, before: np.ndarray, seed: int
) -> Correct:
    """Which images are still right after an attack on those that were right before it."""
    x, y, correct = pictures.x, pictures.y, np.array(before)
    tries = [step.attack(classifier, eps, seed)] * step.restarts
    with own_global_state(seed), metrics.counted(classifier) as passes:
        for todo in x.parts_of(np.flatnonzero(before)):
            *_, correct[todo] = still_correct(classifier, tries, x[todo], y[todo])
    return {"correct": correct, "passes": np.array([passes.forward, passes.backward])}


def _distance(classifier: TorchClassifier, name: str, pictures: Images, clean: np.ndarray) -> dict[str, np.ndarray]:
    """The norm of DeepFool's perturbation of each image: 0 where it was wrong already, infinite where none was found."""
    x, y = pictures.x, pictures.y
    attack, distance = attacks.create(name, classifier), np.zeros(len(x))
    passes = np.zeros(2, np.int64)
    for part in x.parts():
        images = x[part]
        with metrics.counted(classifier) as counted:
            adversarial = attack.generate(images, y[part])
        passes += counted.forward, counted.backward
        delta = (adversarial - images).reshape(len(images), -1)
        size = np.linalg.norm(delta, ord=2 if ATTACKS[name].norm == "l2" else np.inf, axis=1)
        beaten = classifier.predict(adversarial).argmax(1) != y[part]
        distance[part] = np.where(clean[part], np.where(beaten, size, np.inf), 0)
    return {"distance": distance, "passes": passes}


def _accuracy_rows(correct: dict[float, Correct], norm: str) -> Iterator[dict[str, object]]:
    for eps, steps in correct.items():
        for label, mask in steps.items():
            share = metrics.proportion(int(mask.sum()), len(mask))
            yield share.row("accuracy", exhibit="robustness", attack=label, norm=norm, eps=eps)
        name = "robust_accuracy" if eps else "clean_accuracy"
        yield share.row(name, exhibit="headline", norm=norm, eps=eps)


def _square_row(correct: dict[float, Correct], norm: str) -> Iterator[dict[str, object]]:
    """The check of what only Square beat, at the eps where that was most."""
    made = {}
    for eps, steps in correct.items():
        if _SQUARE in steps:
            before = list(steps.values())[list(steps).index(_SQUARE) - 1]
            made[eps] = sanity.square(before, steps[_SQUARE])
    worst = max(made, key=lambda eps: made[eps].figure.value)
    yield made[worst].row(exhibit="check", norm=norm, eps=worst)


def _distance_rows(distances: dict[str, np.ndarray], clean: np.ndarray) -> Iterator[dict[str, object]]:
    for name, distance in distances.items():
        context = {"exhibit": "distance", "attack": name, "norm": ATTACKS[name].norm}
        yield metrics.median(distance[clean]).row("median_distance", **context)
        finite = distance[np.isfinite(distance)]
        for eps in np.linspace(0, finite.max(initial=0), 41) if len(finite) else ():
            beyond = int((distance > eps).sum())
            yield metrics.proportion(beyond, len(distance)).row("accuracy", eps=float(eps), **context)


def _cost_rows(cost: dict[tuple[str, float | None], Any], norm: str, n: int) -> Iterator[dict[str, object]]:
    """The passes of each attack, and of all, for an image of the evaluation, beaten before or not."""
    known = {
        where: passes for where, passes in cost.items() if passes is not None
    }  # none in a run of an earlier version
    for (attack, eps), passes in {**known, ("all", None): sum(known.values(), np.zeros(2))}.items():
        for metric, number in zip(("forward_passes", "backward_passes"), passes, strict=True):
            yield metrics.Figure(float(number) / n, n).row(metric, exhibit="cost", attack=attack, norm=norm, eps=eps)
