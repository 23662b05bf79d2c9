"""The model of an evaluation: from a callable, torchvision, timm or a run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from advbench import models
from advbench.errors import UsageError, did_you_mean
from advbench.files import check_tree, first_line, import_from, run_file, user_code
from advbench.models import zoo
from advbench.models.weights import State, fill, read, renamed

FORMS = "file.py:callable, package.module:callable, torchvision:NAME, timm:NAME, zoo:NAME, a run directory or runs/NAME:model"


@dataclass(frozen=True)
class Network:
    """A model and its published preprocessing.

    :param module: images (N, C, H, W) -> logits, before ``--mean`` and ``--std``.
    :param shape: (C, H, W) of its images, None where it does not say.
    :param mean: subtracted from images in [0, 1] by its publisher, per channel; empty where the model does that itself.
    :param std: they are then divided by it.
    :param notes: which part of a file its weights are, one sentence each.
    :raises UsageError: for a module with a part that has no hash, which PyTorch cannot switch to eval mode.
    """

    module: nn.Module
    shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            list(self.module.modules())
        except TypeError as error:
            raise UsageError(
                f"PyTorch cannot list the parts of the model: {first_line(error)}; a module class that defines __eq__, as "
                "a dataclass does, needs __hash__ = nn.Module.__hash__ too"
            ) from error


def find(name: str, weights: Path | None = None) -> Network:
    """The model of that name, with the weights of a file where one is given.

    :raises UsageError: for a name of no known form, a callable that is missing, needs arguments, fails or returns no
        ``nn.Module``, a missing package, or weights that cannot be read or are another network's.
    """
    source, _, part = name.rpartition(":")
    if source == "torchvision":
        return _torchvision(part, weights)
    if source == "timm":
        return _timm(part, weights)
    if source == "zoo":
        found = _of_file(zoo.path(part, "classifier"))
    elif name and Path(name).is_dir():
        found = _of_run(Path(name), "classifier")
    elif source and Path(source).is_dir():
        found = _of_run(Path(source), part)
    elif source and part.isidentifier():
        found = Network(_module(member(name), name))
    else:
        raise UsageError(f"MODEL must be {FORMS}; found {name!r}")
    if weights is None:
        return found
    return replace(found, notes=fill(found.module, read(weights), weights))


def _torchvision(name: str, weights: Path | None) -> Network:
    from torchvision.models import get_model, get_model_weights, list_models

    known = list_models(module=import_module("torchvision.models"))
    if name not in known:
        raise did_you_mean("torchvision classifier", name, _nearest(name, known))
    published = getattr(get_model_weights(name), "DEFAULT", None)
    options = {"weights": published} if weights is None else {}
    module, notes = _of_library(f"torchvision:{name}", partial(get_model, name, **options), weights)
    if published is None:
        return Network(module, notes=notes)
    transforms = published.transforms()
    size = transforms.crop_size[0]
    return Network(module, (3, size, size), tuple(transforms.mean), tuple(transforms.std), notes)


def _timm(name: str, weights: Path | None) -> Network:
    try:
        import timm
    except ImportError as error:
        raise UsageError("timm:NAME needs the package timm: pip install timm") from error
    if not timm.is_model(name):
        raise did_you_mean("timm model", name, _nearest(name, timm.list_models()))
    make = partial(timm.create_model, name, pretrained=weights is None)
    module, notes = _of_library(f"timm:{name}", make, weights)
    published: Any = module.pretrained_cfg
    return Network(module, tuple(published["input_size"]), tuple(published["mean"]), tuple(published["std"]), notes)


def _of_library(name: str, make: Callable[..., nn.Module], weights: Path | None) -> tuple[nn.Module, tuple[str, ...]]:
    """The network with its published weights, or with those of a file, and notes on the file."""
    if weights is not None:
        state, classes = _of_head(make, read(weights), name, weights)
        module = make(num_classes=classes)
        for part, child in list(module.named_children()):
            is_absent = next(child.parameters(), None) is not None and not any(k.startswith(f"{part}.") for k in state)
            if part.lower().startswith("aux") and is_absent:  # a head that only a training uses
                setattr(module, part, None)
                setattr(module, "aux_logits", False)  # noqa: B010 a type checker takes it for a tensor
        return module, fill(module, state, weights)
    try:
        return make(), ()
    except Exception as error:  # every library has its own errors for a network that is not there
        raise UsageError(
            f"the published weights of {name} could not be had ({first_line(error)}); give a file with --weights"
        ) from error


def _of_head(make: Callable[..., nn.Module], state: State, name: str, path: Path) -> tuple[State, int]:
    """The weights under the library's names, and the length of their head: of the tensors that depend on the classes."""
    try:
        with torch.device("meta"):
            few, more = (make(num_classes=classes).state_dict() for classes in (2, 3))
    except Exception:  # some networks compute with their weights when they are made
        few, more = (make(num_classes=classes).state_dict() for classes in (2, 3))
    state = renamed(state, few)
    heads = [key for key in few if few[key].shape != more[key].shape]
    for key in heads:
        if key in state and state[key].ndim == few[key].ndim:
            axis = next(i for i, size in enumerate(few[key].shape) if size != more[key].shape[i])
            return state, int(state[key].shape[axis])
    raise UsageError(
        f"{path} holds the weights of another network than {name}: it has no head {' or '.join(heads[:2])}"
    )


def _of_run(run: Path, name: str) -> Network:
    check_tree(run)
    names = sorted(path.stem for path in (run / "models").glob("*.safetensors"))
    if not names:
        raise UsageError(f"{run} is not a run directory with models")
    if name not in names:
        raise did_you_mean(f"model in {run}", name, names)
    return _of_file(run / "models" / f"{name}.safetensors")


def _of_file(path: Path) -> Network:
    module, spec = models.load(path)
    return Network(module, spec.input_shape)


def _package(name: str) -> ModuleType:
    import_from(Path.cwd(), [name])
    with user_code(name, "does not import"):
        return import_module(name)


def member(name: str) -> Any:
    """What ``file.py:callable`` or ``package.module:callable`` names.

    :raises UsageError: for a name of another form, a file or package that does not import, or one without such a member.
    """
    source, _, part = name.rpartition(":")
    if not (source and part.isidentifier()):
        raise UsageError(f"{name!r} is not of the form file.py:callable or package.module:callable")
    namespace = run_file(Path(source)) if source.endswith(".py") else _package(source)
    if not hasattr(namespace, part):
        raise did_you_mean(
            f"callable in {source}",
            part,
            [known for known, value in vars(namespace).items() if callable(value) and not known.startswith("_")],
        )
    return getattr(namespace, part)


def _module(found: Any, name: str) -> nn.Module:
    if not isinstance(found, nn.Module):
        found = _call(found, name)
    if not isinstance(found, nn.Module):
        raise UsageError(f"{name} is a {type(found).__name__}, not an nn.Module or a function that returns one")
    return found


def _call(function: Any, name: str) -> Any:
    if not callable(function):
        return function
    needed = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise UsageError(f"{name} needs arguments ({', '.join(needed)}); name a function that needs none and calls it")
    with user_code(name):
        return function()


def _nearest(name: str, known: list[str]) -> list[str]:
    return get_close_matches(name, known, n=5, cutoff=0)  # the whole list would not be one clear line
