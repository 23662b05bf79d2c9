"""Report 004 on MNIST: a network that learns to attack a classifier, and a classifier that learns along with it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from advbench import metrics
from advbench.metrics import Figure
from advbench.study.registry import Config, recipe
from advbench.recipes import _gan_mnist_exhibits as exhibits
from advbench.recipes._gan_mnist_lab import MODES, Game, Laboratory, Statistics, figures, play, train_clean
from advbench.study.study import Study

Bound = Annotated[float, Field(gt=0, le=1)]
BATCH_NORM: tuple[tuple[Statistics, str], ...] = (("running", ""), ("batch", "_batch_statistics"))
"""Whose statistics the attacker's batch norm uses outside training, and what the metric is called then."""

Variant = Literal["clamp", "output-batch-norm", "ensemble", "fresh", "half-clean"]


class GanMnist(Config):
    """Sizes are numbers of images, null means all; an epoch is ``epoch_images`` of an endless shuffled walk."""

    t: tuple[Bound, ...] = Field((0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64), description="l-inf bounds of the attacker")
    seeds: PositiveInt = Field(5, description="repetitions of the whole study")
    width: PositiveInt = Field(64, description="maps of the attacker's first layer")
    train_images: PositiveInt | None = None
    test_images: PositiveInt | None = Field(None, description="on which the final figures are measured")
    epoch_images: PositiveInt | None = Field(None, description="an epoch, in every training")
    epoch_test_images: PositiveInt = Field(1000, description="test images attacked after every epoch, for the curves")
    clean_epochs: PositiveInt = Field(20, description="of C1 and C2 in the consecutive mode")
    start_epochs: PositiveInt = Field(5, description="of C1 before the alternating mode")
    attack_epochs: PositiveInt = Field(20, description="of the attacker, in either mode")
    pgd_images: PositiveInt = 1000
    pgd_steps: PositiveInt = 40
    pgd_restarts: PositiveInt = 5
    variants: tuple[Variant, ...] = Field(
        ("clamp", "output-batch-norm", "ensemble", "fresh", "half-clean"), description="tried at the t nearest to 0.08"
    )
    variant_seeds: PositiveInt = Field(5, description="of the seeds, those in which the variants are trained as well")
    ensemble: int = Field(3, ge=2, description="classifiers that the attacker of the variant ensemble is trained on")


PRESETS = {
    "paper": GanMnist(),
    # one pass over all images for each attacker, twelve looks at it on the way; at half the report's width an attacker
    # learns more from one pass than at the whole: there it does not leave one perturbation for all images
    "small": GanMnist(
        t=(0.04, 0.08, 0.16),
        seeds=3,
        width=32,
        test_images=2000,
        epoch_images=6000,
        epoch_test_images=500,
        clean_epochs=30,
        start_epochs=10,
        attack_epochs=12,
        pgd_images=500,
        pgd_steps=20,
        pgd_restarts=3,
        variants=("clamp", "ensemble", "fresh"),
        variant_seeds=1,
    ),
    # two bounds and a narrow attacker: seconds of training show an effect at the large one only
    "quick": GanMnist(
        t=(0.08, 0.32),
        seeds=1,
        width=8,
        test_images=200,
        epoch_images=300,
        epoch_test_images=100,
        clean_epochs=6,
        start_epochs=3,
        attack_epochs=5,
        pgd_images=60,
        pgd_steps=10,
        pgd_restarts=2,
        variants=("ensemble",),
        variant_seeds=1,
        ensemble=2,
    ),
}


@recipe(
    "gan-mnist",
    dataset="mnist",
    embedded_shape=(1, 28, 28),
    presets=PRESETS,
    question="Can a network learn to attack a classifier in one pass, and does a classifier that learns along with it "
    "withstand that attack and others?",
)
def gan_mnist(study: Study) -> None:
    """The whole report, then what it did not ask: PGD, crossed attackers, several classifiers at once."""
    config, run = study.config, study.run
    variant_t = min(config.t, key=lambda t: abs(t - 0.08))  # where the report's two modes differ most
    pairs = [[Game(mode, t, seed) for mode in MODES] for seed in range(config.seeds) for t in config.t]
    games = [game for pair in pairs for game in pair]
    variants = [
        Game("alternating" if variant == "half-clean" else "consecutive", variant_t, seed, variant)
        for seed in range(min(config.variant_seeds, config.seeds))
        for variant in config.variants
    ]
    both = config.start_epochs + config.attack_epochs
    lengths = (("c1", config.clean_epochs), ("c2", config.clean_epochs), ("c1", config.start_epochs), ("c2", both))
    study.each(
        train_clean, [(name, seed, epochs) for seed in range(config.seeds) for name, epochs in dict.fromkeys(lengths)]
    )
    study.each(play, [*games, *(game for game in variants if game.variant != "fresh")])
    study.each(play, [game for game in variants if game.variant == "fresh"])  # on the C1 of a game that is now there

    lab = study.measure(
        Laboratory,
        [
            *((f"clean-seed{seed}", clean_accuracy, seed) for seed in range(config.seeds)),
            *((f"attacked-{game.label}", attacked, game) for game in (*games, *variants)),
            *((f"crossed-t{one.t:g}-seed{one.seed}", crossed, one, other) for one, other in pairs),
            *((f"pgd-t{one.t:g}-seed{one.seed}", under_pgd, one, other) for one, other in pairs),
        ],
    )
    run.rows("targets", lambda: exhibits.targets(run.results()))
    exhibits.show(run, config.t, lab.picture())
    run.explorer(partial(lab.explorer, [Game(mode, t, 0) for t in config.t for mode in MODES]))


