"""The options of ``advbench evaluate``, checked before anything slow is imported."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Collection, Mapping, Sequence
from math import inf, prod
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_serializer,
    model_validator,
)

from advbench.errors import UsageError, did_you_mean, wrong_value
from advbench.files import read_bytes
from advbench.study.config import Fraction, number

METRICS = (
    *("robust_accuracy", "clean_accuracy", "checks_passed", "joint_accuracy"),
    *("accuracy_in_8_bits", "one_draw_accuracy", "certified_accuracy"),
    *("auroc", "aupr", "tpr_at_1_fpr", "tpr_at_5_fpr"),
    *("mean_corruption_accuracy", "rotation_accuracy"),
)
"""The figures, besides those of the table, that a floor can be set for."""


DEFAULT_EPS = {"linf": (2 / 255, 8 / 255), "l2": (0.25, 0.5), "l1": (6.0, 12.0), "l0": (8.0, 24.0)}
"""Bounds by norm; those of l1 and l2 are common for 32 x 32 images."""

_MOST_VALUES = 10**8  # of an image; a thousand of them would not fit on most disks

Norm = Literal["linf", "l2", "l1", "l0"]
Access = Literal["gradients", "scores", "labels"]


def _parts(value: Any) -> Any:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    value = value.tolist() if hasattr(value, "tolist") else value  # of NumPy or torch
    return [value] if isinstance(value, Real) else value


def _norm(value: Any) -> Any:
    """ART and foolbox write a norm as a number, RobustBench as Linf."""
    if isinstance(value, Real):
        return {inf: "linf", 2: "l2", 1: "l1", 0: "l0"}.get(float(value), value)
    return {"inf": "linf"}.get(value.lower(), value.lower()) if isinstance(value, str) else value


def _norms(value: Any) -> Any:
    found = _parts(value)
    return list(dict.fromkeys(map(_norm, found))) if isinstance(found, (list, tuple)) else found


def _bounds(value: Any, info: ValidationInfo) -> Any:
    """Bounds by norm; in ``linf:2/255,8/255,l2:0.5`` a number belongs to the norm before it. A norm without has its defaults."""
    if not (norms := info.data.get("norm")):  # wrong itself, which is reported
        return {}
    given: dict[str, list[Any]] = {}
    if isinstance(value, Mapping):
        given = {_norm(name): _parts(numbers) for name, numbers in value.items()}
    else:
        norm = norms[0] if len(norms) == 1 else None
        for part in _parts(value):
            if isinstance(part, str) and ":" in part:
                name, _, part = part.partition(":")
                norm = _norm(name)
            if norm is None:
                raise ValueError("several norms take theirs by name, such as linf:8/255,l2:0.5")
            given.setdefault(norm, []).append(part)
        if not given:
            raise ValueError("it must hold a number")
    if other := [name for name in given if name not in norms]:
        raise ValueError(f"{other[0]} is not among the norms of --norm {','.join(norms)}")
    return {norm: given.get(norm, DEFAULT_EPS[norm]) for norm in norms}


_LIST = BeforeValidator(_parts)
Bound = Annotated[Fraction, Field(gt=0)]


def stage_at(name: str, eps: float) -> str:
    """The name of a stage of an attack at an eps, in letters that every file system takes."""
    return f"{name}-{number(eps).replace('/', '-of-')}"


def name_of(value: Any) -> str:
    """The name of a model or of data, which may be objects, in a sentence."""
    if isinstance(value, (str, Path)):
        return str(value)
    if isinstance(value, tuple):
        return "(x, y)" if len(value) == 2 else f"tuple of {len(value)}"
    name = getattr(value, "name", None) or getattr(value, "__name__", None)
    return name if isinstance(name, str) else type(value).__name__


class Options(BaseModel):
    """One evaluation: the options of the command with their descriptions. Text with commas is a list.

    In Python ``model`` and ``data`` may also be objects, see :func:`advbench.evaluate`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Any = Field(description="See advbench.models.find.find.")
    data: Any = Field(description="A name from 'advbench list data', a folder of class folders, or an .npz.")
    weights: Path | None = Field(
        None, description="A safetensors file or a state dict for the model; FILE:NAME for one of several."
    )
    outputs: Literal["logits", "probabilities", "log-probabilities", "sigmoid", "log-sigmoid"] | None = Field(
        None,
        description="What the model returns: logits (default), probabilities, log-probabilities, sigmoid (a probability "
        "of its own a class) or log-sigmoid (its logarithm); converted so that the figures are those of the logits.",
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
    norm: Annotated[tuple[Norm, ...], BeforeValidator(_norms), Field(min_length=1)] = Field(
        ("linf",),
        description="The norm of the bound: linf (default), l2, l1, or l0 (the number of changed values); several, such as "
        "linf,l2, for each and their union.",
    )
    eps: Annotated[dict[Norm, Annotated[tuple[Bound, ...], Field(min_length=1)]], BeforeValidator(_bounds)] = Field(
        {"linf": DEFAULT_EPS["linf"]},
        description="Bounds for images in [0, 1], by default 2/255,8/255, in l2 0.25,0.5, in l1 6,12, in l0 8,24; of several "
        "norms linf:8/255,l2:0.25,0.5. The robust accuracy is that at the largest.",
    )
    attacks: str = Field(
        "standard",
        description="standard (default), fast, or comma-separated names from 'advbench list attacks' and of other libraries: "
        "art:SquareAttack(max_iter=500), foolbox:L2CarliniWagnerAttack, torchattacks:MIFGSM.",
    )
    access: Access = Field(
        "gradients",
        description="What the attacker sees of the model: gradients (default), scores (its outputs alone) or labels.",
    )
    n: PositiveInt | None = Field(1000, description="The number of images, drawn at random; by default 1000.")
    checks: PositiveInt = Field(64, description="The number of these for the checks; by default 64.")
    detector: Annotated[Any, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)] = Field(
        None,
        description="Adds figures of model and detector: a detector of a run, models/detector-NAME.safetensors, or "
        "file.py:function from images (N, C, H, W) to scores (N,), an nn.Module or an ART detector.",
    )
    detector_steps: PositiveInt = Field(100, description="Steps of the attacks that know the detector; by default 100.")
    smoothing: Annotated[Fraction, Field(gt=0)] | None = Field(
        None,
        description="Evaluate the model with Gaussian noise of this standard deviation on its images, 0.25 for one, and certify it "
        "by randomized smoothing; for a model that was trained with such noise.",
    )
    budget: PositiveInt | None = Field(
        None,
        description="At most so many forward and backward passes an image, over all attacks: longer attacks are shortened, left "
        "out or stopped, and that is said. Checks and a detector are not counted.",
    )
    backward: Any = Field(
        None,
        description="Where steps of the model have no gradient: identity, which puts the identity in the place of their "
        "gradient, or file.py:function, a differentiable stand-in (model, images) -> logits. Outputs stay the model's own.",
    )
    battery: Annotated[tuple[Literal["corruptions", "rotations"], ...], _LIST] = Field(
        (),
        description="Besides the attacks: corruptions, the 15 of ImageNet-C at 5 severities, which need "
        "imagecorruptions-imaug; rotations, the worst of a grid of angles and shifts; or both.",
    )
    keep_images: bool = Field(False, description="Keep the adversarial images in the run directory.")

    @model_validator(mode="before")
    @classmethod
    def _fit_the_defaults(cls, given: Any) -> Any:
        """Bounds that fit the norm, and all images where they are given."""
        defaults: dict[str, Any] = {"eps": {}}
        if not isinstance(given.get("data", ""), (str, Path)):
            defaults["n"] = None
        return {**defaults, **given}

    @field_serializer("model", "data", "backward", "detector")
    def _name(self, value: Any) -> str | None:
        return None if value is None else name_of(value)

    @field_serializer("norm", "eps")
    def _only(self, value: Any) -> Any:
        """Those of a single norm are written without its name."""
        if len(value) > 1:
            return value
        return value[0] if isinstance(value, tuple) else next(iter(value.values()))

    @classmethod
    def parse(cls, **given: Any) -> Options:
        """The options from the strings of a command line, or from objects; None stands for a default.

        :raises UsageError: for the first that is wrong, by its name.
        """
        for name, value in given.items():
            if isinstance(value, bool) and name in cls.model_fields and cls.model_fields[name].annotation is not bool:
                raise UsageError(f"--{name.replace('_', '-')} is a number or a name, got {value}")
        try:
            parsed = cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            name = f"--{str(first['loc'][0]).replace('_', '-')}"
            if first["type"] == "missing" and len(first["loc"]) == 1:
                raise UsageError(f"{'MODEL' if name == '--model' else name} is missing") from error
            raise wrong_value(name, error) from error
        if bool(parsed.mean) != bool(parsed.std):
            raise UsageError("--mean and --std belong together")
        if parsed.shape and prod(parsed.shape) > _MOST_VALUES:
            raise UsageError(
                f"--shape {','.join(map(str, parsed.shape))}: an image of more than {_MOST_VALUES:,} values"
            )
        if (largest := max(parsed.eps.get("linf", (0,)))) >= 1:
            raise UsageError(
                f"--eps {largest:g}: within it any image in [0, 1] may become any other; for grey levels write {largest:g}/255"
            )
        if parts := [eps for eps in parsed.eps.get("l0", ()) if eps != int(eps)]:
            raise UsageError(f"--eps {parts[0]:g}: in l0 it is a number of values, such as 24")
        if parsed.detector is None and "detector_steps" in parsed.model_fields_set:
            raise UsageError("--detector-steps needs a --detector")
        return parsed.model_copy(update={"eps": {norm: tuple(sorted(set(eps))) for norm, eps in parsed.eps.items()}})

    @property
    def _objects(self) -> tuple[Any, Any]:
        return self.backward, self.detector

    @property
    def in_memory(self) -> bool:
        """Whether the model or the data are objects, which no command line can name."""
        return not all(isinstance(each, (str, Path, type(None))) for each in (self.model, self.data, *self._objects))

    def command(self, seed: int) -> str:
        """The command line with these options, or the call in Python."""
        hidden = {"model", "data", *(["norm"] if self.norm == type(self).model_fields["norm"].default else [])}
        dumped = self.model_dump(exclude=hidden, exclude_defaults=True)
        changed = {name: value for name, value in dumped.items() if value is not None}
        if self.in_memory:
            options = {**changed, **({"seed": seed} if seed else {})}
            given = [value if isinstance(value, str) else name_of(value) for value in (self.model, self.data)]
            return f"advbench.evaluate({', '.join([*given, *(f'{name}={_written(each)}' for name, each in options.items())])})"
        words = ["advbench", "evaluate", str(self.model), "--data", str(self.data)]
        for name, value in changed.items():
            words.append(f"--{name.replace('_', '-')}")
            if value is not True:
                words.append(_text(value))
        return shlex.join([*words, *(["--seed", str(seed)] if seed else [])])


