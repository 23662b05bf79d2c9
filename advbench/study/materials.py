"""The base of what a study makes once and keeps: networks, images, detectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from operator import methodcaller
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from art.attacks.attack import EvasionAttack
from torch import nn

from advbench import estimators, models
from advbench.data import Images
from advbench.estimators import Precision, TorchClassifier
from advbench.files import write
from advbench.models import zoo
from advbench.models.tapped import TappedModule
from advbench.progress import log, track
from advbench.seeds import derive, own_global_state
from advbench.study.config import C
from advbench.study.run import History, Training
from advbench.study.study import Study

F = TypeVar("F", bound=Callable[..., Any])

IN_WORK = 500
"""Images that are attacked between two looks at the progress."""


class _Once:
    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self.method
        cached = lru_cache(maxsize=None)(partial(self.method, instance))
        instance.__dict__[self.name] = cached  # found before this descriptor from now on
        return cached


def once(method: F) -> F:
    """Decorate a method of materials: for the same arguments it is computed once, and the result is handed out again."""
    return _Once(method)  # type: ignore[return-value]


class Materials(Generic[C]):
    """What a study makes once; whatever takes long is kept by the run and read from there.

    A subclass has a method for each material. It is made of a study alone, so that every process can make its own.

    :cvar columns: what every row that is measured on these materials has in common.
    """

    columns: Mapping[str, Any] = {"split": "test"}

    def __init__(self, study: Study[C]) -> None:
        self.study, self.config, self.run = study, study.config, study.run

    @once
    def available(self, stage: str) -> bool:
        """Whether the study has a network: what starts from the zoo leaves out what the zoo lacks."""
        found = self.study.trains or stage in self.study.zoo
        if not found:
            log.info("%s is not in the zoo; what needs it is left out", stage)
        return found

    def weights_file(self, stage: str, train: Callable[[Path], Training], **columns: Any) -> Path:
        """The file of a network: that of the zoo, or the one that ``train`` makes where the run does not have it.

        :param train: is given a checkpoint file to resume from.
        :param columns: what the rows of its history have in common.
        """
        if (name := self.study.zoo.get(stage)) is not None:
            train = partial(_from_zoo, name)
        elif not self.study.trains:
            log.warning("%s is not in the zoo and is trained here", stage)
        return self.run.trained(stage, train, **columns)

    def trained(
        self,
        stage: str,
        spec: models.ModelSpec | Callable[[], models.ModelSpec],
        weights_seed: int,
        train: Callable[[TappedModule, Path], History],
        **columns: Any,
    ) -> Path:
        """The weights of a network, trained from freshly drawn ones where the run does not have them.

        :param spec: or what makes it, where that takes long: it is called for a training alone.
        :param weights_seed: of the weights that it starts from.
        :param train: trains the module in place, on the study's device, given a checkpoint file.
        :param columns: what the rows of its history say of it.
        """

        def make(checkpoint: Path) -> Training:
            known = spec() if callable(spec) else spec
            module = models.create(known, weights_seed).to(self.study.device)
            history = train(module, checkpoint)
            return partial(models.save, module=module, spec=known), history

        return self.weights_file(stage, make, **columns)

    def wrapped(self, module: nn.Module, spec: models.ModelSpec, **options: Any) -> TorchClassifier:
        """A module as an estimator on the study's device; options are those of ``estimators.classifier``."""
        return estimators.classifier(module, spec.input_shape, spec.classes, device=self.study.device, **options)

    def loaded(self, stage: str, precision: Precision = "exact", **options: Any) -> TorchClassifier:
        """A trained network of the run as an estimator."""
        module, spec = models.load(self.run.directory / "models" / f"{stage}.safetensors")
        return self.wrapped(module, spec, precision=precision, **options)

    def attacked(
        self, attack: EvasionAttack, images: Images, label: str, y: np.ndarray | None = None, stage: str = ""
    ) -> np.ndarray:
        """The attack on all images, a few at a time so that progress shows.

        :param y: in place of the images' labels.
        :param stage: of the run that keeps the result: if it is killed meanwhile, the same command goes on with the images
            that are left.
        """
        y = images.y if y is None else y

        def of_part(part: slice) -> np.ndarray:
            return attack.generate(images.x[part], y[part])

        def kept(part: slice) -> np.ndarray:
            file = self.run.pieces(stage) / f"{part.start}.npy"
            if not file.is_file():
                with own_global_state(derive(self.study.seed, stage, part.start)):  # the same after an interruption
                    piece = of_part(part)
                write(file, partial(np.save, arr=piece))
            return np.load(file)

        return in_parts(kept if stage else of_part, len(images.x), label)


def _from_zoo(name: str, _: Path) -> Training:
    """A network of the zoo as if it had been trained by this run, which took no time."""
    log.info("zoo:%s was trained before", name)
    content = zoo.path(name).read_bytes()
    history = [{**epoch, "seconds": 0.0} for epoch in zoo.card(name).history]
    return lambda path: write(path, methodcaller("write", content)), history


def in_parts(compute: Callable[[slice], np.ndarray], n: int, label: str) -> np.ndarray:
    """The results for n images, computed a few at a time so that progress shows."""
    starts: Sequence[int] = range(0, n, IN_WORK)
    return np.concatenate([compute(slice(i, i + IN_WORK)) for i in track(starts, label, len(starts))])
