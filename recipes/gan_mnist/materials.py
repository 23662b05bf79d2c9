"""The materials of ``gan-mnist``: classifiers, attackers and attacked images."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from advbench import attacks, metrics, models
from advbench.attacks import GANAttack
from advbench.data import Dataset, Images
from advbench.errors import UsageError
from advbench.estimators import TorchClassifier
from advbench.models.tapped import TappedModule
from advbench.progress import track
from advbench.recipes.gan_mnist.config import GanMnist, Variant
from advbench.report import Attacked, bundle
from advbench.seeds import own_global_state
from advbench.study import History, Materials, Measured, Pretrained, Study, Training, in_parts, once
from advbench.trainers import AlternatingTrainer, WeightedAdversarialTrainer, train_with_adam

BATCH = 100
"""Of every training."""

Mode = Literal["consecutive", "alternating"]
MODES: tuple[Mode, ...] = ("consecutive", "alternating")

ALTERNATING: tuple[Variant, ...] = ("half-clean", "five-steps")
"""The variants of the alternating mode."""

TAUGHT_STEPS = 5
"""Steps of PGD on each batch of the C1 that learns from it."""

Statistics = Literal["running", "batch"]
"""Whose statistics the attacker's batch norm uses outside training."""


@dataclass(frozen=True)
class Game:
    """One attacker A and the classifier C1 that it is trained on."""

    mode: Mode
    t: float
    seed: int
    variant: Variant | None = None

    @property
    def label(self) -> str:
        return "-".join(filter(None, (self.mode, self.variant, f"t{self.t:g}", f"seed{self.seed}")))

    def c1_stage(self, clean_epochs: int) -> str:
        """The training that made its C1."""
        if self.mode == "alternating":
            return f"{self.label}-c1"
        if self.variant == "fresh":
            return Game("alternating", self.t, self.seed).c1_stage(clean_epochs)
        return clean_stage("c1", clean_epochs, self.seed)

    @property
    def defence(self) -> str:
        """How C1 was trained."""
        return "alternating" if self.mode == "alternating" or self.variant == "fresh" else "none"


def clean_stage(name: str, epochs: int, seed: int) -> str:
    """The training of a classifier on clean images."""
    return f"{name}-{epochs}-epochs-seed{seed}"


