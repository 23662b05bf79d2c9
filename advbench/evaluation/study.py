"""An evaluation from its options to its results, stage by stage: the same command goes on where it stopped."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from advbench.checkpoint import fingerprint
from advbench.data.find import Images
from advbench.device import float32_by_default, resolve_device
from advbench.errors import UsageError
from advbench.estimators import SmoothedModel, TorchClassifier, contract
from advbench.evaluation import afterwards, attacking, corruptions, detection, exhibits, identity, labels, pieces
from advbench.evaluation.battery import Attack, batteries, fitting
from advbench.evaluation.budget import Budget
from advbench.evaluation.certifying import certified_rows
from advbench.evaluation.checking import run_checks
from advbench.evaluation.options import Norm, Options, name_of
from advbench.evaluation.pieces import Layout
from advbench.evaluation.result import PER_IMAGE, Result, kept_in
from advbench.evaluation.subject import Subject, find_images, find_model, unchanged, with_backward
from advbench.files import write
from advbench.models.find import Network
from advbench.progress import log
from advbench.study.config import digest
from advbench.study.execution import computing
from advbench.study.run import Run
from advbench.study.schema import About

if TYPE_CHECKING:
    from art.defences.detector.evasion import EvasionDetector
    from art.estimators.classification import PyTorchClassifier
    from torch import Tensor
    from torch.utils.data import DataLoader, Dataset

_LARGEST = {"linf": 0, "l2": 0.5, "l1": 1, "l0": 1}
"""The norm of the difference of two images with d values is at most d to this power."""


def evaluate(
    model: nn.Module | PyTorchClassifier | str | Path,
    data: tuple[np.ndarray | Tensor, np.ndarray | Tensor] | Dataset | DataLoader | str | Path | Any,
    eps: float | Sequence[float] | Mapping[str, float | Sequence[float]] | None = None,
    norm: str | float | Sequence[str | float] = "linf",
    attacks: str = "standard",
    *,
    access: str = "gradients",
    battery: str | Sequence[str] = (),
    n: int | None = None,
    checks: int | None = None,
    keep_images: bool = False,
    weights: Path | str | None = None,
    outputs: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    shape: tuple[int, int, int] | None = None,
    labels: Sequence[int] | None = None,
    detector: Callable[[np.ndarray], np.ndarray] | nn.Module | EvasionDetector | Path | str | None = None,
    detector_steps: int | None = None,
    smoothing: float | None = None,
    budget: int | None = None,
    backward: Callable[[nn.Module, Tensor], Tensor] | str | None = None,
    out: Path | str | None = None,
    device: str = "auto",
    seed: int = 0,
    data_dir: Path | str | None = None,
    workers: int | None = None,
    devices: int | None = None,
    scheduler: str | None = None,
) -> Result:
    """How robust is a model? Attacks, the worst case for each image, and checks that the attacks worked.

    The same as ``advbench evaluate``, whose options have the same names; a message names them as ``--eps``.

    :param model: a module from images (N, C, H, W) in [0, 1] to logits, an ART ``PyTorchClassifier``, or a name as on the
        command line: ``file.py:callable``, ``torchvision:NAME``, a run directory. It is given back in its mode, on its device.
    :param data: images and true labels: arrays or tensors ``(x, y)``, a ``Dataset`` of pairs, a ``DataLoader``, or a name,
        folder or archive as on the command line. Images are floats in [0, 1] or uint8.
    :param eps: one or several bounds for images in [0, 1], by default as on the command line; of several norms by their
        names, such as ``{"linf": 8 / 255, "l2": [0.25, 0.5]}``.
    :param norm: ``linf``, ``l2``, ``l1`` or ``l0``, also as a number as in ART; several for each and their union.
    :param attacks: ``standard``, ``fast``, or comma-separated names.
    :param access: what the attacker sees: ``gradients``, ``scores`` or ``labels``.
    :param battery: ``corruptions``, those of ImageNet-C, and ``rotations``, each besides the attacks.
    :param n: the number of images, drawn at random; by default all that are given, and 1,000 of a named set or a folder.
    :param checks: the number of images for the checks; by default 64.
    :param keep_images: keep the adversarial images, for ``Result.adversarial``.
    :param mean: subtracted from images in front of the model, a number a channel; they are then divided by ``std``.
    :param detector: of a run by its file, or any that :class:`advbench.detectors.ScoredDetector` takes: a function from images
        to scores, a module, an ART detector.
    :param smoothing: evaluate the model with Gaussian noise of this standard deviation on its images, and certify that.
    :param budget: the most forward and backward passes an image, over all attacks.
    :param backward: where steps of the model have no gradient, a differentiable stand-in (model, images) -> logits, which
        gives gradients alone; or ``identity``, which puts the identity in the place of the gradient of these steps.
    :param out: a run directory to keep; the same call goes on there where it was stopped. By default nothing is kept but
        the result: see ``Result.save``.
    :param workers: processes that share the images, on one thread each; any number gives the same figures. By default this
        process does all with all its threads. A script needs ``if __name__ == "__main__":`` around the call.
    :param devices: GPUs that share the images, each by a process of its own.
    :param scheduler: the address of a Dask scheduler whose workers share the images.
    :raises UsageError: for a model, data or an option that cannot be used, in one line that names it.
    :raises DataUnavailable: where a named data set cannot be had.
    """
    options = Options.parse(
        model=model,
        data=data,
        eps=eps,
        norm=norm,
        attacks=attacks,
        access=access,
        battery=battery,
        n=n,
        checks=checks,
        keep_images=keep_images,
        weights=weights,
        outputs=outputs,
        mean=mean,
        std=std,
        shape=shape,
        labels=labels,
        detector=detector,
        detector_steps=detector_steps,
        smoothing=smoothing,
        budget=budget,
        backward=backward,
    )
    temporary = None if out else TemporaryDirectory(prefix="advbench-")
    directory = Path(temporary.name, "run") if temporary else Path(str(out))
    layout = Layout(workers, devices, scheduler)
    start(options, directory, device, seed, Path(data_dir) if data_dir else None, layout)
    return Result(directory, temporary)


def start(
    options: Options,
    out: Path | None = None,
    device: str = "auto",
    seed: int = 0,
    data_dir: Path | None = None,
    layout: Layout | None = None,
) -> Run:
    """Evaluate a model to the end, or on from where it was stopped.

    :param out: the run directory, by default one under runs/ that is named after the model.
    :param data_dir: a folder that already holds a named data set.
    :param layout: who computes; it changes no figure, and may be another one when an evaluation goes on.
    :raises UsageError: for a model, weights, data or an option that cannot be used; see the modules of this package.
    :raises DataUnavailable: where a named data set cannot be had.
    """
    wanted = batteries(options.attacks, options.norm, options.access)
    where = resolve_device(device)
    found = find_model(options.model, options.weights)
    with unchanged(found.module), float32_by_default():
        return _evaluated(options, wanted, found, where, out, seed, data_dir, layout or Layout())


def _evaluated(
    options: Options,
    wanted: dict[Norm, tuple[Attack, ...]],
    found: Network,
    where: torch.device,
    out: Path | None,
    seed: int,
    data_dir: Path | None,
    layout: Layout,
) -> Run:
    pictures = find_images(options, options.shape or found.shape, seed, data_dir)
    if options.shape not in (None, pictures.x.shape[1:]):
        raise UsageError(
            f"--shape {_size(options.shape)}: {name_of(options.data)} holds images of shape {_size(pictures.x.shape[1:])}"
        )
    for norm, bounds in options.eps.items():
        if (largest := max(bounds)) >= prod(pictures.x.shape[1:]) ** _LARGEST[norm]:
            way = f"; for grey levels write {largest:g}/255" if norm in ("linf", "l2") else ""
            raise UsageError(f"--eps {largest:g}: within it any image may become any other{way}")
    mean, std = (options.mean, options.std) if options.mean else (found.mean, found.std)
    module = with_backward(found.module, options.backward)
    module = contract.normalised(module, mean, std, pictures.x.shape[1]) if mean else module
    module = SmoothedModel(module, options.smoothing) if options.smoothing else module
    here = os.getcwd()
    classifier, notes = contract.classifier(module, pictures, where, options.outputs)
    if os.getcwd() != here:  # a relative --out would be another folder
        os.chdir(here)
        raise UsageError("the model changes the working directory; take os.chdir out of its forward")
    detector = detection.load(options, classifier, len(pictures.x))
    notes = [*found.notes, *pictures.notes, *notes]
    for norm, attacks in wanted.items():
        wanted[norm], left_out = fitting(attacks, classifier.nb_classes)
        notes += [note for note in left_out if note not in notes]
    if mean and not options.mean:
        published = [", ".join(f"{value:g}" for value in values) for values in (mean, std)]
        notes.append(f"normalised as {options.model} was published: mean {published[0]}, std {published[1]}")
    own = _own_modules(options, found.module)
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
            **({"code": identity.code(own)} if own else {}),
            "images_sha256": pictures.fingerprint,
            **detection.fingerprint_of(detector),
        },
    }
    name = re.sub(r"[^A-Za-z0-9]+", "-", Path(name_of(options.model)).name).strip("-")
    run = Run(out or Path("runs") / f"evaluate-{name}-{digest(config)}", config)
    question = f"How robust is {name_of(options.model)} on {pictures.name}, and did the attacks on it work?"
    norm = next((norm for norm in options.norm if norm in ("linf", "l2")), options.norm[0])  # of the checks
    subject = Subject(classifier, pictures, options, seed, mean, std, norm)
    corruptions.check(subject)
    with computing(run, About(question=question, command="evaluate"), where):
        size, directory = len(pictures.x), run.directory
        log.info(
            "%s on %d images of %s, on %s; results in %s", name_of(options.model), size, pictures.name, where, directory
        )
        identity.probe(run, classifier, pictures, seed)
        clean = run.arrays("clean", partial(_clean, classifier, pictures))
        folders = options.labels or (range(pictures.classes or 0) if _is_folder(options.data) else ())
        notes += filter(None, [labels.warning(clean["predicted"], pictures.y, classifier.nb_classes, folders)])
        for note in notes:
            log.warning("%s", note)
        # first: a reader learns early that attacks cannot work
        run.rows("checks", partial(run_checks, subject, wanted[norm]))
        budget = Budget(options.budget, len(pictures.x))
        every = [attack for attacks in wanted.values() for attack in attacks]
        work = partial(pieces.operations, classifier, pictures.x, every, max(map(len, options.eps.values())))
        with pieces.computed(classifier, list(own.values()), pictures.x, layout, work) as compute:
            outcomes = [
                attacking.attack_all(run, subject.within(norm), attacks, clean["correct"], compute, budget)
                for norm, attacks in wanted.items()
            ]
        for name, rows in (attacking.ROWS | afterwards.ROWS).items():
            run.rows(name, partial(attacking.of_each, rows, outcomes))
        for name, rows_of in (("draws", afterwards.draw_rows), ("certified", certified_rows)):
            run.rows(name, partial(attacking.of_each, partial(rows_of, subject=subject), outcomes))
        run.rows("union", partial(attacking.union_rows, outcomes))
        if "corruptions" in options.battery:
            run.rows("corruptions", partial(corruptions.corruption_rows, run, subject))
        if "rotations" in options.battery:
            run.rows("rotations", partial(corruptions.rotation_rows, run, subject, clean["correct"]))
        table = attacking.per_image(outcomes, pictures.y, clean["predicted"])
        write(run.directory / PER_IMAGE, lambda stream: table.to_csv(stream))
        if options.keep_images:
            for outcome in outcomes:
                run.arrays(
                    kept_in(outcome.norm, options.norm), partial(attacking.adversarial_images, run, outcome, subject)
                )
        if detector:
            run.rows("detector", partial(detection.rows, run, subject, detector))
        exhibits.show(run, options.norm, [*notes, *chain.from_iterable(outcome.notes for outcome in outcomes)])
        run.record_answer(exhibits.answer(run.results()))
    return run


def _own_modules(options: Options, module: nn.Module) -> dict[str, ModuleType]:
    """The user's own modules that the model, its stand-in and its detector are made of."""
    found = identity.own_modules(name_of(options.model), module)
    for given in (options.backward, options.detector):
        where = given if isinstance(given, str) else f"{getattr(given, '__module__', '')}:"
        found |= identity.own_modules(where, nn.Identity())
    return found


def _size(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))


def _is_folder(source: object) -> bool:
    return isinstance(source, (str, Path)) and Path(source).is_dir()


def _clean(classifier: TorchClassifier, pictures: Images) -> dict[str, np.ndarray]:
    x = pictures.x
    predicted = np.concatenate([classifier.predict(x[part]).argmax(1) for part in x.parts()])
    return {"correct": predicted == pictures.y, "predicted": predicted}
