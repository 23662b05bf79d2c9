"""Weights from a file into a network, without unpickling code."""

from __future__ import annotations

import pickle
import pickletools
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # torch.save writes the names of Python 2
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from advbench.errors import UsageError
from advbench.files import first_line

_CONTAINERS = ("", "state_dict", "model_state_dict", "model", "net")
_AVERAGES = ("ema", "swa", "average")
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
_COUNTERS = ("n_averaged",)  # of torch.optim.swa_utils, beside the weights
_LEGACY_PICKLES = 4  # of a file that torch.save wrote before PyTorch 1.6: magic number, protocol, system, object
_DEPTH = 3
_FORMATS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"\x89HDF": "HDF5",
}
_STAND_INS: dict[str, Callable[..., Any]] = {  # of containers, which torch fills after it has made them
    "collections.defaultdict": lambda *_: {},
    "collections.deque": lambda *_: [],
}
_NUMBER = re.compile(r"(?<=[a-z])\.(?=\d)")  # norm.1, as names of torchvision were once written
_WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


class State(dict[str, Any]):
    """A state dict as ``load_state_dict`` takes it.

    :ivar _metadata: the versions of the modules that wrote it, None where the file has none.
    :ivar notes: what was opened to find it, one sentence each.
    """

    _metadata: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


class _Inert:
    """What stands for every object beside the weights that is neither a tensor nor plain data: none of its code is run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def read(path: Path) -> State:
    """The tensors of a safetensors file or of a state dict that ``torch.save`` wrote, by name.

    A checkpoint that holds state dicts is opened, at ``state_dict``, ``model_state_dict``, ``model`` or ``net`` before
    others and at averaged weights last; ``FILE:NAME`` chooses another. Other objects in it are ignored. The prefixes of
    ``DataParallel`` and ``torch.compile`` are taken off.

    :raises UsageError: if the file is missing, unreadable, needs code to be unpickled, or holds no state dict.
    """
    wanted = None
    if not path.is_file():
        file, _, wanted = str(path).rpartition(":")
        if not file or not Path(file).is_file():
            raise UsageError(f"no weights at {path}")
        path = Path(file)
    if _is_safetensors(path):
        try:
            found: Any = load_file(path)
        except (SafetensorError, OSError) as error:
            raise UsageError(f"{path} is not a safetensors file: {first_line(error)}") from error
    else:
        found = _unpickled(path)
    state = _chosen(found, wanted, path)
    if is_zipfile(path) and (damage := _damage(path)):  # torch does not look
        state.notes += (f"{path.name} IS DAMAGED: {damage}",)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state if name not in _COUNTERS):
            state = _moved(state, prefix)
    return state


def _damage(path: Path) -> str:
    """What is wrong with the entries of an archive; empty if nothing."""
    try:
        with ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # a damaged header has errors of many kinds
        return first_line(error)
    return "" if damaged is None else f"the checksum of {damaged} in it is wrong"


def _moved(state: State, old: str, new: str = "") -> State:
    """The entries under a prefix, under another."""
    moved = State({new + name.removeprefix(old): value for name, value in state.items() if name.startswith(old)})
    if state._metadata is not None:  # whose names lack the dot at the end
        modules = ((f"{name}.", value) for name, value in state._metadata.items())
        moved._metadata = {(new + name.removeprefix(old)).removesuffix("."): value for name, value in modules}
    moved.notes = state.notes
    return moved


def _is_safetensors(path: Path) -> bool:
    """Whether a file is of safetensors, or else one of torch.save, by its content.

    :raises UsageError: for anything else; what it is is said where it is known.
    """
    with open(path, "rb") as stream:
        start = stream.read(256)
    if not start:
        raise UsageError(f"{path} is empty; fetch the weights again")
    with suppress(UnicodeDecodeError):
        _refuse_text(path, start.decode("utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig").lstrip())
    if start[8:9] == b"{":  # behind the length of the header
        return True
    if is_zipfile(path):
        try:
            with ZipFile(path) as archive:
                held = archive.namelist()
        except (ValueError, BadZipFile, NotImplementedError) as error:
            raise UsageError(f"{path} is damaged: {first_line(error)}") from error
        if any(name.rpartition("/")[2] == "constants.pkl" for name in held):
            raise UsageError(
                f"{path} is a TorchScript program; as MODEL, name a function that returns torch.jit.load of it"
            )
        if not any(name.endswith("data.pkl") for name in held):
            raise UsageError(
                f"{path} is an archive that torch.save did not write; it holds {', '.join(held[:2]) or 'nothing'}"
            )
    elif start.startswith(b"PK"):
        raise UsageError(f"{path} is cut short; fetch the weights again")
    elif not start.startswith(b"\x80"):  # with which pickles begin
        known = next((f": it is {name}" for first, name in _FORMATS.items() if start.startswith(first)), "")
        raise UsageError(f"{path} is neither a safetensors file nor one that torch.save wrote{known}")
    return False


def _refuse_text(path: Path, text: str) -> None:
    """:raises UsageError: for a web page, a pointer of Git LFS or other text."""
    if text.startswith("version https://git-lfs"):
        raise UsageError(f"{path} is a pointer of Git LFS, not the weights; fetch them with 'git lfs pull'")
    if text.startswith("<"):
        raise UsageError(f"{path} is a web page, not weights; fetch the file itself, not the page of its host")
    if all(character.isprintable() or character.isspace() for character in text):
        index = " (an index of weights in several files: save them as one)" if path.name.endswith(".index.json") else ""
        raise UsageError(f"{path} is text, not weights{index}; it begins with {text[:40]!r}")


def _unpickled(path: Path) -> Any:
    try:
        others: list[Any] = [(_STAND_INS.get(name, _Inert), name) for name in _globals(path)]
        with torch.serialization.safe_globals(others):  # what torch knows as safe itself has precedence
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path} is not a plain state dict as torch.save writes it: reading it would run code from the file, which is "
            "refused; save model.state_dict()"
        ) from error
    except Exception as error:
        raise UsageError(f"{path} cannot be read as weights: {first_line(error)}") from error


def _globals(path: Path) -> set[str]:
    """The names of the functions and classes that a pickle asks for; nothing is unpickled."""
    found: set[str] = set()
    with suppress(ValueError, BadZipFile):  # torch names the fault
        if is_zipfile(path):
            with ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith("data.pkl"):
                        with archive.open(name) as stream:
                            found.update(_named_by_one_pickle(stream))
        else:
            with open(path, "rb") as file:
                for _ in range(_LEGACY_PICKLES):
                    found.update(_named_by_one_pickle(file))
    return found


def _named_by_one_pickle(stream: IO[bytes]) -> Iterator[str]:
    for code, argument, _ in pickletools.genops(stream):
        if code.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            yield f"{module}.{name}"


def _chosen(found: Any, wanted: str | None, path: Path) -> State:
    """The state dict in a file: the one of that name, or the one that is likely the model's."""
    why = ": reading it would run code from the file, which is refused" if _holds_code(found) else ""
    if isinstance(found, _Inert):
        raise UsageError(f"{path} holds a whole object{why}; save model.state_dict()")
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds a {type(found).__name__}, not a state dict{why}; save model.state_dict()")
    inside = dict(_state_dicts(found))
    if wanted is not None and wanted not in inside:
        raise UsageError(f"{path} has no state dict {wanted!r}; it has {', '.join(filter(None, inside)) or 'none'}")
    if not inside:
        raise UsageError(f"{path} holds no state dict (names and tensors){why}; save model.state_dict()")
    name = min(inside, key=_rank) if wanted is None else wanted
    state = State(inside[name])
    state._metadata = getattr(inside[name], "_metadata", None)
    others = ", ".join(repr(other) for other in inside if other not in (name, ""))
    if name:
        state.notes = (f"the weights are {name!r} of {path.name}",)
        if others:
            state.notes = (f"{state.notes[0]}; --weights {path.name}:NAME takes another: {others}",)
    return state


