"""The options of ``advbench evaluate``, checked before anything slow is imported."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from advbench.errors import UsageError
from advbench.study.config import Eps, Fraction, number

METRICS = ("robust_accuracy", "clean_accuracy", "checks_passed", "joint_accuracy")
"""The figures that a floor can be set for."""


def _parts(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


_LIST = BeforeValidator(_parts)
DEFAULT_EPS = {"linf": (2 / 255, 8 / 255), "l2": (0.25, 0.5)}


def stage_at(name: str, eps: float) -> str:
    """The name of a stage of an attack at an eps, in letters that every file system takes."""
    return f"{name}-{number(eps).replace('/', '-of-')}"


class Options(BaseModel):
    """One evaluation: the options of the command with their descriptions. Text with commas is a list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="See advbench.models.find.find.")
    data: str = Field(description="A name from 'advbench list data', a folder of class folders, or an .npz.")
    weights: Path | None = Field(
        None, description="A safetensors file or a state dict for the model; FILE:NAME for one of several."
    )
    outputs: Literal["logits", "probabilities", "log-probabilities", "sigmoid"] | None = Field(
        None,
        description="What the model returns: logits (default), probabilities, log-probabilities or sigmoid (a probability "
        "of its own a class); converted so that the figures are those of the logits.",
    )
    mean: Annotated[tuple[Fraction, ...], _LIST] = Field(
        (), description="Subtracted from images in [0, 1] in front of the model, such as 0.485,0.456,0.406."
    )
    std: Annotated[tuple[Fraction, ...], _LIST] = Field(
        (), description="The images are then divided by it; may be written 1/255."
    )
    shape: Annotated[tuple[PositiveInt, PositiveInt, PositiveInt] | None, _LIST] = Field(
        None, description="C,H,W of the model, to which digits and the files of a folder are scaled and cropped."
    )
    labels: Annotated[tuple[NonNegativeInt, ...], _LIST] = Field(
        (),
        description="The model's output for each class folder, in alphabetical order, or numeric if all are numbers; by default 0,1,2,...",
    )
    norm: Literal["linf", "l2"] = Field("linf", description="The norm of the bound: linf (default) or l2.")
    eps: Annotated[tuple[Eps, ...], _LIST, Field(min_length=1)] = Field(
        DEFAULT_EPS["linf"],
        description="Bounds for images in [0, 1], by default 2/255,8/255, in l2 0.25,0.5; the robust accuracy is that at "
        "the largest.",
    )
    attacks: str = Field(
        "standard", description="standard (default), fast, or comma-separated names from 'advbench list attacks'."
    )
    n: PositiveInt = Field(1000, description="The number of images, drawn at random; by default 1000.")
    checks: PositiveInt = Field(64, description="The number of these for the checks; by default 64.")
    detector: Path | None = Field(
        None, description="A detector of a run, models/detector-NAME.safetensors: adds figures of model and detector."
    )
    detector_steps: PositiveInt = Field(100, description="Steps of the attacks that know the detector; by default 100.")

    @model_validator(mode="before")
    @classmethod
    def _fit_eps_to_the_norm(cls, given: Any) -> Any:
        default = DEFAULT_EPS.get(given.get("norm", "linf"))
        return given if "eps" in given or default is None else {**given, "eps": default}

    @classmethod
    def parse(cls, **given: Any) -> Options:
        """The options from the strings of a command line; None stands for a default.

        :raises UsageError: for the first that is wrong, by its name.
        """
        try:
            parsed = cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            message = f"{first['msg'].removeprefix('Value error, ')}, got {first['input']!r}"
            raise UsageError(f"--{first['loc'][0]}: {message}") from error
        if bool(parsed.mean) != bool(parsed.std):
            raise UsageError("--mean and --std belong together")
        if parsed.norm == "linf" and (largest := max(parsed.eps)) >= 1:
            raise UsageError(
                f"--eps {largest:g}: within it any image in [0, 1] may become any other; for grey levels write {largest:g}/255"
            )
        if parsed.detector is None and "detector_steps" in parsed.model_fields_set:
            raise UsageError("--detector-steps needs a --detector")
        return parsed.model_copy(update={"eps": tuple(sorted(set(parsed.eps)))})

    def command(self, seed: int) -> str:
        """The command line with these options."""
        words = ["advbench", "evaluate", self.model]
        for name, value in self.model_dump(exclude={"model"}, exclude_defaults=True).items():
            text = ",".join(map(number, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{name.replace('_', '-')}", text]
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
