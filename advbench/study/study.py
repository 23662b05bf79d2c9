"""What a recipe computes with: its config, its data, a device, a run to keep results in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import pandas as pd
import torch

from advbench.data import Dataset
from advbench.errors import AdvbenchError
from advbench.seeds import derive
from advbench.study import stages
from advbench.study.cluster import Cluster
from advbench.study.config import C, D
from advbench.study.exhibits import Exhibit
from advbench.study.run import Run
from advbench.study.workers import Item, Workers

Rows = Iterable[dict[str, Any]]


class Made(Protocol):
    """Materials: what a study makes once, and what every row that is measured on them has in common."""

    @property
    def columns(self) -> Mapping[str, Any]: ...


M = TypeVar("M", bound=Made)
Measurement = Callable[..., Rows]
"""A function from materials, and what varies, to result rows; the stage is named after it and its arguments."""


@dataclass(frozen=True)
class Study(Generic[C]):
    """One execution of a recipe.

    :ivar zoo: the names of the networks of the zoo that it starts from, by stage; empty where it trains all.
    :ivar trains: whether it trains the networks that it does not take from the zoo; else it leaves out what needs them.
    """

    config: C
    run: Run
    train: Dataset
    test: Dataset
    device: torch.device
    seed: int
    workers: Workers = field(default_factory=Workers)
    cluster: Cluster | None = None
    zoo: Mapping[str, str] = field(default_factory=dict)
    trains: bool = True

    def seed_of(self, *path: object) -> int:
        """The seed of a named part of the study."""
        return derive(self.seed, *path)

    def with_config(self, config: D) -> Study[D]:
        """The same study with another config, for materials of another recipe."""
        return replace(self, config=config)  # type: ignore[return-value, arg-type]

    def each(self, work: Callable[[Study[C], Item], Any], items: Sequence[Item]) -> None:
        """Do independent work in all processes of this machine (:class:`Workers`) or of a cluster."""
        if self.cluster is not None:
            self.cluster.each(work, items)
            self.run.take_in()
        else:
            self.workers.each(self, self.device, self.run.log_to_file, work, items)

    def make_each(self, tasks: Iterable[tuple[Any, ...]]) -> None:
        """Make independent materials in all processes; the run keeps them.

        :param tasks: each a method of a class of materials, an instance, and the method's arguments.
        """
        self.each(_make, [(type(made), method, arguments) for method, made, *arguments in tasks])

    def measure(self, measurement: Measurement, made: M, *arguments: Any) -> pd.DataFrame:
        """The result rows of one stage; they join results.csv in the order of the calls."""
        make = partial(_rows, made, measurement, arguments)
        return self.run.rows(stage_name(measurement, *arguments), make)

    def measure_each(self, measurement: Measurement, made: M, items: Iterable[Any], independent: bool = False) -> None:
        """The result rows of a stage for each item; they join results.csv in the order of the items.

        :param items: the arguments of the measurement beyond the materials; a tuple is several.
        :param independent: whether no stage needs what another one makes: they are then computed in all processes.
        :raises AdvbenchError: if two items lead to one name.
        """
        each = [item if isinstance(item, tuple) else (item,) for item in items]
        names = [stage_name(measurement, *arguments) for arguments in each]
        if len(set(names)) < len(names):
            raise AdvbenchError(
                f"two stages of {measurement.__name__} have the same name; give their arguments a label"
            )
        if independent:
            todo = [arguments for name, arguments in zip(names, each, strict=True) if not self._finished(name)]
            self.each(_measure, [(type(made), measurement, arguments) for arguments in todo])
        for arguments in each:
            self.measure(measurement, made, *arguments)

    def show(self, exhibits: Iterable[Exhibit], made: Any = None) -> None:
        """Put exhibits on the page, from the rows measured so far."""
        rows = self.run.results()
        for each in exhibits:
            for shown in each.shown(rows, made):
                name = "-".join(filter(None, (each.name, shown.part)))
                caption = " ".join(filter(None, (shown.note, each.caption)))
                self.run.exhibit(name, shown.title or each.title, caption, shown.chart, shown.table, each.claims)

    def _finished(self, stage: str) -> bool:
        return stages.finished(self.run.directory, stage) is not None


def stage_name(measurement: Callable[..., Any], *arguments: Any) -> str:
    """The name of a stage: the function and what it is called with, in letters that every file system takes.

    An argument is named by its ``label`` where it has one.
    """
    words = [measurement.__name__, *(_label(argument) for argument in arguments)]
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", word).strip("-") for word in words if word)


def _label(argument: Any) -> str:
    if isinstance(argument, float):
        return f"{argument:.6g}"
    return str(getattr(argument, "label", argument))


def _rows(made: Made, measurement: Measurement, arguments: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    common = {"exhibit": measurement.__name__.replace("_", " "), **made.columns}
    for row in measurement(made, *arguments):
        yield {**common, **row}


def _make(study: Study[Any], task: tuple[Callable[[Study[Any]], Any], Callable[..., Any], Sequence[Any]]) -> None:
    kind, method, arguments = task
    method(kind(study), *arguments)


def _measure(study: Study[Any], item: tuple[Callable[[Study[Any]], Made], Measurement, tuple[Any, ...]]) -> None:
    kind, measurement, arguments = item
    made = kind(study)
    study.run.table(stage_name(measurement, *arguments), partial(_rows, made, measurement, arguments))