def _holds_code(found: Any, depth: int = 0) -> bool:
    inside = found.values() if isinstance(found, dict) else found if isinstance(found, (list, tuple)) else ()
    return isinstance(found, _Inert) or (depth < _DEPTH and any(_holds_code(value, depth + 1) for value in inside))


def _rank(name: str) -> tuple[bool, int]:
    last = name.rpartition(".")[2]
    known = _CONTAINERS.index(last) if last in _CONTAINERS else len(_CONTAINERS)
    return any(word in name.lower() for word in _AVERAGES), known


def _state_dicts(found: dict[Any, Any], name: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dict of names and tensors, by the names that lead to it; what belongs to an optimizer is left out."""
    if found and all(isinstance(key, str) for key in found):
        tensors = [isinstance(value, Tensor) or key.endswith("_extra_state") for key, value in found.items()]
        if all(tensors):
            yield name, found
            return
    for key, value in found.items():
        if isinstance(value, dict) and isinstance(key, str) and "optim" not in key and depth < _DEPTH:
            yield from _state_dicts(value, f"{name}.{key}" if name else key, depth + 1)


def fill(module: nn.Module, state: dict[str, Any], path: Path) -> tuple[str, ...]:
    """Put a state dict into a module: what ``load_state_dict`` takes, and names that differ as :func:`renamed` allows.

    A tensor that the module has under several names may be in the file once, as ``safetensors.torch.save_model`` writes it.

    Returns what was opened and left out, one sentence each.

    :raises UsageError: if they are the weights of another network; the message names the differences.
    """
    wanted = module.state_dict()
    filled, shared = renamed(state, wanted), _shared(wanted)
    for names in shared:
        if held := [name for name in names if name in filled]:
            filled.update({name: filled[held[0]] for name in names if name not in filled})
    # a file without versions is most likely of today, else from before there were versions
    versions = (getattr(wanted, "_metadata", None), None) if filled._metadata is None else (filled._metadata,)
    for version in versions:
        filled._metadata = version
        try:
            module.load_state_dict(filled)
        except Exception as error:  # a module's own hooks may raise anything
            failure = error
        else:
            return (*filled.notes, *_roundings(filled, wanted, path), *_conflicts(filled, shared, path))
    lines = str(failure).splitlines()
    opened = f" ({'; '.join(filled.notes)})" if filled.notes else ""
    kind, problems = type(module).__name__, _problems(filled, wanted)
    if not problems:
        raise UsageError(f"{path} does not load into {kind}: {lines[-1].strip()}{opened}") from failure
    raise UsageError(f"{path} holds the weights of another network than {kind}: {problems}{opened}") from failure


def _shared(wanted: dict[str, Any]) -> list[list[str]]:
    """The names under which a module has one and the same tensor, where there are several."""
    names: dict[tuple[Any, ...], list[str]] = {}
    for name, own in wanted.items():
        with suppress(AttributeError, RuntimeError, ValueError):  # no tensor, or one without an address: sparse or lazy
            if own.data_ptr():
                names.setdefault((own.data_ptr(), own.shape, own.stride()), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _conflicts(state: dict[str, Any], shared: list[list[str]], path: Path) -> list[str]:
    """A sentence for each tensor of a module of which a file that was loaded has several values."""
    said = []
    for names in shared:
        values = [value for name in names if isinstance(value := state.get(name), Tensor)]
        if any(not torch.equal(values[0], other.to(values[0])) for other in values[1:]):
            said.append(
                f"{path.name} HOLDS DIFFERENT VALUES OF {' AND '.join(names)}, one tensor of the model: the last counts"
            )
    return said


def _roundings(state: dict[str, Any], wanted: dict[str, Any], path: Path) -> list[str]:
    """A sentence if weights of a file were no floats, or of 8 bits, and have become floats."""
    kinds = {
        str(state[name].dtype).removeprefix("torch.")
        for name, own in wanted.items()
        if name in state
        and isinstance(own, Tensor)
        and own.is_floating_point()
        and (not state[name].is_floating_point() or state[name].element_size() == 1)
    }
    return (
        [f"{path.name} HOLDS WEIGHTS OF {', '.join(sorted(kinds))}, taken as they are: is it quantised?"]
        if kinds
        else []
    )


def renamed(state: dict[str, Any], wanted: dict[str, Any]) -> State:
    """The state dict under the names of a module, where these differ in a prefix, in wrappers, or as norm.1 and norm1, alone.

    Where the file has more than what is under the prefix, as the weights of a loss beside those of a model, that is left out.
    """
    found = State(state)
    found._metadata, found.notes = getattr(state, "_metadata", None), getattr(state, "notes", ())
    first = next(iter(wanted), "")
    prefixes = [name.removesuffix(first) for name in state if name.endswith(f".{first}")] if first not in state else []
    for prefix in sorted(prefixes, key=_rank):
        bare = _moved(found, prefix)
        if bare.keys() == wanted.keys():
            if others := [name for name in state if not name.startswith(prefix)]:
                bare.notes += (
                    f"taken is what begins with {prefix!r}; left out: {len(others)} ({', '.join(others[:2])})",
                )
            return bare
    moved = _moved(found, _common(state), _common(wanted))
    if moved.keys() == wanted.keys():
        return moved
    ours = {_plain(name): name for name in wanted if name not in state}
    for name in state.keys() - wanted.keys():
        if (other := ours.get(_plain(name))) is not None:
            found[other] = found.pop(name)
    return found


def _common(names: Iterable[str]) -> str:
    """The prefix that all names have."""
    parts = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return "".join(f"{part[0]}." for part in takewhile(lambda part: len(set(part)) == 1, parts))


def _plain(name: str) -> str:
    """A name without what ``DataParallel`` and others put into it around a part of a model."""
    return _NUMBER.sub("", _WRAPPERS.sub("", name))


def _problems(state: dict[str, Any], wanted: dict[str, Any]) -> str:
    missing = [name for name in wanted if name not in state]
    unknown = [name for name in state if name not in wanted]
    other = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and isinstance(wanted[name], Tensor) and state[name].shape != wanted[name].shape
    ]
    return "; ".join(
        f"{len(names)} {what} ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", other))
        if names
    )
