"""The defences that reports 000 and 003 name as future work, in front of or in place of the network of either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
from pydantic import Field, PositiveFloat, field_validator

from advbench import models
from advbench.metrics import Figure
from advbench.study.registry import Eps
from advbench.recipes import _compare_defences_attacks as against
from advbench.recipes import _compare_defences_exhibits as exhibits
from advbench.recipes._compare_defences_lab import Defence, Defended, Laboratory
from advbench.recipes._compare_defences_registry import DEFENCES
from advbench.recipes._defence_config import Bounds, DefenceConfig, chosen
from advbench.study.run import Run
from advbench.study.study import Study

FUTURE = (
    "none",
    "jpeg-compression",
    "vae-reformer",
    "gaussian-augmentation",
    "defensive-distillation",
    "fgsm-rs-gradalign",
    "lipschitz",
)
"""Rows of ``compare_defences``, each under the attack that knows it there."""


class FutureWork(DefenceConfig):
    """How these defences learn and are attacked; sizes are numbers of images, null means all."""

    defences: tuple[str, ...] = Field(FUTURE, description="which are tried; no defence always is")
    eps: tuple[Eps, ...] = Field((0.01, 8 / 255), description="of the attacks; FGSM-RS trains at the largest")
    sigma: PositiveFloat = Field(0.1, description="standard deviation of Gaussian augmentation")

    @field_validator("defences")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return chosen(names, FUTURE)

    def bounds(self, dataset: str) -> Bounds:
        """What the rows of ``compare_defences`` ask for."""
        return Bounds(eps=self.eps, fit_eps=max(self.eps), bit_depth=8, sigma=self.sigma)


@dataclass(frozen=True)
class Setting:
    """What a recipe defends.

    :param model: the registry name of its network.
    :param stage: the training, but for the seed, that left it undefended.
    """

    model: str
    stage: str

    def undefended(self, lab: Laboratory, module: None) -> Defended:
        path = lab.run.directory / "models" / f"{self.stage}-seed{lab.study.seed}.safetensors"
        classifier = lab.classifier(models.load(path)[0])
        return Defended(classifier, classifier)


def laboratory(study: Study, setting: Setting) -> Laboratory:
    """The materials of ``compare_defences`` around the network of this recipe."""
    own = Defence("none", "advbench", "the network as the study trained it", setting.undefended, against.restarts)
    rows = {name: own if name == "none" else DEFENCES[name] for name in FUTURE}
    return Laboratory(replace(study, config=study.config.future), rows, setting.model)


Task = tuple[Callable[[Study, Any], Any], Any]
"""Work and what it is done on."""


def do(study: Study, task: Task) -> None:
    """Work of several kinds in the same workers."""
    work, item = task
    work(study, item)


def trainings(study: Study, setting: Setting) -> list[Task]:
    """What the defences have to learn; none waits for the undefended network."""
    return [(_train, (setting, name)) for name in study.config.future.defences if name != "none" and _is_trained(name)]


def attacks(study: Study, setting: Setting) -> tuple[list[Task], list[Task]]:
    """The attacks on the undefended network, which every other needs, and those on each defence."""
    tasks: list[Task] = [(_attack, (setting, name)) for name in study.config.future.defences]
    return tasks[:1], tasks[1:]


def _is_trained(name: str) -> bool:
    return DEFENCES[name].network is not None


def _train(study: Study, item: tuple[Setting, str]) -> None:
    setting, name = item
    laboratory(study, setting).weights(name)


def _attack(study: Study, item: tuple[Setting, str]) -> None:
    setting, name = item
    lab = laboratory(study, setting)
    for eps in lab.bounds.eps:
        lab.attacked(name, eps)


def record(study: Study, setting: Setting) -> None:
    """The result rows of every defence."""
    lab = laboratory(study, setting)
    for name in lab.config.defences:
        study.run.rows(f"future-{name}", partial(_figures, lab, name))


def _figures(lab: Laboratory, name: str) -> Iterator[dict[str, Any]]:
    yield from lab.accuracies(name)
    yield from lab.certificates(name)
    if name != "none" and _is_trained(name):
        common = {"exhibit": "defence training", "model": lab.defences[name].model or lab.spec.name, "defence": name}
        yield Figure(len(lab.train.y), 1).row("training_images", **common)
        yield Figure(lab.config.epochs, 1).row("training_epochs", **common)


def show(run: Run, rows: pd.DataFrame) -> None:
    """The defences by attacks, what is left once the attack knows them, and what is certain."""
    learned = rows[rows.exhibit == "defence training"].groupby("metric").value.max()
    told = ""
    if len(learned):
        images, epochs = (int(learned[f"training_{unit}"]) for unit in ("images", "epochs"))
        told = f"What a defence learns, it learned from {images:,} training images in {epochs} epochs. "
    exhibits.comparisons(run, rows, told + "First seed. ")
