"""The measurements of ``weighted-cifar``: functions from its networks to result rows."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np

from advbench import attacks, metrics
from advbench.recipes.weighted_cifar.claims import CLEAN, DEFENCE, FIXED, TARGETED, UNDEFENDED
from advbench.recipes.weighted_cifar.materials import BATCH, STANDARD, TARGET, Loss, Networks, fgsm
from advbench.seeds import own_global_state
from advbench.study import Rows


def _columns(
    loss: Loss, seed: int, attack: str | None, eps: float | None, variant: str | None = None
) -> dict[str, Any]:
    network = {"defence": loss.kind, "fit_eps": loss.eps, "alpha": loss.alpha, "seed": seed}
    return {**network, "attack": attack, "norm": "linf" if attack else None, "eps": eps, "variant": variant}


def undefended(made: Networks, seed: int) -> Rows:
    """FGSM and PGA on the undefended network, as the report has them, and with what it leaves open varied."""
    usual, unclipped = made.classifier(STANDARD, seed), made.classifier(STANDARD, seed, clipped=False)
    some = made.test.first(made.config.variant_images or len(made.test.y))
    predicted = partial(made.predicted, STANDARD, seed)
    clean = metrics.accuracy(predicted(made.test.x), made.test.y)
    yield clean.row("accuracy", **_columns(STANDARD, seed, None, None), reported=CLEAN)
    for eps in made.config.eps:
        for attack, variant, labels in (
            ("fgsm", None, predicted(fgsm(usual, made.test, eps))),
            ("pga", None, made.under_pga(seed, eps)),
            ("fgsm", "not clipped", predicted(fgsm(unclipped, some, eps))),
            ("pga", "not clipped", predicted(made.pga(unclipped, some, eps))),
            ("pga", "step eps/40", predicted(made.pga(usual, some, eps, parts=40))),
        ):
            figure = metrics.accuracy(labels, made.test.y[: len(labels)])
            reported = None if variant else UNDEFENDED[attack].get(eps)
            yield figure.row("accuracy", **_columns(STANDARD, seed, attack, eps, variant), reported=reported)


def targeted(made: Networks, seed: int) -> Rows:
    """How often the undefended network predicts deer, over three sets of images, which are the variants.

    ``all`` images; the ``other`` ones, which show no deer; of these the ``moved`` ones, not taken for a deer before.
    """
    classifier, before = made.classifier(STANDARD, seed), made.predicted(STANDARD, seed, made.test.x)
    other = made.test.y != TARGET
    counted = {"all": np.ones_like(other), "other": other, "moved": other & (before != TARGET)}
    predicted: dict[tuple[str | None, float | None], np.ndarray] = {(None, None): before}
    for eps in made.config.eps:
        predicted["fgsm", eps] = made.predicted(STANDARD, seed, fgsm(classifier, made.test, eps, "deer"))
        predicted["pgd", eps] = made.under_pga(seed, eps, targeted=True)
    for ((attack, eps), labels), (variant, images) in product(predicted.items(), counted.items()):
        rate = metrics.proportion(int((labels[images] == TARGET).sum()), int(images.sum()))
        reported = TARGETED[attack].get(eps) if attack and variant == "all" else None
        yield rate.row("target_rate", **_columns(STANDARD, seed, attack, eps, variant), reported=reported)


def defence(made: Networks, loss: Loss, seed: int) -> Rows:
    """A network on clean images and under FGSM: with the true label, which it may leak, and with the predicted one.

    A network that was trained on a fixed set also meets the test images that were made in the same way.
    """
    classifier = made.classifier(loss, seed)
    for eps in made.attack_eps(loss):
        for attack, variant, x in (
            (None, None, made.test.x),
            ("fgsm", "true label", fgsm(classifier, made.test, eps)),
            ("fgsm", "predicted label", fgsm(classifier, made.test, eps, "predicted")),
            *([("fgsm", FIXED, made.moved(loss, seed, made.test))] if loss.kind == "fixed" else []),
        ):
            figure = metrics.accuracy(made.predicted(loss, seed, x), made.test.y)
            reported = DEFENCE.get((loss.kind, loss.alpha, eps, variant))
            yield figure.row("accuracy", **_columns(loss, seed, attack, eps, variant), reported=reported)


def strong(made: Networks, loss: Loss) -> Rows:
    """PGD from one start on every image, correct before or not, as FGSM is counted; then the worst case for each image.

    The worst case is over FGSM and all restarts of PGD.
    """
    config, seed = made.config, made.study.seed
    images, classifier = made.test.first(config.strong_images), made.classifier(loss, seed)
    for eps in made.attack_eps(loss):
        pgd = attacks.create("pgd", classifier, eps, max_iter=config.pgd_iterations, batch_size=BATCH)
        every = [attacks.create("fgsm", classifier, eps, batch_size=BATCH), *[pgd] * config.pgd_restarts]
        with own_global_state(made.study.seed_of("pgd", loss.stage(seed), eps)):
            one_start = metrics.accuracy(made.predicted(loss, seed, pgd.generate(images.x, images.y)), images.y)
            robust = metrics.robust_accuracy(classifier, {"worst case": every}, images.x, images.y)
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
