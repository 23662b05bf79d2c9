"""Does rounding the pixels defend? An attack, a defence and a study of your own, in one file.

``advbench recipe examples/own_study.py`` runs it and writes its page.
"""

from collections.abc import Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from art.attacks.attack import EvasionAttack
from pydantic import PositiveInt
from safetensors.torch import load_model, save_model

from advbench import attacks, estimators, metrics
from advbench.estimators import TorchClassifier
from advbench.metrics import difference, of_row, where
from advbench.report import Attacked, bundle
from advbench.study import Claim, Config, Eps, Materials, Rows, Shown, Study, Training, exhibit, once, recipe
from advbench.trainers import Schedule, train_classifier


class RandomCorners(EvasionAttack):
    """An attack: random corners of the l-inf ball until one fools the classifier. It needs no gradient."""

    _estimator_requirements = ()

    def __init__(self, estimator: Any, eps: float, tries: int) -> None:
        super().__init__(estimator=estimator)
        self.eps, self.tries = eps, tries

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        rng, adversarial = np.random.default_rng(0), x.copy()
        for _ in range(self.tries):
            right = self.estimator.predict(adversarial).argmax(1) == y
            corners = x + np.float32(self.eps) * rng.choice(np.float32([-1, 1]), x.shape)
            adversarial[right] = corners.clip(0, 1)[right]
        return adversarial


class Rounded(torch.nn.Module):
    """A defence: the model behind it sees pixels of four levels only."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model((3 * x).round() / 3)


class Rounding(Config):
    """What can be changed with ``--set``."""

    eps: Eps = 0.2
    tries: PositiveInt = 30
    epochs: PositiveInt = 10


MODELS, ATTACKS = ("plain", "rounded"), ("fgsm", "corners")


class Networks(Materials[Rounding]):
    """What is made once: the trained network, plain and behind the defence, and the attacked images."""

    def __init__(self, study: Study[Rounding]) -> None:
        super().__init__(study)
        self.test = study.test.images()

    @once
    def classifier(self, model: str) -> TorchClassifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.study.seed_of("weights"))
            layers = torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
            net = torch.nn.Sequential(*layers)
        load_model(net, self.run.trained("network", partial(self._train, net)))
        module = Rounded(net) if model == "rounded" else net
        return estimators.classifier(module.eval(), self.test.x.shape[1:], 10, device=self.study.device)

    def _train(self, net: torch.nn.Module, checkpoint: Path) -> Training:
        x, y = self.study.train.x, self.study.train.y
        schedule = Schedule(epochs=self.config.epochs, lr=0.1, weight_decay=1e-4, batch_size=64, pad=0, flip=False)
        history = train_classifier(net, (x[200:], y[200:]), (x[:200], y[:200]), schedule, checkpoint=checkpoint)
        return partial(save_model, net), history

    def adversarial(self, model: str, attack: str) -> np.ndarray:
        """The test images under an attack on a model; the run keeps them, so they are not computed again."""

        def make() -> Mapping[str, np.ndarray]:
            victim, eps = self.classifier(model), self.config.eps
            corners = RandomCorners(victim, eps, self.config.tries)
            chosen = corners if attack == "corners" else attacks.create(attack, victim, eps)
            return {"x": self.attacked(chosen, self.test, f"{attack} on {model}")}

        return self.run.arrays(f"{attack}-{model}", make)["x"]

    def explorer(self) -> dict[str, bytes]:
        """The images that the page lets a reader look through."""
        shown = [
            Attacked(attack, self.config.eps, self.adversarial(model, attack), self.classifier(model), model)
            for model, attack in product(MODELS, ATTACKS)
        ]
        return bundle(self.test.x, self.test.y, self.study.test.classes, shown)


def clean(made: Networks, model: str) -> Rows:
    """The accuracy of a model on the test images."""
    predicted = made.classifier(model).predict(made.test.x).argmax(1)
    yield metrics.accuracy(predicted, made.test.y).row("accuracy", model=model)


def attacked(made: Networks, model: str, attack: str) -> Rows:
    """The accuracy of a model on the images of an attack on it."""
    predicted = made.classifier(model).predict(made.adversarial(model, attack)).argmax(1)
    context = {"model": model, "attack": attack, "norm": "linf", "eps": made.config.eps}
    yield metrics.accuracy(predicted, made.test.y).row("accuracy", **context)


def accuracy_of(rows: pd.DataFrame, attack: str | None) -> metrics.Figure:
    """The accuracy of the rounded model under an attack, or on clean images."""
    return of_row(where(rows, metric="accuracy", model="rounded", attack=attack).iloc[0])


CLAIMS = [
    Claim(
        "R1",
        "FGSM has no gradient to follow through the rounding.",
        "accuracy of the rounded model, clean minus under FGSM",
        lambda rows: difference(accuracy_of(rows, None), accuracy_of(rows, "fgsm")),
        accept=(None, 0.05),
    ),
    Claim(
        "R2",
        "An attack without gradients shows that the rounded model is not robust.",
        "accuracy of the rounded model under random corners",
        lambda rows: accuracy_of(rows, "corners"),
        accept=(None, 0.75),
    ),
]


@exhibit("Accuracy under attack", "R1", "R2")
def accuracy(rows: pd.DataFrame, made: Networks) -> Shown:
    """FGSM needs the gradient, random corners do not."""
    return Shown(table=rows[["model", "attack", "metric", "value", "ci_low", "ci_high"]])


@recipe(
    "rounding",
    dataset="digits",
    embedded_shape=(1, 8, 8),
    presets={"quick": Rounding(), "paper": Rounding(tries=500)},
    question="Does rounding the pixels of an image defend a classifier, or does it only hide the gradient?",
    claims=CLAIMS,
    undecided={},  # quick attacks all test images too, so it decides the claims
)
def rounding(study: Study[Rounding]) -> None:
    made = Networks(study)
    study.measure_each(clean, made, MODELS)
    study.measure_each(attacked, made, product(MODELS, ATTACKS))
    study.show([accuracy], made)
    study.run.explorer(made.explorer)
