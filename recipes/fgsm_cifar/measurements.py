"""The measurements of ``fgsm-cifar``: functions from its networks to result rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from advbench import attacks, metrics
from advbench.recipes.fgsm_cifar.claims import REPORTED
from advbench.recipes.fgsm_cifar.materials import STANDARD, Loss, Networks, Regime
from advbench.seeds import own_global_state
from advbench.study import Rows


def table(made: Networks, regime: Regime, seed: int) -> Rows:
    """One network on clean images, on the FGSM images made on the standard network, and on those made on itself.

    The report's table is the second of these: for its defended network it is transfer.
    """
    common = {"model": regime.model, "defence": regime.name, "seed": seed}
    losses: tuple[Loss, ...] = ("mse", "ce")
    yield from _accuracy_and_loss(made, regime, made.logits(regime, seed, made.test.x), **common, exhibit="clean")
    for loss in losses:
        moved = np.any(made.direction(regime, seed, loss), axis=(1, 2, 3))
        share = metrics.proportion(int((~moved).sum()), len(made.test.y))
        yield share.row("zero_gradient", **common, exhibit="zero gradient", attack="fgsm", variant=loss)
    for eps in made.config.eps:
        fgsm = {**common, "attack": "fgsm", "norm": "linf", "eps": eps}
        if regime.model == STANDARD.model:
            logits = made.under_fgsm(regime, seed, STANDARD, "mse", eps)
            columns = {**fgsm, "exhibit": "transfer", "variant": "mse", "source": STANDARD.name}
            yield from _accuracy_and_loss(made, regime, logits, **columns)
        for loss in losses:
            predicted = made.under_fgsm(regime, seed, regime, loss, eps).argmax(1)
            columns = {**fgsm, "exhibit": "white box", "variant": loss, "source": regime.name}
            yield metrics.accuracy(predicted, made.test.y).row("accuracy", **columns)


def _accuracy_and_loss(made: Networks, regime: Regime, logits: np.ndarray, **columns: Any) -> Rows:
    """Accuracy, and the loss as Keras reports it: cross-entropy with the penalty on the kernels."""
    y = made.test.y
    losses = metrics.cross_entropy(logits, y) + made.penalty(regime, columns["seed"])
    figures = {"accuracy": metrics.accuracy(logits.argmax(1), y), "loss": metrics.mean(losses)}
    for metric, figure in figures.items():
        reported = REPORTED.get((regime.model, regime.name, columns.get("eps"), metric))
        yield figure.row(metric, **columns, reported=reported)


def strong(made: Networks, regime: Regime, eps: float) -> Rows:
    """Robust accuracy under FGSM, then under FGSM and PGD, both on the network itself and confined to [0, 1]."""
    yield from _robust(made, regime, eps, made.config.strong_images, "strong", ("fgsm", "pgd"))


def autoattack(made: Networks, regime: Regime) -> Rows:
    """Robust accuracy under PGD, then under PGD and AutoAttack, on fewer images and at one eps."""
    config = made.config
    yield from _robust(
        made, regime, config.autoattack_eps, config.autoattack_images, "autoattack", ("pgd", "autoattack")
    )


def _robust(made: Networks, regime: Regime, eps: float, n: int, exhibit: str, names: tuple[str, str]) -> Rows:
    config, seed, images = made.config, made.study.seed, made.test.first(n)
    classifier = made.classifier(regime, seed, clipped=True)
    tried = {name: [attacks.create(name, classifier, eps)] for name in names if name != "pgd"}
    pgd = [attacks.create("pgd", classifier, eps, max_iter=config.pgd_iterations)] * config.pgd_restarts
    with own_global_state(made.study.seed_of(exhibit, regime.name, eps)):
        figures = metrics.robust_accuracy(
            classifier, {name: tried.get(name, pgd) for name in names}, images.x, images.y
        )
    common = {"model": regime.model, "defence": regime.name, "seed": seed, "eps": eps}
    known = {"pgd": {"steps": config.pgd_iterations, "restarts": config.pgd_restarts}}
    for name, figure in figures.items():
        attack = {"attack": name, "norm": "linf", "source": regime.name} if name in names else {}
        yield figure.row("accuracy", **common, **attack, **known.get(name, {}))
