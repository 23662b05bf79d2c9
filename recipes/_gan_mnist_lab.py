"""The materials of ``gan_mnist``: classifiers, attackers and attacked images, each made once and kept by the run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from advbench import attacks, estimators, metrics, models
from advbench.attacks import GANAttack
from advbench.data import Dataset, Images
from advbench.estimators import TorchClassifier
from advbench.metrics import Figure
from advbench.progress import track
from advbench.report import Attacked, bundle
from advbench.study.run import Training
from advbench.seeds import own_global_state
from advbench.study.study import Study
from advbench.trainers import AlternatingTrainer, train_with_adam

Statistics = Literal["running", "batch"]
BATCH = 100
"""Of every training."""

Mode = Literal["consecutive", "alternating"]
MODES: tuple[Mode, ...] = ("consecutive", "alternating")

VARIANTS = {
    "clamp": "the attacker's tanh is clamped to [-t, t], not scaled by t",
    "output-batch-norm": "batch norm before the attacker's tanh",
    "ensemble": "the attacker is trained on the average loss of several classifiers",
    "fresh": "a new attacker is trained on the frozen C1 of the alternating mode",
    "half-clean": "half of each batch of the alternating C1 is clean",
}


@dataclass(frozen=True)
class Game:
    """One attacker A and the classifier C1 that it is trained on."""

    mode: Mode
    t: float
    seed: int
    variant: str = ""

    @property
    def label(self) -> str:
        return "-".join(filter(None, (self.mode, self.variant, f"t{self.t:g}", f"seed{self.seed}")))

    @property
    def defence(self) -> str:
        """How C1 was trained."""
        if self.variant == "fresh":
            return "alternating"
        return "none" if self.mode == "consecutive" else " ".join(filter(None, (self.mode, self.variant)))

    def columns(self) -> dict[str, Any]:
        """The attacker, as columns of results.csv."""
        return {
            "attack": "-".join(filter(None, ("gan", self.variant))),
            "fit_attack": self.mode,
            "norm": "linf",
            "eps": self.t,
        }


def train_clean(study: Study, classifier: tuple[str, int, int]) -> None:
    """A classifier by name, seed and epochs; see :meth:`Laboratory.clean`."""
    Laboratory(study).clean(*classifier)


def play(study: Study, game: Game) -> None:
    """One game to its end; the clean classifiers that it starts from are there."""
    Laboratory(study).play(game)


class Laboratory:
    """The materials of the study: each is made once, kept by the run and handed out from there."""

    def __init__(self, study: Study) -> None:
        self.study, self.config, self.run = study, study.config, study.run
        self.train = self._images(study.train, self.config.train_images)
        self.test = self._images(study.test, self.config.test_images)
        self.clean = cache(self._clean)
        self.play = lru_cache(8)(self._play)
        self.perturbation = lru_cache(4)(self._perturbation)

    def _images(self, dataset: Dataset, n: int | None) -> Images:
        rng = np.random.default_rng(self.study.seed_of("subset", dataset.split))
        indices = rng.permutation(len(dataset))[:n]
        return dataset.images(indices)

    @property
    def watched(self) -> Images:
        """The test images that are attacked after every epoch."""
        return self.test.first(self.config.epoch_test_images)

    def _clean(self, name: str, seed: int, epochs: int) -> TorchClassifier:
        """A classifier after some epochs on clean images; one name has one set of weights to start from."""
        spec = models.ModelSpec("cnn2", self.train.x.shape[1:], len(self.study.train.classes), (0.0,), (1.0,))
        stage = f"{name}-{epochs}-epochs-seed{seed}"

        def train(checkpoint: Path) -> Training:
            own = self.study.seed_of("seed", seed, name)
            classifier = self._wrapped(models.create(spec, own), spec)
            history = train_with_adam(
                classifier,
                *(self.train.x, self.train.y),
                batch_size=BATCH,
                nb_epochs=epochs,
                epoch_images=self.config.epoch_images,
                validation=(self.watched.x, self.watched.y),
                seed=own,
                checkpoint=checkpoint,
            )
            return lambda path: models.save(path, classifier.model, spec), history

        self.run.trained(stage, train)
        return self._loaded(stage)

    def _wrapped(self, module: Any, spec: models.ModelSpec) -> TorchClassifier:
        return estimators.classifier(module, spec.input_shape, spec.classes, device=self.study.device)

    def _loaded(self, stage: str) -> TorchClassifier:
        return estimators.load(self.run.directory, stage, device=str(self.study.device))

    def second(self, game: Game) -> TorchClassifier:
        """C2: never attacked in training, as long at it as C1."""
        consecutive = game.mode == "consecutive" and game.variant != "fresh"
        epochs = self.config.start_epochs + self.config.attack_epochs
        return self.clean("c2", game.seed, self.config.clean_epochs if consecutive else epochs)

    def _play(self, game: Game) -> tuple[TorchClassifier, GANAttack]:
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

    def _fitting(self, game: Game) -> dict[str, Any]:
        return {
            "batch_size": BATCH,
            "nb_epochs": self.config.attack_epochs,
            "epoch_images": self.config.epoch_images,
            "validation": (self.watched.x, self.watched.y),
            "watched": {"C2": self.second(game)},
        }

    def _consecutive(self, game: Game) -> tuple[TorchClassifier, GANAttack]:
        """C1 is trained, then frozen, then A is trained on it."""
        if game.variant == "fresh":
            c1, _ = self.play(Game("alternating", game.t, game.seed))
        else:
            c1 = self.clean("c1", game.seed, self.config.clean_epochs)
        victims = [c1]
        if game.variant == "ensemble":  # C2 stays out of it
            more = range(3, 2 + self.config.ensemble)
            victims += [self.clean(f"c{i}", game.seed, self.config.clean_epochs) for i in more]

        def train(checkpoint: Path) -> Training:
            attack = self._attack(game, victims)
            history = attack.fit(self.train.x, self.train.y, **self._fitting(game), checkpoint=checkpoint)
            return attack.save, history

        return c1, GANAttack.load(self.run.trained(game.label, train), c1)

    def _alternating(self, game: Game) -> tuple[TorchClassifier, GANAttack]:
        """C1 starts clean; then A and C1 take turns, batch by batch."""
        spec = models.ModelSpec("cnn2", self.train.x.shape[1:], len(self.study.train.classes), (0.0,), (1.0,))
        start = self.clean("c1", game.seed, self.config.start_epochs)
        both = f"{game.label}-c1"

        def play(checkpoint: Path) -> tuple[TorchClassifier, GANAttack, list[dict]]:
            module = models.create(spec)
            module.load_state_dict(start.model.state_dict())
            c1 = self._wrapped(module, spec)
            attack = self._attack(game, c1)
            trainer = AlternatingTrainer(
                c1,
                attack,
                clean_share=0.5 if game.variant == "half-clean" else 0.0,
                seed=self.study.seed_of("seed", game.seed, "alternating"),
            )
            history = trainer.fit(self.train.x, self.train.y, **self._fitting(game), checkpoint=checkpoint)
            return c1, attack, history

        def keep_attack(checkpoint: Path) -> Training:
            _, attack, history = play(checkpoint)
            return attack.save, history

        def keep_both(checkpoint: Path) -> Training:
            c1, attack, history = play(checkpoint)
            of_attack = [{**entry, "seconds": 0.0} for entry in history]  # they are those of both, and counted once
            self.run.trained(game.label, lambda _: (attack.save, of_attack))
            return lambda path: models.save(path, c1.model, spec), history

        self.run.trained(both, keep_both)
        c1 = self._loaded(both)
        return c1, GANAttack.load(self.run.trained(game.label, keep_attack), c1)

    def history(self, game: Game) -> pd.DataFrame:
        """What was recorded after each epoch of a game."""
        self.play(game)
        return pd.read_csv(self.run.directory / "models" / f"{game.label}.csv")

    def _perturbation(self, game: Game, statistics: Statistics = "running") -> np.ndarray:
        """A's perturbation of every test image."""
        _, attack = self.play(game)
        attack.set_params(statistics=statistics, batch_size=BATCH)
        starts = range(0, len(self.test.x), 500)
        label = f"{game.label}, {statistics} statistics"
        return np.concatenate(
            [attack.perturbation(self.test.x[i : i + 500]) for i in track(starts, label, len(starts))]
        )

    def attacked(self, game: Game, statistics: Statistics = "running", clip: bool = False) -> np.ndarray:
        """Every test image with A's perturbation added."""
        images = self.test.x + self.perturbation(game, statistics)
        return images.clip(0, 1) if clip else images

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

    def explorer(self, games: list[Game]) -> dict[str, bytes]:
        """Test images for the page, with each attacker's perturbation of them on its own C1."""
        attacked = [
            Attacked(f"gan, {game.mode}", game.t, self.attacked(game), self.play(game)[0], f"C1, {game.label}")
            for game in games
        ]
        return bundle(self.test.x, self.test.y, self.study.test.classes, attacked)

    def picture(self) -> dict[str, np.ndarray]:
        """Two digits (2, C, H, W) and their perturbations (T, 2, C, H, W) by the attackers of the consecutive mode."""
        other = int(np.flatnonzero(self.test.y != self.test.y[0])[0])
        x = self.test.x[[0, other]]

        def make() -> dict[str, np.ndarray]:
            games = [Game("consecutive", t, 0) for t in self.config.t]
            return {"images": x, "perturbations": np.stack([self.play(game)[1].perturbation(x) for game in games])}

        return self.run.arrays("picture", make)


def figures(classifier: TorchClassifier, images: np.ndarray, y: np.ndarray) -> tuple[Figure, Figure]:
    """Accuracy and mean cross-entropy on images, with 95 % intervals."""
    logits = classifier.predict(images, batch_size=500).astype(np.float64)
    peak = logits.max(1)
    losses = np.log(np.exp(logits - peak[:, None]).sum(1)) + peak - logits[np.arange(len(y)), y]
    return metrics.accuracy(logits.argmax(1), y), metrics.mean(losses)
