"""The networks of the zoo that a study starts from in place of training its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from advbench.errors import UsageError
from advbench.models import zoo
from advbench.study.config import C, Config, FromZoo
from advbench.study.run import Run

Networks = Mapping[str, str]
"""The names of networks of the zoo, by the stages of a study that they stand for."""


@dataclass(frozen=True)
class Measured:
    """How the card of a detector or an attacker measures it.

    :param attack: what a detector meets: ``name`` and the other arguments of ``attacks.create``; the dynamic adversary
        also has ``sigma``.
    :param classifier: the stage that trained what an attacker attacks; the file of a detector says it itself.
    """

    attack: Mapping[str, Any] = field(default_factory=dict)
    classifier: str = ""


@dataclass(frozen=True)
class Pretrained:
    """How a recipe starts from networks of the zoo.

    :param base: the stages of the networks that all others stand on: without one of them in the zoo, the study trains all.
    :param training: the fields that say how networks are trained. Their values are then those of the run that trained
        them, and a user who sets one wants a training.
    :param beyond_base: those of them that say nothing of the base; ``weights=base`` leaves them to the user.
    :param quick: further fields that have another value in preset quick with these networks.
    :param recipe: which one trained them, by default the recipe itself.
    :param decides: whether preset quick decides claims with them.
    :param measured: how the card of a network measures it, from the config of the run that trained it and the stage.
    """

    base: Sequence[str]
    training: Sequence[str]
    beyond_base: Sequence[str] = ()
    quick: Mapping[str, object] = field(default_factory=dict)
    recipe: str = ""
    decides: bool = True
    measured: Callable[[Any, str], Measured] = lambda config, stage: Measured()

    def config(self, config: C, preset: str, networks: Networks) -> C:
        """The config of a preset for a study that starts from these networks."""
        fields: dict[str, object] = {}
        if not self.recipe:
            trained = zoo.card(networks[self.base[0]]).config
            fields = {name: trained[name] for name in self.fixed(config) if name in trained}
            fields |= {"seeds": 1} if "seeds" in fields else {}  # the zoo has one training of each
        if preset == "quick":
            fields |= self.quick
        return type(config)(**{**config.model_dump(), **fields})

    def fixed(self, config: Config) -> list[str]:
        """The fields that the networks of the zoo fix."""
        return [name for name in self.training if not (_only_base(config) and name in self.beyond_base)]


def networks(
    recipe: str,
    pretrained: Pretrained | None,
    config: Config,
    settings: Sequence[str],
    is_own: bool,
    dataset: str,
    seed: int,
) -> tuple[Networks, str]:
    """The networks that a study starts from, empty where it trains; and why it trains, in one line, where it might not.

    :param is_own: whether the data are those of the recipe.
    :raises UsageError: if some settings ask for the zoo and others for a training.
    """
    if pretrained is None or not isinstance(config, FromZoo) or config.weights == "train":
        return {}, ""
    names = [setting.partition("=")[0] for setting in settings]
    fixed = pretrained.fixed(config)
    asking = next((name for name in names if name in fixed), "")
    if asking and "weights" in names:
        raise UsageError(
            f"--set {asking} is of the training that --set weights={config.weights} leaves out; take one of them away"
        )
    if not is_own:
        return {}, "the networks are trained here, for the zoo has none for these data"
    found = zoo.of_recipe(pretrained.recipe or recipe, dataset, seed)
    if missing := [stage for stage in pretrained.base if stage not in found]:
        return {}, f"the networks are trained here, for the zoo has no {missing[0]} of {dataset} with seed {seed}"
    if asking:
        return {}, f"no network is taken from the zoo, as --set {asking} asks"
    return {stage: found[stage] for stage in pretrained.base} if _only_base(config) else found, ""


def trains(config: Config, networks: Networks) -> bool:
    """Whether a study trains what it does not take from the zoo."""
    return not networks or _only_base(config)


def _only_base(config: Config) -> bool:
    return isinstance(config, FromZoo) and config.weights == "base"


def show_cards(run: Run, networks: Networks) -> tuple[str, str]:
    """Put the cards of those networks on the page that the run has used; in one sentence each, which, and what it trained."""
    here = {path.stem for path in (run.directory / "models").glob("*.safetensors")}
    found = {name: zoo.card(name) for name in sorted(networks[stage] for stage in here & networks.keys())}
    columns = ["network", "figures", "date", "hours", "commit"]
    table = pd.DataFrame([{"network": name, **each.lines()} for name, each in found.items()], columns=columns)
    caption = (
        "Networks that come with advbench and were not trained by this run; 'advbench show zoo:NAME' prints a card."
    )
    run.exhibit("zoo", "Networks that were trained before", caption, table=table)
    own = ", ".join(sorted(here - networks.keys()))
    trained = f"the zoo lacks {own}: trained here on small subsets, so that figures near chance are to be expected"
    parts = Counter((each.classifier, each.kind) for each in found.values() if each.classifier)
    counts = [f"{n} {kind}{'s' * (n > 1)} of {classifier}" for (classifier, kind), n in parts.items()]
    named = ", ".join([name for name, each in found.items() if not each.classifier] + counts)
    return f"Trained before, not by this run: {named}; their cards are at the end.", trained if own else ""
