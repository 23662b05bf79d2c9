"""What a recipe is: a documented function from a run to results, a validated config and its presets."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from advbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from advbench.study import Study

PRESETS = ("quick", "small", "paper")


def _fraction(value: Any) -> Any:
    """A number written as a fraction, such as 8/255."""
    if isinstance(value, str) and value.count("/") == 1:
        try:
            numerator, denominator = map(float, value.split("/"))
            return numerator / denominator
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"{value!r} is not a fraction such as 8/255") from error
    return value


Eps = Annotated[float, BeforeValidator(_fraction), Field(gt=0, le=64)]
"""A perturbation bound for images in [0, 1]; may be written 8/255. An l2 bound may exceed 1."""

Unit = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""


class Config(BaseModel):
    """The fields of a recipe; every one can be given as ``--set name=value``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def data_options(self) -> dict[str, Any]:
        """What the recipe's own data set is asked for beyond its name: further arguments of ``data.load``."""
        return {}


@dataclass(frozen=True)
class Recipe:
    """A study that ``advbench recipe NAME`` runs.

    :param dataset: the data set of the report.
    :param embedded_shape: (C, H, W) that the embedded digits are scaled to where they stand in for it.
    :param presets: the config of each of quick, small and paper.
    :param body: computes the study.
    :param question: what the study asks, in one sentence for a reader who has not read the report.
    :param file: the path by which it was asked for, empty for an installed recipe.
    """

    name: str
    dataset: str
    embedded_shape: tuple[int, int, int]
    presets: Mapping[str, Config]
    body: Callable[[Study], None]
    question: str = ""
    file: str = ""


def recipe(
    name: str, dataset: str, embedded_shape: tuple[int, int, int], presets: Mapping[str, Config], question: str = ""
) -> Callable[[Callable[[Study], None]], Recipe]:
    """Decorate the function that computes a study; see ``recipes/detector_cifar.py``."""

    def declare(body: Callable[[Study], None]) -> Recipe:
        return Recipe(name, dataset, embedded_shape, presets, body, question)

    return declare


def names() -> dict[str, str]:
    """Every recipe that is installed and the first line of what it says of itself, without importing any."""
    found = {}
    for path in sorted(_folder().glob("[a-z]*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        found[path.stem.replace("_", "-")] = docstring.split("\n")[0]
    for point in entry_points(group="advbench.recipes"):
        found.setdefault(point.name, f"from {point.value}")
    return found


def find(name: str) -> Recipe:
    """A recipe by name, or by the path of a Python file that declares one.

    :raises UsageError: for an unknown name, or a file without a recipe.
    """
    if name.endswith(".py"):
        return _from_file(Path(name))
    if name not in (known := names()):
        raise did_you_mean("recipe", name, list(known))
    file = _folder() / f"{name.replace('-', '_')}.py"
    if file.is_file():
        return _only_recipe(import_module(f"advbench.recipes.{file.stem}"), file)
    (point,) = entry_points(group="advbench.recipes", name=name)
    return point.load()


def configure(recipe: Recipe, preset: str, settings: tuple[str, ...]) -> Config:
    """The config of a preset with ``key=value`` settings put over it.

    :raises UsageError: for an unknown preset or key, or a value of the wrong type or range.
    """
    if preset not in recipe.presets:
        raise did_you_mean("preset", preset, list(recipe.presets))
    base = recipe.presets[preset]
    values = base.model_dump()
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set takes key=value, not {setting!r}")
        if name not in (known := _places(values)):
            raise did_you_mean("setting", name, list(known))
        fields, key = known[name]
        parsed = _parse(text)
        several = isinstance(fields[key], (tuple, list))  # a list where an earlier setting stands
        fields[key] = [parsed] if several and not isinstance(parsed, list) else parsed
    try:
        return type(base)(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"--set {place}: {first['msg'].removeprefix('Value error, ')}, got {first['input']!r}"
        ) from error


def _places(values: dict[str, Any], prefix: str = "") -> dict[str, tuple[dict[str, Any], str]]:
    """Every setting by its name, a dot before those of a config inside the config, and where its value is."""
    found = {}
    for key, value in values.items():
        found[prefix + key] = (values, key)
        if isinstance(value, dict):
            found |= _places(value, f"{prefix}{key}.")
    return found


def digest(config: Mapping[str, Any]) -> str:
    """Eight hex digits that name a whole configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]


def _parse(text: str) -> Any:
    """A JSON value, a comma-separated list or the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return [_parse(part) for part in text.strip("[]").split(",")] if "," in text or text.startswith("[") else text


def _folder() -> Path:
    (folder,) = import_module("advbench.recipes").__path__
    return Path(folder)


def _from_file(path: Path) -> Recipe:
    if not path.is_file():
        raise UsageError(f"no recipe file at {path}")
    module = ModuleType(f"advbench_recipe_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where pydantic looks up the names in annotations
    try:
        # not importlib: its bytecode cache may be stale
        exec(compile(path.read_text(), str(path), "exec"), vars(module))  # noqa: S102 the user named this file
    except Exception as error:
        raise UsageError(f"{path} does not import: {type(error).__name__}: {error}") from error
    return replace(_only_recipe(module, path), file=str(path))


def _only_recipe(module: Any, path: Path) -> Recipe:
    declared = [value for value in vars(module).values() if isinstance(value, Recipe)]
    if len(declared) != 1:
        raise UsageError(f"{path} must declare one recipe, found {len(declared)}")
    return declared[0]
