"""``advbench zoo add``: the card of a network from the finished training in a run directory, and what it reaches."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from torch import Tensor

from advbench import attacks, data, estimators, metrics, models
from advbench.attacks import DynamicDetectorAttack, GANAttack
from advbench.checkpoint import fingerprint, load_tensors, reading, save_tensors
from advbench.detectors import SubnetworkDetector
from advbench.errors import UsageError, did_you_mean
from advbench.files import check_tree, first_line, read_bytes, read_json
from advbench.models import zoo
from advbench.models.zoo import Card, Kind
from advbench.seeds import own_global_state
from advbench.study import stages
from advbench.study.pretrained import Measured
from advbench.study.registry import find
from advbench.study.schema import Machine, Request, read

LARGEST_FILE, LARGEST_ZOO = 5_000_000, 30_000_000
"""Bytes."""

ATTACKED = 1000
"""Test images on which a detector or an attacker is measured."""

SAMPLE = 200
"""Of the test images, those that a card is checked on."""

Tensors = dict[str, Tensor]


def add(run: Path, stage: str, name: str = "", commit: str = "") -> Path:
    """Put a trained network of a run into the zoo, with its card.

    :param stage: the training that made it.
    :param name: in the zoo, by default made of the network, the data and the stage.
    :param commit: of the code, where the run does not know it.
    :return: the new file.
    :raises UsageError: for what cannot be traced to a run, is too large, or is in the zoo already.
    """
    if "site-packages" in zoo.FOLDER.parts:
        raise UsageError(f"advbench is installed in {zoo.FOLDER.parents[1]}; a network is added to a checkout")
    file = _finished(run, stage)
    try:
        request, machine = read(run / "config.json", Request), read(run / "environment.json", Machine)
        ended = float(read_json(stages.marker(run, stage))["ended"])
        history = pd.read_csv(BytesIO(read_bytes(file.with_suffix(".csv"))))
        seconds = float(history.pop("seconds").sum())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{run} cannot be read as a run: {first_line(error)}") from error
    with reading(file, "network"):
        tensors, meta = load_tensors(file)
    if "card" in meta:
        raise UsageError(f"{stage} of {run} was not trained there but taken from the zoo")
    kind: Kind = "classifier" if "input_shape" in meta else "detector" if "position" in meta else "attacker"
    measured = _measured(request, stage, kind)
    classifier, meta = _with_classifier(kind, meta, measured, request)
    tensors, precision = _stored(kind, tensors, file)
    card = Card(
        kind=kind,
        recipe=request["recipe"],
        preset=request["preset"],
        stage=stage,
        dataset=request["dataset"],
        seed=request["seed"],
        settings=request["settings"],
        config=request["config"],
        commit=_commit(run, machine["commit"], commit),
        date=f"{datetime.fromtimestamp(ended, UTC):%Y-%m-%d}",
        hours=round(seconds / 3600, 3),
        machine=f"{machine['processor']}, {machine['cores']} cores, {machine['device']}, {machine['system']}",
        versions=machine["versions"],
        precision=precision,
        fingerprint=fingerprint(models.load(file)[0]) if kind == "classifier" else "",
        classifier=classifier,
        attack=dict(measured.attack),
        figures=[],
        history=json.loads(history.to_json(orient="records")),
    )
    name = _new_name(name or _default_name(card, meta), card)
    with TemporaryDirectory() as folder:
        trial = Path(folder) / file.name
        save_tensors(trial, tensors, meta)
        whole, sample = (measure(trial, card, n) for n in (None, SAMPLE))
        figures = [{**each, "sample": few["value"]} for each, few in zip(whole, sample, strict=True)]
        save_tensors(trial, tensors, meta | zoo.metadata(replace(card, figures=figures)))
        _refuse_large(trial)
        return zoo.put(name, trial)


def measure(file: Path, card: Card, first: int | None = None) -> list[dict[str, Any]]:
    """The figures of a network on the first test images of its data: by default all, or ``ATTACKED`` where it meets an attack.

    A classifier: accuracy. A detector: detectability of its adversary. An attacker: the accuracy that it leaves.

    :raises DataUnavailable: where the data cannot be had.
    """
    classifier = estimators.load(file if card.kind == "classifier" else card.classifier)
    test = data.load(card.dataset, "test", shape=classifier.input_shape)
    if card.kind == "classifier":
        images = test.images(slice(first))
        return [metrics.accuracy(classifier.predict(images.x).argmax(1), images.y).row("accuracy")]
    images = test.images(slice(first or ATTACKED))
    with own_global_state():
        if card.kind == "attacker":
            attacked = GANAttack.load(file, classifier).generate(images.x)
            return [metrics.accuracy(classifier.predict(attacked).argmax(1), images.y).row("attacked_accuracy")]
        detector, arguments = SubnetworkDetector.load(file, classifier), dict(card.attack)
        if arguments["name"] == "dynamic":
            del arguments["name"]
            attack: Any = DynamicDetectorAttack(classifier, detector, **arguments)
        else:
            attack = attacks.create(classifier=classifier, **arguments)
        clean, adversarial = detector.scores(images.x), detector.scores(attack.generate(images.x, images.y))
        return [metrics.detectability(clean, adversarial).row("detectability")]


def lies(name: str) -> str:
    """What a card of the zoo says that a measurement on its first ``SAMPLE`` test images contradicts; empty if nothing.

    :raises UsageError: if there is no such network, or its file is damaged.
    :raises DataUnavailable: where the data cannot be had.
    """
    card = zoo.card(name)
    for stated, found in zip(card.figures, measure(zoo.path(name), card, SAMPLE), strict=True):
        far = stated["ci_low"] > found["ci_high"] or stated["ci_high"] < found["ci_low"]
        # other processors round otherwise, which may turn two of the images
        if far or stated["metric"] != found["metric"] or abs(stated["sample"] - found["value"]) > 2 / SAMPLE:
            return f"the card of zoo:{name} says {zoo.in_words(stated)}; on {SAMPLE} images it is {zoo.in_words(found)}"
    return ""


def _finished(run: Path, stage: str) -> Path:
    """The file of a network whose training is finished and which is as the run wrote it."""
    if not (run / "config.json").is_file():
        raise UsageError(f"{run} is not a run directory (no config.json)")
    check_tree(run)
    file = stages.inside(run, f"models/{stage}.safetensors")
    if (run / "checkpoints" / file.name).is_file():
        raise UsageError(f"the training of {stage} in {run} is not finished; run the same command again to go on")
    if not stages.marker(run, stage).is_file() or not file.is_file():
        known = sorted(path.stem for path in (run / "models").glob("*.safetensors"))
        raise did_you_mean(f"finished training in {run}", stage, known)
    stages.check(run)
    if stages.finished(run, stage) is None:
        raise UsageError(
            f"{file} is not as the training wrote it: its checksum is not that of {stages.marker(run, stage)}"
        )
    return file


def _measured(request: dict[str, Any], stage: str, kind: Kind) -> Measured:
    recipe = find(request["recipe"])
    if recipe.pretrained is None:
        raise UsageError(f"recipe {recipe.name} starts from no network of the zoo, so it would never be used")
    try:
        config = type(recipe.preset(request["preset"]))(**request["config"])
    except ValueError as error:
        raise UsageError(
            f"the run has a config that recipe {recipe.name} no longer takes: {first_line(error)}"
        ) from error
    measured = recipe.pretrained.measured(config, stage)
    if (kind == "detector" and not measured.attack) or (kind == "attacker" and not measured.classifier):
        raise UsageError(f"recipe {recipe.name} does not say what {stage} is measured against")
    return measured


def _with_classifier(
    kind: Kind, meta: dict[str, Any], measured: Measured, request: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The name of the classifier in the zoo that a network belongs to, and the metadata that lead to it as it is stored."""
    if kind == "classifier":
        return "", meta
    if kind == "detector":
        found = [name for name, card in zoo.cards().items() if card.fingerprint == meta["classifier"]]
    else:
        known = zoo.of_recipe(request["recipe"], request["dataset"], request["seed"])
        found = [known[measured.classifier]] if measured.classifier in known else []
    if not found:
        raise UsageError(f"the classifier of this {kind} is not in the zoo; add it first")
    if kind == "detector":  # storing may have rounded the classifier
        meta = {**meta, "classifier": fingerprint(models.load(zoo.path(found[0]))[0])}
    return found[0], meta


