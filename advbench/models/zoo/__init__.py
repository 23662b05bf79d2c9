"""The zoo: trained networks that come with the package, each with a card that says where it is from and what it reaches.

A network is one safetensors file whose metadata hold its card; ``index.json`` holds the SHA-256 of every file. ``advbench zoo
add`` writes both.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from operator import methodcaller
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from advbench.errors import UsageError, did_you_mean
from advbench.files import read_json, sha256, write, write_text

FOLDER = Path(__file__).parent
INDEX = "index.json"
PREFIX = "zoo:"

Kind = Literal["classifier", "detector", "attacker"]


@dataclass(frozen=True)
class Card:
    """Where a network is from, and what it reaches.

    :param recipe: the study that trained it, and ``stage`` the training in it.
    :param config: every field of the study's config.
    :param commit: of the code.
    :param date: on which the training ended, UTC.
    :param hours: of its epochs alone, without the images that they need; 0 of an attacker that its classifier was trained
        along with, whose card has them.
    :param classifier: the name of the network in the zoo that a detector or an attacker belongs to, empty for a classifier.
    :param precision: in which the weights are stored; they are computed with in float32.
    :param fingerprint: of a classifier's weights as they were trained, by which its detectors in the run name it.
    :param attack: what a detector is measured against: its name and the other arguments of ``attacks.create``.
    :param figures: measured on the weights as they are stored, on the first test images; each with its metric, value, n,
        95 % interval and, as ``sample``, its value on the first few of these images.
    :param history: one dict an epoch.
    """

    kind: Kind
    recipe: str
    preset: str
    stage: str
    dataset: str
    seed: int
    settings: list[str]
    config: dict[str, Any]
    commit: str
    date: str
    hours: float
    machine: str
    versions: dict[str, str]
    precision: Literal["float32", "float16"]
    fingerprint: str
    classifier: str
    attack: dict[str, Any]
    figures: list[dict[str, Any]]
    history: list[dict[str, Any]]

    @property
    def main_figure(self) -> str:
        """The first figure in words."""
        return in_words(self.figures[0])

    def lines(self) -> dict[str, str]:
        """What a reader is shown of it, by what it is."""
        return {
            "kind": self.kind + (f" of {PREFIX}{self.classifier}" if self.classifier else ""),
            "figures": "; ".join(map(in_words, self.figures)),
            "trained by": f"recipe {self.recipe}, preset {self.preset}, training {self.stage}, seed {self.seed}",
            "settings": " ".join(self.settings) or "those of the preset",
            "data": self.dataset,
            "date": self.date,
            "hours": f"{self.hours:.2f}" if self.hours else f"counted with {PREFIX}{self.classifier}",
            "machine": self.machine,
            "commit": self.commit,
            "versions": ", ".join(f"{library} {version}" for library, version in self.versions.items()),
            "stored in": self.precision,
        }


def in_words(figure: dict[str, Any]) -> str:
    """A figure of a card as a person reads it."""
    interval = f"{figure['ci_low']:.3f} to {figure['ci_high']:.3f}, n = {figure['n']:,}"
    return f"{figure['metric']} {figure['value']:.4f} ({interval})"


def index() -> dict[str, str]:
    """The SHA-256 of the file of every network, by its name.

    :raises UsageError: if the index is damaged.
    """
    try:
        return {str(name): str(checksum) for name, checksum in read_json(FOLDER / INDEX).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{FOLDER / INDEX} is missing or damaged; install advbench again") from error


def is_meant(given: Path | str) -> bool:
    """Whether a user means a network of the zoo: by ``zoo:``, or by a single word that is no file."""
    file = Path(given)
    is_word = len(file.parts) == 1 and file.suffix != ".safetensors" and not file.exists()
    return is_word or str(given).startswith(PREFIX)


def path(name: str, kind: Kind | None = None) -> Path:
    """The file of a network, which is as the index has it.

    :param name: with or without ``zoo:``.
    :param kind: what the network must be.
    :raises UsageError: if there is no such network, its file is missing, damaged or another one, or it is of another kind.
    """
    name, known = name.removeprefix(PREFIX), index()
    if name not in known:
        raise did_you_mean("network in the zoo", name, list(known))
    file = FOLDER / f"{name}.safetensors"
    if not file.is_file():
        raise UsageError(f"{file} is missing; install advbench again")
    if sha256(file) != known[name]:
        raise UsageError(
            f"{file} is refused: its SHA-256 is not that of {INDEX}, so it is damaged or another network's; "
            "install advbench again"
        )
    if kind is not None and (found := _read(file).kind) != kind:
        raise UsageError(f"{PREFIX}{name} is not a {kind}: its card says {found}")
    return file


def card(name: str) -> Card:
    """The card of a network.

    :raises UsageError: as :func:`path` does.
    """
    return _read(path(name))


def cards() -> dict[str, Card]:
    """The cards of all networks by their names.

    :raises UsageError: as :func:`path` does.
    """
    return {name: card(name) for name in index()}


def of_recipe(recipe: str, dataset: str, seed: int) -> dict[str, str]:
    """The names of the networks that a study of that seed has trained, by its stages."""
    wanted = (recipe, dataset, seed)
    return {each.stage: name for name, each in cards().items() if (each.recipe, each.dataset, each.seed) == wanted}


def put(name: str, file: Path) -> Path:
    """Copy a file that has a card into the zoo, and its checksum into the index; returns the new file."""
    content, there = file.read_bytes(), FOLDER / f"{name}.safetensors"
    write(there, methodcaller("write", content))
    write_text(FOLDER / INDEX, json.dumps(dict(sorted({**index(), name: sha256(there)}.items())), indent=1) + "\n")
    return there


def metadata(card: Card) -> dict[str, Any]:
    """The entry that a card has among the metadata of its file."""
    return {"card": asdict(card)}


def _read(file: Path) -> Card:
    try:
        with safe_open(file, "np") as stream:
            meta, _ = json.loads(stream.metadata()["advbench"])
        return Card(**meta["card"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} has no card that can be read; install advbench again") from error
