"""The defences that reports 000 and 003 name as future work, around the network of either."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

from pydantic import Field, PositiveFloat

from advbench.metrics import Figure
from advbench.recipes.compare_defences.config import Bounds, DefenceConfig
from advbench.recipes.compare_defences.exhibits import COMPARISONS
from advbench.recipes.compare_defences.materials import Comparison, Defended, Kind
from advbench.recipes.compare_defences.measurements import certificate, comparison
from advbench.recipes.compare_defences.registry import DEFENCES
from advbench.recipes.compare_defences.trainings import Network
from advbench.study import EpsGrid, Rows, Study

FUTURE = (
    "none",
    "jpeg-compression",
    "vae-reformer",
    "gaussian-augmentation",
    "defensive-distillation",
    "fgsm-rs-gradalign",
    "lipschitz",
)
"""Defences of ``compare-defences``, each under the attack that knows it there."""


class FutureWork(DefenceConfig):
    """How these defences learn and are attacked; sizes are numbers of images, null means all."""

    defences: tuple[str, ...] = Field(FUTURE, description="which are tried; no defence always is")
    eps: EpsGrid = Field((0.01, 8 / 255), description="of the attacks; FGSM-RS trains at the largest")
    sigma: PositiveFloat = Field(0.1, description="standard deviation of Gaussian augmentation")

    def bounds(self, dataset: str) -> Bounds:
        return Bounds(eps=self.eps, fit_eps=max(self.eps), bit_depth=8, sigma=self.sigma)

    def quicker(self, **fields: object) -> Self:
        """The same with some fields smaller."""
        return self.model_copy(update=fields)


class AsTrained(Network):
    """The network that the recipe trained without a defence."""

    name, library, trained = "none", "advbench", False
    kind: Kind = "none"
    text = "the network as the study trained it"

    def defend(self, made: Comparison, module: Any) -> Defended:
        assert isinstance(made, FutureDefences)
        classifier = made.loaded(f"{made.undefended}-seed{made.study.seed}")
        return Defended(classifier, classifier)


class FutureDefences(Comparison):
    """The defences around the network of a recipe whose config has the field ``future``.

    The lists of trainings and attacks are for ``Study.make_each``.

    :cvar model: the registry name of its network.
    :cvar undefended: the stage of its undefended training, but for the seed.
    """

    defences = {name: DEFENCES[name] for name in FUTURE} | {"none": AsTrained()}
    undefended: str

    def __init__(self, study: Study[Any]) -> None:
        super().__init__(study.with_config(study.config.future))

    def trainings(self) -> list[tuple[Any, ...]]:
        """The trainings of the defences; none needs the undefended network."""
        return [(type(self).weights, self, name) for name in self.config.defences if self.defences[name].trained]

    def attacks_on_undefended(self) -> list[tuple[Any, ...]]:
        """The attacks on the undefended network; every other attack needs their images."""
        return [(type(self).evaluated, self, "none")]

    def attacks_on_defences(self) -> list[tuple[Any, ...]]:
        """The attacks on each defence."""
        return [(type(self).evaluated, self, name) for name in self.config.defences if name != "none"]


def future_defence(made: FutureDefences, name: str) -> Rows:
    """The measurement of one defence: what ``compare-defences`` measures but costs, and how much it was trained."""
    yield from comparison(made, name)
    yield from certificate(made, name)
    if made.defences[name].trained:
        columns = {**made.columns_of(name), "exhibit": "defence training", "split": "train"}
        yield Figure(len(made.train.y), 1).row("training_images", **columns)
        yield Figure(made.config.epochs, 1).row("training_epochs", **columns)


FUTURE_EXHIBITS = tuple(replace(each, caption=f"First seed. {each.caption}") for each in COMPARISONS)
"""Exhibits that read only rows."""
