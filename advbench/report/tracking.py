"""A finished run in an experiment tracker, from its directory alone and through the tracker's own library."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from advbench.errors import UsageError, missing
from advbench.files import first_line, read_bytes
from advbench.report.comparison import labels
from advbench.report.source import read_run

TRACKERS = ("tensorboard", "mlflow")
_EPOCHS = 100_000  # of one training, which may be someone else's: a tracker writes one value after another


def check_tracker(tracker: str) -> None:
    """Refuse a tracker before a long run rather than after it.

    :raises UsageError: for an unknown tracker, or one that is not installed.
    """
    if tracker not in TRACKERS:
        raise UsageError(f"no tracker {tracker!r}; choose one of {', '.join(TRACKERS)}")
    if find_spec(tracker) is None:
        raise missing(f"{tracker} is not installed", tracker)


def track(directory: Path, tracker: str) -> str:
    """Write the epochs of every training and the final figures of a run to a tracker; say where they are.

    TensorBoard's files go to the folder ``tensorboard`` of the run directory; MLflow's to its tracking URI (set by the
    environment variable ``MLFLOW_TRACKING_URI``), into an experiment named after the recipe.

    :raises UsageError: as ``check_tracker`` does, and for a directory that is not a run.
    """
    check_tracker(tracker)
    run = read_run(directory)
    return _tensorboard(directory, run) if tracker == "tensorboard" else _mlflow(directory, run)


def _tensorboard(directory: Path, run: dict[str, Any]) -> str:
    from torch.utils.tensorboard import SummaryWriter

    epochs, folder = list(_epochs(directory)), directory / "tensorboard"
    for old in folder.glob("events.out.*"):  # written again whole: the same points twice would be drawn as a zigzag
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        for name, value, epoch in epochs:
            writer.add_scalar(name, value, epoch)
        for name, value in _finals(run["results"]):
            writer.add_scalar(f"results/{name}", value)
    return f"tensorboard --logdir {folder}"


def _mlflow(directory: Path, run: dict[str, Any]) -> str:
    import mlflow

    config, epochs = run["config"], list(_epochs(directory))
    mlflow.set_experiment(config["recipe"])
    with mlflow.start_run(run_name=directory.resolve().name) as started:
        mlflow.log_params({key: value for key, value in config.items() if key not in ("config", "settings")})
        mlflow.log_params(config["config"])
        for name, value, epoch in epochs:
            mlflow.log_metric(_allowed(name), value, step=epoch)
        for name, value in _finals(run["results"]):
            mlflow.log_metric(_allowed(f"results/{name}"), value)
    return f"mlflow run {started.info.run_id} at {mlflow.get_tracking_uri()}"


def _epochs(directory: Path) -> Iterator[tuple[str, float, int]]:
    """Every measured number of every epoch, by training and column.

    :raises UsageError: for a file, possibly of someone else, that holds no such numbers.
    """
    for path in sorted((directory / "models").glob("*.csv")):
        try:
            table = pd.read_csv(BytesIO(read_bytes(path))).astype(float)
            if len(table) > _EPOCHS or not table["epoch"].between(0, _EPOCHS).all():
                raise ValueError(f"column epoch must count up to {_EPOCHS} at most")
        except (OSError, KeyError, ValueError, OverflowError) as error:
            raise UsageError(f"{path} cannot be read as the epochs of a training: {first_line(error)}") from error
        for row in table.to_dict("records"):
            epoch = int(row.pop("epoch"))
            yield from ((f"{path.stem}/{name}", value, epoch) for name, value in row.items() if value == value)


def _finals(results: pd.DataFrame) -> Iterator[tuple[str, float]]:
    measured = results[results.value.notna()]
    yield from zip(labels(measured), measured.value, strict=True)


def _allowed(name: str) -> str:
    """MLflow takes letters, digits and few other signs in a name, at most 250 of them."""
    return "".join(c if c.isalnum() or c in "_-. /" else "-" for c in name)[:250]
