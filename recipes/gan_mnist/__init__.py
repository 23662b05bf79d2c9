"""Report 004 on MNIST: a network that learns to attack a classifier, and a classifier that learns along with it."""

from __future__ import annotations

from advbench.recipes.gan_mnist.claims import CLAIMS
from advbench.recipes.gan_mnist.config import PRESETS, GanMnist
from advbench.recipes.gan_mnist.exhibits import EXHIBITS, answer
from advbench.recipes.gan_mnist.materials import ALTERNATING, MODES, PRETRAINED, Game, Networks, clean_stage
from advbench.recipes.gan_mnist.measurements import attacked, clean, crossed, curves, pgd
from advbench.recipes.reports import HEIDECKE
from advbench.study import Study, recipe


@recipe(
    "gan-mnist",
    dataset="mnist",
    embedded_shape=(1, 28, 28),
    presets=PRESETS,
    question="Can a network learn to attack a classifier in one pass, and does a classifier that learns along with it "
    "withstand that attack and others?",
    report=HEIDECKE,
    claims=CLAIMS,
    answer=answer,
    pretrained=PRETRAINED,
)
def gan_mnist(study: Study[GanMnist]) -> None:
    """The whole report, then what it did not ask: PGD, crossed attackers, several classifiers at once."""
    made, config = Networks(study), study.config
    seeds = range(config.seeds)
    epochs = {"c1": {config.clean_epochs, config.start_epochs}, "c2": {config.clean_epochs, made.alternating_epochs}}
    settings = [(t, seed) for seed in seeds for t in made.t]
    games = [Game(mode, t, seed) for t, seed in settings for mode in MODES]
    varied = [(variant, seed) for seed in seeds[: config.variant_seeds] for variant in config.variants]
    games += [
        Game("alternating" if variant in ALTERNATING else "consecutive", made.middle, seed, variant)
        for variant, seed in varied
        if variant != "pgd"
    ]
    trained = [(name, seed, n) for seed in seeds for name in epochs for n in epochs[name]]
    study.make_each(
        (Networks.clean, made, *each) for each in trained if made.available(clean_stage(each[0], each[2], each[1]))
    )
    study.make_each((Networks.played, made, game) for game in games if game.variant != "fresh")
    # a fresh attacker needs the C1 of a game that is played by now
    study.make_each((Networks.played, made, game) for game in games if game.variant == "fresh")
    study.make_each((Networks.taught_by_pgd, made, seed) for seed in made.pgd_seeds)
    study.measure_each(clean, made, seeds, independent=True)
    study.measure_each(curves, made, games, independent=True)
    study.measure_each(attacked, made, games, independent=True)
    study.measure_each(crossed, made, settings, independent=True)
    study.measure_each(pgd, made, settings, independent=True)
    study.show(EXHIBITS, made)
    study.run.explorer(made.explorer)