def _text(value: Any) -> str:
    """An option as a person writes it on a command line."""
    if isinstance(value, dict):
        return ",".join(f"{name}:{_text(each)}" for name, each in value.items())
    return (
        ",".join(map(_text, value))
        if isinstance(value, tuple)
        else number(value)
        if isinstance(value, float)
        else str(value)
    )


def _written(value: Any) -> str:
    """An option as a person writes it in Python."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {_written(each)}' for name, each in value.items())}}}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, (int, float)):
        return number(value) if isinstance(value, float) else str(value)
    return repr(str(value) if isinstance(value, Path) else value)


def read_config(path: Path) -> dict[str, Any]:
    """The options in a TOML file, by name; ``detector-steps`` and ``detector_steps`` are the same.

    :raises UsageError: for a file that cannot be read, is no TOML, or has something that is no option.
    """
    try:
        content = tomllib.loads(read_bytes(path).decode())
    except (OSError, ValueError) as error:
        raise UsageError(f"--config {path} cannot be read: {error}") from error
    found = {name.replace("-", "_"): value for name, value in content.items()}
    if len(found) < len(content):
        twice = next(name for name in content if "-" in name and name.replace("-", "_") in content)
        raise UsageError(f"--config {path} gives {twice} twice")
    if unknown := [name for name in found if name not in Options.model_fields]:
        raise did_you_mean(f"option in {path}", unknown[0], list(Options.model_fields))
    return found


def floors(given: tuple[str, ...], attacks: Collection[str] = (), eps: Sequence[float] = ()) -> dict[str, float]:
    """The figures below which the command is to fail, from ``name=number`` or ``name@eps=number`` each.

    :param attacks: of the table, which are names too.
    :param eps: the bounds that a name may have.
    :return: by ``name`` or ``name@eps``, as :func:`advbench.evaluation.exhibits.figures` names them.
    :raises UsageError: for an unknown name, a bound that is not attacked, or a number outside 0..1.
    """
    found = {}
    bounds = {number(bound): bound for bound in eps}
    for text in given:
        name, _, floor = text.rpartition("=")
        name, at, bound = name.rpartition("@") if "@" in name else (name, "", "")
        try:
            value = float(floor)
            at += number(TypeAdapter(Fraction).validate_python(bound)) if at else ""
        except ValueError:
            value = -1
        if (name not in METRICS and name not in attacks) or not 0 <= value <= 1:
            known = ", ".join([*METRICS, *attacks])
            raise UsageError(
                f"--fail-under takes NAME=NUMBER or NAME@EPS=NUMBER with NAME of {known} and NUMBER in 0..1, not {text!r}"
            )
        if at and (at[1:] not in bounds or name == "checks_passed"):
            raise UsageError(f"--fail-under {text}: {name} is not measured at that eps, only at {', '.join(bounds)}")
        found[f"{name}{at}"] = value
    return found