def _model(name: str, seed: int) -> str:
    return f"{name}, seed {seed}"


def clean_accuracy(lab: Laboratory, seed: int) -> Iterator[dict[str, Any]]:
    """C1 and C2 of the consecutive mode on the test images as they are."""
    for name in ("c1", "c2"):
        classifier = lab.clean(name, seed, lab.config.clean_epochs)
        accuracy, _ = figures(classifier, lab.test.x, lab.test.y)
        yield accuracy.row(
            "clean_accuracy", split="test", exhibit="clean", model=_model(name.upper(), seed), defence="none"
        )


def attacked(lab: Laboratory, game: Game) -> Iterator[dict[str, Any]]:
    """One attacker, epoch by epoch and at the end, on C1 and on C2; a row's position is its epoch.

    At the end with and without a clip to [0, 1], and with either kind of the attacker's batch norm.
    """
    models = {"C1": lab.play(game)[0], "C2": lab.second(game)}
    for name, classifier in models.items():
        common = {"split": "test", "model": _model(name, game.seed), **game.columns()}
        common["defence"] = game.defence if name == "C1" else "none"
        history, n = lab.history(game), len(lab.watched.x)
        suffix = "" if name == "C1" else "_C2"
        for entry in history.to_dict("records"):
            common_entry = {**common, "exhibit": "curves", "position": entry["epoch"]}
            accuracy = metrics.proportion(round(entry[f"attacked_accuracy{suffix}"] * n), n)
            yield accuracy.row("attacked_accuracy", **common_entry)
            yield Figure(entry[f"attacked_loss{suffix}"], n).row("attacked_loss", **common_entry)
        common["exhibit"] = "variants" if game.variant else "attacked"
        yield figures(classifier, lab.test.x, lab.test.y)[0].row("clean_accuracy", **common)
        for statistics, of in BATCH_NORM:
            for clip, how in ((False, ""), (True, "_clipped")):
                accuracy, loss = figures(classifier, lab.attacked(game, statistics, clip), lab.test.y)
                yield accuracy.row(f"attacked_accuracy{of}{how}", **common)
                yield loss.row(f"attacked_loss{of}{how}", **common)


def crossed(lab: Laboratory, *games: Game) -> Iterator[dict[str, Any]]:
    """Each mode's attacker on each mode's C1."""
    for played in games:
        classifier, _ = lab.play(played)
        for attacker in games:
            accuracy, _ = figures(classifier, lab.attacked(attacker), lab.test.y)
            yield accuracy.row(
                "attacked_accuracy",
                split="test",
                exhibit="crossed",
                model=_model("C1", played.seed),
                defence=played.defence,
                **attacker.columns(),
            )


def under_pgd(lab: Laboratory, *games: Game) -> Iterator[dict[str, Any]]:
    """H6: PGD with the attacker's bound on each mode's C1; and the worst case over it and every attacker, clipped."""
    config = lab.config
    n = min(config.pgd_images, len(lab.test.x))
    for played in games:
        classifier, _ = lab.play(played)
        right = lab.right_under_pgd(classifier, played.t)
        common = {
            "split": "test",
            "exhibit": "pgd",
            "model": _model("C1", played.seed),
            "defence": played.defence,
            "norm": "linf",
            "eps": played.t,
        }
        pgd = f"pgd, {config.pgd_steps} steps, {config.pgd_restarts} restarts"
        yield metrics.proportion(int(right.sum()), n).row("attacked_accuracy", attack=pgd, **common)
        for attacker in games:
            predicted = classifier.predict(lab.attacked(attacker, clip=True)[:n]).argmax(1)
            right &= predicted == lab.test.y[:n]
        yield metrics.proportion(int(right.sum()), n).row("worst_case_accuracy", attack="pgd and gan", **common)
