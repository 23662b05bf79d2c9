"""What the files of a run directory hold: a run writes them, and reads them with care, for they may be damaged or foreign."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from advbench.files import read_bytes
from advbench.metrics import COLUMNS


class _File(BaseModel):
    model_config = ConfigDict(extra="allow")


class Request(_File):
    """config.json."""

    recipe: str
    preset: str
    dataset: str
    seed: int
    note: str = ""
    settings: list[str]
    config: dict[str, Any]
    command: str = ""


class Machine(_File):
    """environment.json."""

    versions: dict[str, str]
    commit: str
    python: str
    system: str
    processor: str
    cores: int | None
    device: str


class About(_File):
    """about.json: what the study asks, how it was started, and what its claims say.

    :ivar command: the recipe's name or path.
    :ivar data_dir: the folder that holds the data set, empty where none was given.
    :ivar undecided: why the run decides no claim, empty where it does.
    :ivar pretrained: which networks were trained before, in one sentence; empty where the run trained all.
    """

    question: str = ""
    command: str = ""
    data_dir: str = ""
    undecided: str = ""
    pretrained: str = ""
    claims: list[dict[str, str]] = []


class Table(_File):
    """The table of an exhibit, in pandas' orient "split"."""

    columns: list[str | int]
    data: list[list[Any]]

    @model_validator(mode="after")
    def _rectangular(self) -> Table:
        if any(len(row) != len(self.columns) for row in self.data):
            raise ValueError("a row has another length than its header")
        return self


class Exhibit(_File):
    """One of exhibits.json; its name and chart lead to no file outside of the run, nor of a folder made from it."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    title: str
    caption: str
    claims: list[str] = []
    chart: str = ""
    table: Table | None = None

    @model_validator(mode="after")
    def _own_chart(self) -> Exhibit:
        if self.chart not in ("", f"charts/{self.name}.vl.json"):
            raise ValueError(f"its chart is {self.chart!r}")
        return self


def read(path: Path, kind: Any) -> Any:
    """A JSON file as what it must be, one of the types above or a list of them, in plain dicts and lists.

    :raises ValueError: if it is something else; the line names the first thing that is.
    :raises OSError: if it is not there.
    """
    adapter = TypeAdapter(kind)
    try:
        return adapter.dump_python(adapter.validate_json(read_bytes(path)), exclude_unset=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path.name}: {place + ': ' if place else ''}{first['msg']}") from error


def read_results(path: Path) -> pd.DataFrame:
    """results.csv; a column that an earlier version did not have is empty.

    :raises ValueError: if it is no such table.
    :raises OSError: if it is not there.
    """
    table = pd.read_csv(BytesIO(read_bytes(path)), low_memory=False)
    missing = [column for column in ("recipe", "dataset", "metric", "value", "n", "note") if column not in table]
    if missing:
        raise ValueError(f"{path.name} has no column {missing[0]}")
    return typed(table)


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows with the columns of results.csv, each of its type.

    :raises ValueError: for a text where a number should be.
    """
    return table.reindex(columns=list(COLUMNS)).astype(COLUMNS)
