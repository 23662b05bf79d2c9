"""The measurements of ``gan-mnist``: functions from its networks to result rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from advbench import metrics
from advbench.estimators import TorchClassifier
from advbench.metrics import Figure
from advbench.recipes.gan_mnist.materials import MODES, Game, Networks, Statistics
from advbench.study import Rows

STATISTICS: dict[Statistics, str] = {"running": "", "batch": "_batch_statistics"}
"""Whose statistics the attacker's batch norm uses outside training, and how the metric's name ends then."""


def clean(made: Networks, seed: int) -> Rows:
    """C1 and C2 of the consecutive mode on the test images as they are."""
    for name in ("C1", "C2"):
        classifier = made.clean(name.lower(), seed, made.config.clean_epochs)
        accuracy, _ = accuracy_and_loss(classifier, made.test.x, made.test.y)
        yield accuracy.row("clean_accuracy", model=name, defence="none", train_seed=seed)


def curves(made: Networks, game: Game) -> Rows:
    """One attacker after each of its epochs, on C1 and on C2."""
    n = len(made.watched.x)
    for name, end in (("C1", ""), ("C2", "_C2")):
        for entry in made.history(game).to_dict("records"):
            columns = {**_on(name, game), **_by(game), "epoch": entry["epoch"]}
            accuracy = metrics.proportion(round(entry[f"attacked_accuracy{end}"] * n), n)
            yield accuracy.row("attacked_accuracy", **columns)
            yield Figure(entry[f"attacked_loss{end}"], n).row("attacked_loss", **columns)


def attacked(made: Networks, game: Game) -> Rows:
    """One attacker at the end, on C1 and on C2, with and without a clip to [0, 1]."""
    for name, classifier in (("C1", made.played(game)[0]), ("C2", made.second(game))):
        columns = {**_on(name, game), **_by(game)}
        accuracy, _ = accuracy_and_loss(classifier, made.test.x, made.test.y)
        yield accuracy.row("clean_accuracy", **columns)
        for statistics, end in STATISTICS.items():
            x = made.attacked_by(game, statistics)
            for images, clipped in ((x, ""), (x.clip(0, 1), "_clipped")):
                accuracy, loss = accuracy_and_loss(classifier, images, made.test.y)
                yield accuracy.row(f"attacked_accuracy{end}{clipped}", **columns)
                yield loss.row(f"attacked_loss{end}{clipped}", **columns)


def crossed(made: Networks, t: float, seed: int) -> Rows:
    """Each mode's attacker on each mode's C1."""
    games = [Game(mode, t, seed) for mode in MODES]
    for game in games:
        c1, _ = made.played(game)
        for other in games:
            accuracy, _ = accuracy_and_loss(c1, made.attacked_by(other), made.test.y)
            yield accuracy.row("attacked_accuracy", **_on("C1", game), **_by(other))


def pgd(made: Networks, t: float, seed: int) -> Rows:
    """PGD with the attacker's bound on each mode's C1; and the worst case over it and every attacker, clipped.

    The C1 that learned from PGD meets the same, where there is one.
    """
    config, games = made.config, [Game(mode, t, seed) for mode in MODES]
    n = min(config.pgd_images, len(made.test.x))
    attack = {"norm": "linf", "eps": t, "t": t, "steps": config.pgd_steps, "restarts": config.pgd_restarts}
    c1s = [(_on("C1", game), made.played(game)[0]) for game in games]
    if t == made.middle and seed in made.pgd_seeds:
        c1s.append(({**c1s[0][0], "defence": "pgd"}, made.taught_by_pgd(seed)))
    for known, c1 in c1s:
        right, columns = made.right_under_pgd(c1, t), {**known, **attack}
        yield metrics.proportion(int(right.sum()), n).row("attacked_accuracy", attack="pgd", **columns)
        for other in games:
            right &= c1.predict(made.attacked_by(other)[:n].clip(0, 1)).argmax(1) == made.test.y[:n]
        yield metrics.proportion(int(right.sum()), n).row("worst_case_accuracy", attack="pgd and gan", **columns)


def accuracy_and_loss(classifier: TorchClassifier, images: np.ndarray, y: np.ndarray) -> tuple[Figure, Figure]:
    """Accuracy and mean cross-entropy on images (N, C, H, W) with labels (N,)."""
    logits = classifier.predict(images, batch_size=500)
    return metrics.accuracy(logits.argmax(1), y), metrics.mean(metrics.cross_entropy(logits, y))


def _on(name: str, game: Game) -> dict[str, Any]:
    """The attacked classifier, as columns of a row."""
    return {"model": name, "defence": game.defence if name == "C1" else "none", "train_seed": game.seed}


def _by(game: Game) -> dict[str, Any]:
    """The attacker, as columns of a row; its source is the mode in which it was trained."""
    return {"attack": "gan", "variant": game.variant, "source": game.mode, "norm": "linf", "eps": game.t, "t": game.t}
