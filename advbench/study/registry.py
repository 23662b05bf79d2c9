"""What a recipe is, and how it is found: a documented function from a study to results, its presets and its claims."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic

from advbench.errors import UsageError, did_you_mean
from advbench.files import run_file
from advbench.study.claims import Claim, Report
from advbench.study.config import C
from advbench.study.pretrained import Networks, Pretrained
from advbench.study.study import Study

PRESETS = ("quick", "small", "full", "paper")


@dataclass(frozen=True)
class Recipe(Generic[C]):
    """A study that ``advbench recipe NAME`` runs.

    :param dataset: the data set of the report.
    :param embedded_shape: (C, H, W) that the embedded digits are scaled to where they stand in for it.
    :param presets: the config of each of quick, small and paper, and of full where it differs from both.
    :param body: computes the study.
    :param question: what the study asks, in one sentence for a reader who has not read the report.
    :param report: the report that the study reproduces, None where it reproduces none.
    :param claims: of the report, judged by what the study measures.
    :param undecided: presets that are too small to decide a claim, with the reason.
    :param pretrained: how it starts from networks of the zoo, None where it always trains.
    :param file: its path on the command line, empty for an installed recipe.
    """

    name: str
    dataset: str
    embedded_shape: tuple[int, int, int]
    presets: Mapping[str, C]
    body: Callable[[Study[C]], None]
    question: str = ""
    report: Report | None = None
    claims: Sequence[Claim] = ()
    undecided: Mapping[str, str] = field(default_factory=dict)
    pretrained: Pretrained | None = None
    file: str = ""

    def preset(self, name: str) -> C:
        """The config of a preset.

        :raises UsageError: for an unknown one.
        """
        if name not in self.presets:
            raise did_you_mean("preset", name, list(self.presets))
        return self.presets[name]

    def undecided_by(self, preset: str, networks: Networks) -> str:
        """Why a preset decides no claim, with networks of the zoo or without; empty where it does."""
        has_decided = bool(networks) and self.pretrained is not None and self.pretrained.decides
        return "" if has_decided else self.undecided.get(preset, "")


QUICK = {
    "quick": "preset quick trained its networks on small subsets for seconds: figures near chance are to be expected, and it "
    "decides no claim"
}


def recipe(
    name: str,
    dataset: str,
    embedded_shape: tuple[int, int, int],
    presets: Mapping[str, C],
    question: str = "",
    report: Report | None = None,
    claims: Sequence[Claim] = (),
    undecided: Mapping[str, str] = QUICK,
    pretrained: Pretrained | None = None,
) -> Callable[[Callable[[Study[C]], None]], Recipe[C]]:
    """Decorate the function that computes a study; the parameters are those of :class:`Recipe`."""

    def declare(body: Callable[[Study[C]], None]) -> Recipe[C]:
        return Recipe(name, dataset, embedded_shape, presets, body, question, report, claims, undecided, pretrained)

    return declare


def names() -> dict[str, str]:
    """Every installed recipe and the first line of its description, without importing any."""
    found = {name: text for name, (_, text) in _installed().items()}
    for point in entry_points(group="advbench.recipes"):
        found.setdefault(point.name, f"from {point.value}")
    return found


def find(name: str) -> Recipe[Any]:
    """A recipe by name, or by the path of a Python file that declares one.

    :raises UsageError: for an unknown name, or a file without a recipe.
    """
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"no recipe file at {path}")
        return replace(_only_recipe(run_file(path), str(path)), file=name)
    if name in (installed := _installed()):
        module, _ = installed[name]
        return _only_recipe(import_module(module), module)
    if name not in (known := names()):
        raise did_you_mean("recipe", name, list(known))
    (point,) = entry_points(group="advbench.recipes", name=name)
    return point.load()


def every() -> Iterator[Recipe[Any]]:
    """Every recipe of this project, imported."""
    for module, _ in _installed().values():
        yield _only_recipe(import_module(module), module)


def _installed() -> dict[str, tuple[str, str]]:
    """The module and the first line of the docstring of each recipe of this project, by its name."""
    (folder,) = import_module("advbench.recipes").__path__
    found = {}
    for path in sorted(Path(folder).glob("*/__init__.py")):
        tree = ast.parse(path.read_text())
        for decorator in _decorators(tree):
            if isinstance(decorator.func, ast.Name) and decorator.func.id == "recipe":
                text = (ast.get_docstring(tree) or "").split("\n")[0]
                found[ast.literal_eval(decorator.args[0])] = (f"advbench.recipes.{path.parent.name}", text)
    return found


def _decorators(tree: ast.Module) -> Iterator[ast.Call]:
    for part in tree.body:
        if isinstance(part, ast.FunctionDef):
            yield from (decorator for decorator in part.decorator_list if isinstance(decorator, ast.Call))


def _only_recipe(module: Any, place: str) -> Recipe[Any]:
    declared: Collection[Recipe[Any]] = [value for value in vars(module).values() if isinstance(value, Recipe)]
    if len(declared) != 1:
        raise UsageError(f"{place} must declare one recipe, found {len(declared)}")
    (found,) = declared
    return found
