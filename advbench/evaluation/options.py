"""What a user may ask of ``advbench evaluate``, checked before anything slow is imported."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from advbench.errors import UsageError
from advbench.study.config import Eps


def _parts(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def number(value: float) -> str:
    """The number as a person writes it: 8/255 for 0.0313725490196, 0.5/255 for half a grey level."""
    halves, plain = value * 510, repr(value)
    is_fraction = 0 < value < 1 and abs(halves - round(halves)) < 1e-9 and len(plain) > len("0.0125")
    return f"{round(halves) / 2:g}/255" if is_fraction else plain


METRICS = ("robust_accuracy", "clean_accuracy", "checks_passed", "joint_accuracy")


class Options(BaseModel):
    """One evaluation. Numbers with commas are lists.

    :param model: see :func:`advbench.models.find.find`.
    :param data: see :func:`advbench.data.find.find`.
    :param weights: a safetensors file or a state dict for the model.
    :param mean: subtracted from images in [0, 1] in front of the model, one number a channel.
    :param std: what they are then divided by.
    :param shape: (C, H, W) to which digits and files of a folder are brought.
    :param labels: the model's output for each class folder.
    :param norm: of the bound.
    :param eps: bounds for images in [0, 1]; the largest is that of the robust accuracy.
    :param attacks: ``standard``, ``fast`` or names of the registry.
    :param n: images.
    :param checks: images for the checks.
    :param detector: a file of a run's detector on this model; joint figures are measured as well.
    :param detector_steps: of the attacks that know the detector.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    data: str
    weights: Path | None = None
    mean: Annotated[tuple[float, ...], BeforeValidator(_parts)] = ()
    std: Annotated[tuple[float, ...], BeforeValidator(_parts)] = ()
    shape: Annotated[tuple[PositiveInt, PositiveInt, PositiveInt] | None, BeforeValidator(_parts)] = None
    labels: Annotated[tuple[NonNegativeInt, ...], BeforeValidator(_parts)] = ()
    norm: Literal["linf", "l2"] = "linf"
    eps: Annotated[tuple[Eps, ...], BeforeValidator(_parts), Field(min_length=1)] = (2 / 255, 8 / 255)
    attacks: str = "standard"
    n: PositiveInt = 1000
    checks: PositiveInt = 64
    detector: Path | None = None
    detector_steps: PositiveInt = 100

    @classmethod
    def parse(cls, **given: Any) -> Options:
        """The options from the strings of a command line; None stands for a default.

        :raises UsageError: for the first that is wrong, by its name.
        """
        try:
            parsed = cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{first['msg'].removeprefix('Value error, ')}, got {first['input']!r}"
            raise UsageError(f"--{first['loc'][0]}: {what}") from error
        if bool(parsed.mean) != bool(parsed.std):
            raise UsageError("--mean and --std belong together")
        return parsed.model_copy(update={"eps": tuple(sorted(set(parsed.eps)))})

    def command(self, seed: int) -> str:
        """The command that asks the same."""
        words = ["advbench", "evaluate", self.model]
        for name, value in self.model_dump(exclude={"model"}, exclude_defaults=True).items():
            words += [
                f"--{name.replace('_', '-')}",
                ",".join(map(number, value)) if isinstance(value, tuple) else str(value),
            ]
        return shlex.join([*words, *(["--seed", str(seed)] if seed else [])])


def floors(given: tuple[str, ...]) -> dict[str, float]:
    """The figures below which the command is to fail, from ``name=number`` each.

    :raises UsageError: for an unknown name or a number outside 0..1.
    """
    found = {}
    for text in given:
        name, _, number = text.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = -1
        if name not in METRICS or not 0 <= found[name] <= 1:
            raise UsageError(
                f"--fail-under takes NAME=NUMBER with NAME of {', '.join(METRICS)} and NUMBER in 0..1, not {text!r}"
            )
    return found
