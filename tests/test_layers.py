"""The rooms and their order: a module imports from rooms before its own, and no import leads back to where it began."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import advbench
from advbench import recipes

LOOSE = ["errors", "progress", "seeds", "files", "device", "checks", "checkpoint", "loop"]
ROOMS = [
    *("data", "models", "estimators", "attacks", "detectors", "trainers", "preprocessors", "metrics"),
    *("study", "report", "evaluation", "recipes", "cli"),
]
ORDER = [*LOOSE, *ROOMS]


def modules():
    """Every module of the package by its name, and its file."""
    (folder,), (own,) = advbench.__path__, recipes.__path__
    for root, package in ((Path(folder), "advbench"), (Path(own), "advbench.recipes")):
        for path in root.rglob("*.py"):
            parts = [part for part in path.relative_to(root).with_suffix("").parts if part != "__init__"]
            yield ".".join([package, *parts]), path


def imports(name, path, known):
    """What a module imports of the package, wherever in it and also for type checkers alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "advbench":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module


@pytest.fixture(scope="module")
def graph():
    known = dict(modules())
    found = {name: set(imports(name, path, known)) - {name, "advbench"} for name, path in known.items()}
    assert len(found) > 100 and sum(map(len, found.values())) > 300
    return found


def room(module):
    return module.split(".")[1] if "." in module else ""


def against_the_order(graph):
    return sorted(
        f"{name} imports {other}"
        for name, others in graph.items()
        for other in others
        if room(name) in ORDER and ORDER.index(room(other)) > ORDER.index(room(name))
    )


def circle(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_nothing_imports_against_the_order(graph):
    assert against_the_order(graph) == []


def test_no_import_leads_back_to_where_it_began(graph):
    assert circle(graph) is None


def test_an_import_against_the_order_or_in_a_circle_is_found(graph):
    wrong = {**graph, "advbench.models.registry": {*graph["advbench.models.registry"], "advbench.attacks.registry"}}
    assert against_the_order(wrong) == ["advbench.models.registry imports advbench.attacks.registry"]
    wrong = {**graph, "advbench.study.config": {*graph["advbench.study.config"], "advbench.study.execution"}}
    assert "advbench.study.config" in circle(wrong)


def test_at_most_eight_modules_are_loose():
    (folder,) = advbench.__path__
    assert {path.stem for path in Path(folder).glob("*.py")} - {"__init__", "__main__"} <= set(LOOSE)
    assert len(LOOSE) <= 8


def test_every_room_is_in_the_order():
    (folder,) = advbench.__path__
    assert {path.name for path in Path(folder).iterdir() if (path / "__init__.py").exists()} | {"recipes"} == set(ROOMS)