class Networks(Materials[GanMnist]):
    """The trained classifiers and attackers, and the test images."""

    def __init__(self, study: Study[GanMnist]) -> None:
        super().__init__(study)
        self.train = self._images(study.train, self.config.train_images)
        self.test = self._images(study.test, self.config.test_images)
        self.watched = self.test.first(self.config.epoch_test_images)  # attacked after every epoch
        self.spec = models.ModelSpec("cnn2", self.train.x.shape[1:], len(study.train.classes), (0.0,), (1.0,))
        self.alternating_epochs = self.config.start_epochs + self.config.attack_epochs  # of C1 and C2 in this mode
        every = {t: [Game(mode, t, seed) for mode in MODES for seed in range(self.config.seeds)] for t in self.config.t}
        self.t = [t for t, games in every.items() if all(map(self.has, games))]
        if not self.t:
            raise UsageError("the zoo has no attacker of any t that was asked for; --set weights=train trains them")
        self.middle = min(self.t, key=lambda t: abs(t - 0.08))  # where the report's two modes differ most
        varied = range(min(self.config.variant_seeds, self.config.seeds))
        self.pgd_seeds = varied if "pgd" in self.config.variants else range(0)  # of a C1 that learns from PGD
        self._training: dict[str, Any] = {
            "batch_size": BATCH,
            "epoch_images": self.config.epoch_images,
            "validation": (self.watched.x, self.watched.y),
        }

    def has(self, game: Game) -> bool:
        """Whether the study has an attacker and its C1."""
        return self.available(game.label) and self.available(game.c1_stage(self.config.clean_epochs))

    def _images(self, dataset: Dataset, n: int | None) -> Images:
        rng = np.random.default_rng(self.study.seed_of("subset", dataset.split))
        return dataset.images(rng.permutation(len(dataset))[:n])

    @once
    def clean(self, name: str, seed: int, epochs: int) -> TorchClassifier:
        """A classifier after some epochs on clean images; one name has one set of weights to start from."""
        own = self.study.seed_of("seed", seed, name)
        stage = clean_stage(name, epochs, seed)

        def train(module: TappedModule, checkpoint: Path) -> History:
            options = {"nb_epochs": epochs, "seed": own, "checkpoint": checkpoint, **self._training}
            return train_with_adam(self.wrapped(module, self.spec), self.train.x, self.train.y, **options)

        self.trained(stage, self.spec, own, train)
        return self.loaded(stage)

    def second(self, game: Game) -> TorchClassifier:
        """C2: never attacked in training, and trained for as many epochs as C1."""
        epochs = self.config.clean_epochs if game.defence == "none" else self.alternating_epochs
        return self.clean("c2", game.seed, epochs)

    @once
    def played(self, game: Game) -> tuple[TorchClassifier, GANAttack]:
        """C1 and its attacker after their training."""
        return self._consecutive(game) if game.mode == "consecutive" else self._alternating(game)

    def _attack(self, game: Game, classifier: TorchClassifier | list[TorchClassifier]) -> GANAttack:
        return GANAttack(
            classifier,
            game.t,
            bounded="clamp" if game.variant == "clamp" else "tanh",
            width=self.config.width,
            output_batch_norm=game.variant == "output-batch-norm",
            seed=self.study.seed_of("seed", game.seed, "attacker"),
        )

    def _fit(self, trainer: GANAttack | AlternatingTrainer, game: Game, checkpoint: Path) -> History:
        options = {"nb_epochs": self.config.attack_epochs, "watched": {"C2": self.second(game)}, **self._training}
        return trainer.fit(self.train.x, self.train.y, checkpoint=checkpoint, **options)

    def _consecutive(self, game: Game) -> tuple[TorchClassifier, GANAttack]:
        """C1 is trained, then frozen, then A is trained on it."""
        if game.variant == "fresh":
            c1, _ = self.played(Game("alternating", game.t, game.seed))
        else:
            c1 = self.clean("c1", game.seed, self.config.clean_epochs)
        victims = [c1]
        if game.variant == "ensemble":  # C2 stays out of it
            more = range(3, 2 + self.config.ensemble)
            victims += [self.clean(f"c{i}", game.seed, self.config.clean_epochs) for i in more]

        def train(checkpoint: Path) -> Training:
            attack = self._attack(game, victims)
            return attack.save, self._fit(attack, game, checkpoint)

        return c1, GANAttack.load(self.weights_file(game.label, train), c1)

    def _alternating(self, game: Game) -> tuple[TorchClassifier, GANAttack]:
        """C1 starts clean; then A and C1 take turns, batch by batch."""
        stage = game.c1_stage(self.config.clean_epochs)

        def alternate(module: TappedModule, checkpoint: Path) -> tuple[GANAttack, History]:
            start = self.clean("c1", game.seed, self.config.start_epochs)
            module.load_state_dict(start.model.state_dict())
            c1 = self.wrapped(module, self.spec)
            attack = self._attack(game, c1)
            share, steps = 0.5 if game.variant == "half-clean" else 0.0, 5 if game.variant == "five-steps" else 1
            seed = self.study.seed_of("seed", game.seed, "alternating")
            return attack, self._fit(
                AlternatingTrainer(c1, attack, share, seed=seed, attack_steps=steps), game, checkpoint
            )

        def both(module: TappedModule, checkpoint: Path) -> History:
            attack, history = alternate(module, checkpoint)
            # an epoch's seconds are those of both networks, and are counted once
            self.run.trained(game.label, lambda _: (attack.save, [{**epoch, "seconds": 0.0} for epoch in history]))
            return history

        def attack_again(checkpoint: Path) -> Training:
            attack, history = alternate(models.create(self.spec), checkpoint)
            return attack.save, history

        self.trained(stage, self.spec, 0, both)
        c1 = self.loaded(stage)
        return c1, GANAttack.load(self.weights_file(game.label, attack_again), c1)

    @once
    def taught_by_pgd(self, seed: int) -> TorchClassifier:
        """A C1 that learns from PGD on its own weights, where the alternating C1 learns from A.

        It starts from the same weights and makes as many steps of the same size, on batches in another order.
        """
        stage, n, config = f"pgd-t{self.middle:g}-seed{seed}-c1", len(self.train.x), self.config

        def train(module: TappedModule, checkpoint: Path) -> History:
            module.load_state_dict(self.clean("c1", seed, config.start_epochs).model.state_dict())
            optimizer = torch.optim.Adam(module.parameters(), 1e-3, fused=True)
            c1 = self.wrapped(module, self.spec, optimizer=optimizer)
            attack = attacks.create("pgd", c1, self.middle, max_iter=TAUGHT_STEPS, batch_size=BATCH)
            return WeightedAdversarialTrainer(c1, [attack], (0.0, 1.0)).fit(
                self.train.x,
                self.train.y,
                batch_size=BATCH,
                nb_epochs=max(1, round(config.attack_epochs * (config.epoch_images or n) / n)),
                seed=self.study.seed_of("seed", seed, "alternating"),
                checkpoint=checkpoint,
                label=stage,
            )

        self.trained(stage, self.spec, 0, train)
        return self.loaded(stage)

    def history(self, game: Game) -> pd.DataFrame:
        """What was recorded after each epoch of a game."""
        self.played(game)
        return pd.read_csv(self.run.directory / "models" / f"{game.label}.csv")

    def perturbed(self, game: Game, x: np.ndarray, statistics: Statistics = "running") -> np.ndarray:
        """A's perturbation of images (N, C, H, W)."""
        _, attack = self.played(game)
        attack.set_params(statistics=statistics, batch_size=BATCH)
        return attack.perturbation(x)

    @once
    def attacked_by(self, game: Game, statistics: Statistics = "running") -> np.ndarray:
        """Every test image with A's perturbation added, not clipped."""
        x, label = self.test.x, f"{game.label}, {statistics} statistics"
        return in_parts(lambda part: x[part] + self.perturbed(game, x[part], statistics), len(x), label)

    def right_under_pgd(self, classifier: TorchClassifier, t: float) -> np.ndarray:
        """Whether the classifier is right about a test image after every one of several PGD attacks, bool (N,).

        The restarts are ours: ART keeps a restart that brought the right label back.
        """
        images = self.test.first(self.config.pgd_images)
        attack = attacks.create("pgd", classifier, t, max_iter=self.config.pgd_steps)
        restarts = [attack] * self.config.pgd_restarts
        with own_global_state(self.study.seed_of("pgd")):
            steps = metrics.still_correct(classifier, restarts, images.x, images.y)
            return list(track(steps, f"PGD, t = {t:g}", len(restarts) + 1))[-1]

    def explorer(self) -> dict[str, bytes]:
        """Test images for the page, with each attacker's perturbation of them on its own C1; first seed."""
        games = [Game(mode, t, 0) for t in self.t for mode in MODES]
        attacked = [
            Attacked(f"gan, {game.mode}", game.t, self.attacked_by(game), self.played(game)[0], f"C1, {game.label}")
            for game in games
        ]
        return bundle(self.test.x, self.test.y, self.study.test.classes, attacked)


def measured(config: GanMnist, stage: str) -> Measured:
    """The C1 that the attacker of a stage is measured on."""
    games = map(Game, *zip(*product(MODES, config.t, range(config.seeds), (None, *config.variants)), strict=True))
    return next(
        (Measured(classifier=game.c1_stage(config.clean_epochs)) for game in games if game.label == stage), Measured()
    )


KNOWN = [Game(mode, 0.08, 0) for mode in MODES]
"""Where the report's two modes differ most."""

PRETRAINED = Pretrained(
    base=(*(game.label for game in KNOWN), *(game.c1_stage(0) for game in KNOWN if game.mode == "alternating")),
    training=(
        *(
            "width",
            "train_images",
            "epoch_images",
            "epoch_test_images",
            "clean_epochs",
            "start_epochs",
            "attack_epochs",
        ),
        *("seeds", "variants", "variant_seeds", "ensemble"),
    ),
    quick={"t": (0.04, 0.08, 0.16), "variants": (), "test_images": 2000, "pgd_images": 200, "pgd_steps": 20},
    measured=measured,
)
