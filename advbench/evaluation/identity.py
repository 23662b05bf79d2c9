"""What makes two evaluations the same beyond options, weights and images: the code of the model, and its outputs."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np
from torch import nn

from advbench.data.find import Images
from advbench.errors import UsageError
from advbench.estimators import TorchClassifier, averaged_part
from advbench.files import imported, is_users
from advbench.seeds import own_global_state
from advbench.study.run import Run

_PROBED = 16  # images
_TOLERANCE = 1e-3  # of the largest output: other processors round otherwise


def own_modules(name: str, module: nn.Module) -> dict[str, ModuleType]:
    """The modules of the user's own that a model is made of, by the name that Python has for them.

    :param name: of the model, as the user wrote it; its file or package and what these import are followed, installed
        packages are not.
    """
    source = name.rpartition(":")[0]
    first = f"advbench_file_{Path(source).stem}" if source.endswith(".py") else source  # as run_file names it
    todo = [first, *(type(part).__module__ for part in module.modules())]
    found: dict[str, ModuleType] = {}
    while todo:
        each = sys.modules.get(todo.pop())
        if each is None or each.__name__ in found or (path := _own_file(each)) is None:
            continue
        found[each.__name__] = each
        todo.append(each.__name__.rpartition(".")[0])
        with suppress(SyntaxError, ImportError):  # of a file that has changed since it was imported
            todo += imported(ast.parse(path.read_bytes()), each.__package__ or "")
        for value in list(vars(each).values()):
            other = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(other, str):
                todo.append(other)
    return dict(sorted(found.items()))


def code(own: Mapping[str, ModuleType]) -> dict[str, str]:
    """The first 16 hex digits of the SHA-256 of each file of :func:`own_modules`; a file by its own name."""
    found = {}
    for name, each in own.items():
        path = _own_file(each)
        assert path is not None
        shown = path.name if name.startswith("advbench_file_") else name
        found[shown] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found


def _own_file(module: ModuleType) -> Path | None:
    """The source of a module of the user's own."""
    file = getattr(module, "__file__", None)
    path = Path(file).resolve() if file else None
    return path if path and path.suffix == ".py" and path.is_file() and is_users(str(path)) else None


def probe(run: Run, classifier: TorchClassifier, pictures: Images, seed: int) -> None:
    """Compare the model's outputs on the first images with those that the run keeps.

    :raises UsageError: if they differ: something that neither the weights nor the known code contain has changed.
    """
    with own_global_state(seed):
        found = classifier.predict(pictures.x[:_PROBED])
    before = run.arrays("probe", lambda: {"outputs": found})["outputs"]
    if averaged_part(classifier.model):
        return  # it answers otherwise each time
    if found.shape != before.shape or np.abs(found - before).max() > _TOLERANCE * np.abs(before).max():
        raise UsageError(
            f"{run.directory} holds figures of a model that gave other outputs, although its weights and files are the same: "
            "something else that it reads or imports has changed; choose another --out"
        )
