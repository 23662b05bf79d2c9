"""The measurements of ``weighted-cifar``: functions from its networks to result rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from advbench import attacks, metrics
from advbench.recipes.weighted_cifar.claims import DEFENCE, TARGETED, UNDEFENDED
from advbench.recipes.weighted_cifar.materials import BATCH, STANDARD, TARGET, Loss, Networks
from advbench.seeds import own_global_state
from advbench.study import Rows


def _columns(loss: Loss, seed: int, attack: str | None, eps: float | None) -> dict[str, Any]:
    norm = "linf" if attack else None
    network = {"defence": loss.kind, "fit_eps": loss.eps, "alpha": loss.alpha, "seed": seed}
    return {**network, "attack": attack, "norm": norm, "eps": eps}


def undefended(made: Networks, seed: int) -> Rows:
    """FGSM and PGA on the undefended network, as the report has them, and with what it leaves open varied."""
    some, y = made.test.first(made.config.variant_images or len(made.test.y)), made.test.y
    clean = metrics.accuracy(made.predicted(STANDARD, seed, made.test.x), y)
    yield clean.row("accuracy", **_columns(STANDARD, seed, None, None), reported=UNDEFENDED[None, None])
    for eps in made.config.eps:
        fgsm = made.predicted(STANDARD, seed, made.fgsm(STANDARD, seed, eps))
        for attack, predicted in (("fgsm", fgsm), ("pga", made.under_pga(seed, eps))):
            columns = _columns(STANDARD, seed, attack, eps)
            reported = UNDEFENDED.get((attack, eps))
            yield metrics.accuracy(predicted, y).row("accuracy", **columns, reported=reported)
        variants = {
            ("fgsm", "not clipped"): made.fgsm(STANDARD, seed, eps, clipped=False, images=some),
            ("pga", "not clipped"): made.pga(STANDARD, seed, eps, clipped=False, images=some),
            ("pga", "step eps/40"): made.pga(STANDARD, seed, eps, parts=40, images=some),
        }
        for (attack, variant), x in variants.items():
            figure = metrics.accuracy(made.predicted(STANDARD, seed, x), some.y)
            yield figure.row("accuracy", **_columns(STANDARD, seed, attack, eps), variant=variant)


def targeted(made: Networks, seed: int) -> Rows:
    """How often the undefended network predicts deer, over three sets of images, which are the variants.

    ``all`` images; the ``other`` ones, which show no deer; of these the ``moved`` ones, not taken for a deer before.
    """
    before = made.predicted(STANDARD, seed, made.test.x)
    other = made.test.y != TARGET
    counted = {"all": np.ones_like(other), "other": other, "moved": other & (before != TARGET)}
    predicted = {(None, None): before}
    for eps in made.config.eps:
        predicted["fgsm", eps] = made.predicted(STANDARD, seed, made.fgsm(STANDARD, seed, eps, "deer"))
        predicted["pgd", eps] = made.under_pga(seed, eps, targeted=True)
    for (attack, eps), labels in predicted.items():
        for variant, images in counted.items():
            rate = metrics.proportion(int((labels[images] == TARGET).sum()), int(images.sum()))
            reported = TARGETED.get((attack, eps)) if variant == "all" else None
            columns = _columns(STANDARD, seed, attack, eps)
            yield rate.row("target_rate", **columns, variant=variant, reported=reported)


def defence(made: Networks, loss: Loss, seed: int) -> Rows:
    """A network on clean images and under FGSM: with the true label, which it may leak, and with the predicted one."""
    for eps in made.attack_eps(loss):
        shown = {
            (None, None): made.test.x,
            ("fgsm", "true label"): made.fgsm(loss, seed, eps),
            ("fgsm", "predicted label"): made.fgsm(loss, seed, eps, "predicted"),
        }
        for (attack, variant), x in shown.items():
            figure = metrics.accuracy(made.predicted(loss, seed, x), made.test.y)
            reported = DEFENCE.get((loss.kind, loss.alpha, eps, variant))
            yield figure.row("accuracy", **_columns(loss, seed, attack, eps), variant=variant, reported=reported)


def strong(made: Networks, loss: Loss) -> Rows:
    """PGD from one start on every image, correct before or not, as FGSM is counted; then the worst case for each image.

    The worst case is over FGSM and all restarts of PGD.
    """
    config, seed = made.config, made.study.seed
    images, classifier = made.test.first(config.strong_images), made.classifier(loss, seed)
    for eps in made.attack_eps(loss):
        fgsm = attacks.create("fgsm", classifier, eps, batch_size=BATCH)
        pgd = attacks.create("pgd", classifier, eps, max_iter=config.pgd_iterations, batch_size=BATCH)
        every = {"worst case": [fgsm, *[pgd] * config.pgd_restarts]}
        with own_global_state(made.study.seed_of("pgd", loss.stage(seed), eps)):
            one_start = metrics.accuracy(made.predicted(loss, seed, pgd.generate(images.x, images.y)), images.y)
            robust = metrics.robust_accuracy(classifier, every, images.x, images.y)
        yield robust["clean"].row("accuracy", **_columns(loss, seed, None, eps))
        for attack, figure, starts in (
            ("pgd", one_start, 1),
            ("worst case", robust["worst case"], config.pgd_restarts),
        ):
            columns = _columns(loss, seed, attack, eps)
            yield figure.row("accuracy", **columns, steps=config.pgd_iterations, restarts=starts)


def autoattack(made: Networks, loss: Loss) -> Rows:
    """Robust accuracy under PGD, then under PGD and AutoAttack, on fewer images."""
    seed, classifier = made.study.seed, made.classifier(loss, made.study.seed)
    images, (eps,) = made.test.first(made.config.autoattack_images), made.attack_eps(loss)
    pgd = attacks.create("pgd", classifier, eps, max_iter=made.config.pgd_iterations)
    with own_global_state(made.study.seed_of("autoattack", loss.stage(seed))):
        tried = {"pgd": [pgd], "autoattack": [attacks.create("autoattack", classifier, eps)]}
        for name, figure in metrics.robust_accuracy(classifier, tried, images.x, images.y).items():
            yield figure.row("accuracy", **_columns(loss, seed, name if name in tried else None, eps))
