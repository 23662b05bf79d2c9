"""The measurements of ``training-mnist``: functions from its networks to result rows."""

from __future__ import annotations

from advbench import attacks, metrics
from advbench.recipes.training_mnist.claims import CONFIDENCE, TRANSFER
from advbench.recipes.training_mnist.materials import REGIMES, Networks, Regime
from advbench.study import Rows


def confidence(made: Networks, regime: Regime, seed: int) -> Rows:
    """The five-row table: a network on clean test images and on the FGSM images made on itself."""
    bound = {"norm": "linf", "eps": made.eps(regime, seed)}
    for attack, x, columns in ((None, made.test.x, {}), ("fgsm", made.fgsm(regime, seed), bound)):
        for metric, figure in metrics.confidence(made.logits(regime, seed, x), made.test.y).items():
            reported = CONFIDENCE.get((regime.name, attack, metric))
            yield figure.row(metric, defence=regime.name, seed=seed, attack=attack, reported=reported, **columns)


def transfer(made: Networks, seed: int) -> Rows:
    """Each network on the FGSM images made on each network: error rate, and confidence on the errors."""
    for source in REGIMES:
        attack = {"source": source.name, "attack": "fgsm", "norm": "linf", "eps": made.eps(source, seed)}
        for regime in REGIMES:
            figures = metrics.confidence(made.logits(regime, seed, made.fgsm(source, seed)), made.test.y)
            for metric in ("error", "confidence_wrong"):
                reported = TRANSFER.get((regime.name, source.name, metric))
                yield figures[metric].row(metric, defence=regime.name, seed=seed, reported=reported, **attack)


def stronger(made: Networks, regime: Regime) -> Rows:
    """Which attack would break a defence that trained on FGSM? PGD with restarts, then AutoAttack on what is left.

    At the report's eps, but confined to [0, 1] as those attacks expect; an image counts as robust if no attack beat it.
    """
    config, seed, images = made.config, made.study.seed, made.strong_images()
    classifier, eps = made.classifier(regime, seed, clipped=True), made.eps(regime, seed)
    pgd = attacks.create("pgd", classifier, eps, max_iter=config.pgd_iterations)
    tried = {
        "fgsm": [attacks.create("fgsm", classifier, eps)],
        "pgd": [pgd] * config.pgd_restarts,
        "autoattack": [attacks.create("autoattack", classifier, eps)],
    }
    known = {"pgd": {"steps": config.pgd_iterations, "restarts": config.pgd_restarts}}
    for name, figure in metrics.robust_accuracy(classifier, tried, images.x, images.y).items():
        attack = {"attack": name, "norm": "linf", "eps": eps} if name in tried else {}
        yield figure.row("accuracy", defence=regime.name, seed=seed, **attack, **known.get(name, {}))