def _stored(kind: Kind, tensors: Tensors, file: Path) -> tuple[Tensors, Any]:
    """The tensors as they are stored: weights, but not means and variances, in half precision, save those of a small classifier."""
    if kind == "classifier" and file.stat().st_size <= LARGEST_FILE:
        return tensors, "float32"
    return {
        name: tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor
        for name, tensor in tensors.items()
    }, "float16"


def _commit(run: Path, known: str, stated: str) -> str:
    if "-dirty" in known:
        raise UsageError(f"{run} was computed by code with changes that no commit has ({known})")
    if not re.fullmatch("[0-9a-f]{7,40}", known or ""):
        if not re.fullmatch("[0-9a-f]{7,40}", stated):
            raise UsageError(f"{run} does not know the commit of its code ({known}); state it with --commit")
        return f"{stated} (as stated: the run knows none)"
    if stated and not (known.startswith(stated) or stated.startswith(known)):
        raise UsageError(f"{run} was computed by commit {known}, not {stated}")
    return known


def _default_name(card: Card, meta: dict[str, Any]) -> str:
    stage = "" if card.stage == "classifier" else card.stage
    return "-".join(filter(None, (card.classifier or f"{meta['name']}-{card.dataset}", stage)))


def _new_name(name: str, card: Card) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", name):
        raise UsageError(f"{name!r} is no name for a network: take letters, digits, dots and hyphens")
    if name in zoo.index():
        raise UsageError(f"zoo:{name} is there already; choose another --name")
    if (there := zoo.of_recipe(card.recipe, card.dataset, card.seed).get(card.stage)) is not None:
        raise UsageError(f"zoo:{there} is {card.stage} of {card.recipe} with seed {card.seed} already; remove it first")
    return name


def _refuse_large(file: Path) -> None:
    size, others = file.stat().st_size, sum(path.stat().st_size for path in zoo.FOLDER.glob("*.safetensors"))
    if size > LARGEST_FILE:
        raise UsageError(f"{file.name} has {size:,} bytes, more than the {LARGEST_FILE:,} of a file in the zoo")
    if size + others > LARGEST_ZOO:
        raise UsageError(f"with {file.name} the zoo has {size + others:,} bytes, more than {LARGEST_ZOO:,}")
