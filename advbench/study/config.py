"""The config of a study: validated fields, and ``key=value`` settings put over a preset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from advbench.errors import UsageError, did_you_mean, wrong_value


def _fraction(value: Any) -> Any:
    """A number written as a fraction, such as 8/255."""
    if isinstance(value, str) and value.count("/") == 1:
        try:
            numerator, denominator = map(float, value.split("/"))
            return numerator / denominator
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"{value!r} is not a fraction such as 8/255") from error
    return value


Fraction = Annotated[float, BeforeValidator(_fraction), Field(allow_inf_nan=False)]
"""A finite number; may be written 1/255."""


def number(value: float) -> str:
    """The number as a person writes it: 8/255 for 0.0313725490196, 0.5/255 for half a grey level, 0 for 0.0."""
    halves, plain = value * 510, str(value) if value else "0"  # repr names the type of NumPy's numbers
    is_fraction = 0 < value < 1 and abs(halves - round(halves)) < 1e-9 and len(plain) > len("0.0125")
    return f"{round(halves) / 2:g}/255" if is_fraction else plain


Eps = Annotated[float, BeforeValidator(_fraction), Field(gt=0, le=64)]
"""A perturbation bound for images in [0, 1]; may be written 8/255. An l2 bound may exceed 1."""

EpsGrid = Annotated[tuple[Eps, ...], Field(min_length=1)]
"""One or more of these bounds."""

Unit = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""


class Config(BaseModel):
    """The fields of a recipe; each can be given as ``--set name=value``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grows: ClassVar[tuple[str, ...]] = ()
    """Numbers that only add stages: a run directory goes on when one of them is larger than before."""

    def data_options(self) -> dict[str, Any]:
        """Further arguments of ``data.load`` for the recipe's own data set."""
        return {}


class FromZoo(Config):
    """The config of a study that can start from networks that were trained before."""

    weights: Literal["zoo", "base", "train"] = Field(
        "train",
        description="zoo: take the networks that come with advbench, on the data of the report, and leave out what it lacks; "
        "base: take those that the others stand on, such as the classifier of detectors, and train the others; "
        "train: train all",
    )


C = TypeVar("C", bound=Config)
D = TypeVar("D", bound=Config)


def configure(preset: C, settings: tuple[str, ...]) -> C:
    """The config of a preset with ``key=value`` settings put over it.

    :raises UsageError: for an unknown key, or a value of the wrong type or range.
    """
    values = preset.model_dump()
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set takes key=value, not {setting!r}")
        if name not in (known := _places(values)):
            raise did_you_mean("setting", name, list(known))
        fields, key = known[name]
        parsed = _parse(text)
        several = isinstance(fields[key], (tuple, list))  # a list where an earlier setting replaced the tuple
        fields[key] = [parsed] if several and not isinstance(parsed, list) else parsed
    try:
        return type(preset)(**values)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise wrong_value(f"--set {place}".rstrip(), error) from error  # a rule on several fields has no place


def changes(first: Config, other: Config) -> str:
    """The settings in which one config differs from another of its type, as a person writes them."""
    before, after = _places(first.model_dump()), _places(other.model_dump())
    new = {
        name: fields[key] for name, (fields, key) in after.items() if fields[key] != before[name][0][before[name][1]]
    }
    return "; ".join(f"{name} = {_written(value)}" for name, value in new.items() if not isinstance(value, dict))


def _written(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_written, value))
    return number(value).removesuffix(".0") if isinstance(value, float) else str(value)


def digest(config: Mapping[str, Any]) -> str:
    """Eight hex digits that name a whole configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]


def _places(values: dict[str, Any], prefix: str = "") -> dict[str, tuple[dict[str, Any], str]]:
    """The dict and the key of every setting, by its name; a dot stands before the fields of a config in the config."""
    found = {}
    for key, value in values.items():
        found[prefix + key] = (values, key)
        if isinstance(value, dict):
            found |= _places(value, f"{prefix}{key}.")
    return found


def _parse(text: str) -> Any:
    """A JSON value, a comma-separated list or the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return [_parse(part) for part in text.strip("[]").split(",")] if "," in text or text.startswith("[") else text
