"""The study end to end on the embedded digits at a tiny size, read back from its directory; and the logic of its verdicts."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from tiny import settings

from advbench import estimators
from advbench.attacks import GANAttack
from advbench.cli import main
from advbench.data import load
from advbench.metrics import COLUMNS, Figure, where
from advbench.recipes.gan_mnist.claims import CLAIMS
from advbench.recipes.gan_mnist.materials import Networks
from advbench.recipes.gan_mnist.measurements import accuracy_and_loss
from advbench.seeds import derive
from advbench.study import find
from advbench.study.claims import judged
from advbench.study.stages import stage_seconds

TINY = {
    "t": "[0.08,0.32]",
    "seeds": 2,
    "width": 4,
    "train_images": 100,
    "test_images": 20,
    "epoch_images": 30,
    "epoch_test_images": 10,
    "clean_epochs": 3,
    "start_epochs": 1,
    "attack_epochs": 2,
    "pgd_images": 5,
    "pgd_steps": 2,
    "variants": "[clamp,output-batch-norm,ensemble,fresh,half-clean,five-steps,pgd]",
    "variant_seeds": 1,
}
ARGUMENTS = ["recipe", "gan-mnist", "--dataset", "digits", "--device", "cpu", "--workers", "1"]
ARGUMENTS += settings(TINY)


def test_the_rows_say_what_they_are(rows):
    assert set(rows.exhibit) == {"clean", "curves", "attacked", "crossed", "pgd", "claims"}
    assert set(rows.target.dropna()) == {f"H{i}" for i in range(1, 7)}
    shares = rows[rows.metric.str.contains("accuracy") & rows.target.isna()]
    assert shares.value.between(0, 1).all() and (shares.n > 0).all()
    assert ((shares.ci_low <= shares.value) & (shares.value <= shares.ci_high)).all()
    curves = where(rows, exhibit="curves", metric="attacked_accuracy", variant=None)
    assert len(curves) == 2 * 2 * 2 * 2 * 2  # seeds, t, modes, C1 and C2, epochs
    assert set(curves.epoch) == {1, 2} and set(curves.train_seed) == {0, 1}
    variants = set(where(rows, exhibit="attacked", metric="attacked_accuracy").variant.dropna())
    assert variants == {"clamp", "output-batch-norm", "ensemble", "fresh", "half-clean", "five-steps"}
    taught = where(rows, exhibit="pgd", attack="pgd", defence="pgd")
    assert taught.t.tolist() == [0.08] and taught.train_seed.tolist() == [0]


def test_the_figures_are_those_of_the_kept_networks(run, rows):
    """The alternating C1 of the second seed under its own attacker, from the weights alone."""
    c1 = estimators.load(run, "alternating-t0.32-seed1-c1", device="cpu")
    attack = GANAttack.load(run / "models" / "alternating-t0.32-seed1.safetensors", c1)
    test = load("digits", "test", shape=(1, 28, 28))
    chosen = np.random.default_rng(derive(0, "subset", "test")).permutation(len(test))[:20]
    of = where(rows, exhibit="attacked", source="alternating", t=0.32, model="C1", train_seed=1).set_index("metric")
    right = c1.predict(attack.generate(test.x[chosen] / np.float32(255))).argmax(1) == test.y[chosen]
    assert of.value["attacked_accuracy"] == pytest.approx(right.mean())
    assert of.n["attacked_accuracy"] == 20


def test_c1_of_both_modes_starts_from_the_same_weights_and_c2_from_others(run):
    """One epoch of the three is a prefix: after it the start of the alternating mode is on the way to the clean C1."""
    start, clean = (pd.read_csv(run / "models" / f"c1-{n}-epochs-seed0.csv") for n in (1, 3))
    assert start.loss[0] == clean.loss[0]
    other = pd.read_csv(run / "models" / "c2-3-epochs-seed0.csv")
    again = pd.read_csv(run / "models" / "c1-3-epochs-seed1.csv")
    assert len({clean.loss[0], other.loss[0], again.loss[0]}) == 3


def test_the_seconds_of_a_game_of_two_are_those_of_one_of_them(run):
    of_c1, of_attacker = (
        pd.read_csv(run / "models" / f"alternating-t0.08-seed0{which}.csv").seconds for which in ("-c1", "")
    )
    assert (of_attacker == 0).all() and len(of_c1) == len(of_attacker)
    assert stage_seconds(run)["alternating-t0.08-seed0-c1"] >= round(of_c1.sum(), 1)


def test_a_finished_run_is_not_computed_again_and_a_lost_attacker_is(run):
    kept = (run / "models" / "alternating-t0.08-seed0.safetensors").read_bytes()
    (run / "models" / "alternating-t0.08-seed0.safetensors").unlink()
    (run / "stages" / "attacked-alternating-t0.08-seed0.json").unlink()
    results = (run / "results.csv").read_bytes()
    before = {path: path.stat().st_mtime_ns for path in (run / "stages").iterdir()}
    assert CliRunner().invoke(main, [*ARGUMENTS, "--out", str(run)]).exit_code == 0
    changed = {path.stem for path, when in before.items() if path.stat().st_mtime_ns != when}
    assert changed == {"alternating-t0.08-seed0"}
    assert (run / "models" / "alternating-t0.08-seed0.safetensors").read_bytes() == kept
    assert (run / "results.csv").read_bytes() == results


def test_every_exhibit_is_drawn(run):
    shown = {exhibit["name"]: exhibit for exhibit in json.loads((run / "exhibits.json").read_text())}
    curves = [f"curves-{mode}-{what}" for mode in ("consecutive", "alternating") for what in ("accuracy", "loss")]
    assert set(shown) == {"perturbations", *curves, "accuracy", "compared", "pgd", "crossed", "variants"}
    for name, exhibit in shown.items():
        assert "chart" in exhibit or name == "variants"
        assert "table" not in exhibit or exhibit["table"]["data"]
    picture = (run / "charts" / "perturbations.svg").read_text()
    assert picture.count("<image") == 2 * 3 * 2  # t, kinds of picture, digits


def test_wrong_settings_are_named():
    for setting, named in (
        ("t=0", "t"),
        ("t=[0.1,2]", "t.1"),
        ("variants=other", "variants"),
        ("ensemble=1", "ensemble"),
    ):
        result = CliRunner().invoke(main, ["recipe", "gan-mnist", "--dataset", "digits", "--set", setting])
        assert result.exit_code == 2 and f"--set {named}" in result.output


def test_bounds_that_the_zoo_has_no_attacker_of_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(Networks, "available", lambda self, stage: False)
    result = CliRunner().invoke(main, [*ARGUMENTS, "--out", str(tmp_path / "run")])
    assert result.exit_code == 2 and "the zoo has no attacker of any t" in result.output


def test_paper_is_the_report():
    """Section 5.2: its bounds, lengths and seeds, all images, the attacker at full width."""
    paper = find("gan-mnist").presets["paper"]
    assert paper.t == (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
    assert (paper.clean_epochs, paper.start_epochs, paper.attack_epochs, paper.seeds, paper.width) == (20, 5, 20, 5, 64)
    assert paper.train_images is paper.test_images is paper.epoch_images is None


GRID = (0.04, 0.08, 0.16)
REPORTED = {  # by mode and model, over the grid; clean accuracy 0.99
    ("consecutive", "C1"): (0.80, 0.20, 0.10),
    ("consecutive", "C2"): (0.98, 0.90, 0.50),
    ("alternating", "C1"): (0.98, 0.85, 0.60),
    ("alternating", "C2"): (0.98, 0.95, 0.80),
}


def made(values, clean=0.99, pgd=(0.9, 0.5), seeds=2):
    """Rows as the study would write them, every seed a little apart."""
    for model in ("C1", "C2"):
        yield from seeded(seeds, clean, exhibit="clean", metric="clean_accuracy", model=model)
    for (mode, model), accuracies in values.items():
        for t, accuracy in zip(GRID, accuracies, strict=True):
            of = {"exhibit": "attacked", "source": mode, "model": model, "t": t}
            yield from seeded(seeds, accuracy, metric="attacked_accuracy", **of)
            yield from seeded(seeds, 1.0, metric="attacked_accuracy", variant="clamp", **of)  # decides nothing
            yield from seeded(seeds, clean, metric="clean_accuracy", **of)
    for defence, accuracy in zip(("alternating", "none"), pgd, strict=True):
        for t in (0.04, 0.08):
            yield from seeded(seeds, accuracy, exhibit="pgd", metric="attacked_accuracy", defence=defence, t=t)


def seeded(seeds, value, metric, **columns):
    for seed in range(seeds):
        figure = Figure(value - 0.0002 * seed, 1000, value - 0.001, value + 0.001)
        yield figure.row(metric, train_seed=seed, **columns)


def words_of(rows):
    words = {}
    for verdict in judged(CLAIMS, pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)):
        words.setdefault(verdict.target, []).append(verdict.word)
    return words


def test_the_reports_own_numbers_hold():
    assert {word for words in words_of(made(REPORTED)).values() for word in words} == {"holds"}
    assert {word for words in words_of(made(REPORTED, seeds=1)).values() for word in words} == {"holds"}


@pytest.mark.parametrize(
    "change, missed",
    [
        ({("consecutive", "C1"): (0.95, 0.20, 0.10)}, {"H2": 1, "H4": 1, "H5": 1}),
        ({("consecutive", "C1"): (0.80, 0.20, 0.25)}, {"H2": 1}),
        ({("consecutive", "C2"): (0.95, 0.75, 0.05)}, {"H3": 3}),
        ({("alternating", "C1"): (0.95, 0.85, 0.60)}, {"H4": 1}),
        ({("alternating", "C1"): (0.98, 0.25, 0.60)}, {"H4": 1}),
        ({("alternating", "C1"): (0.98, 0.97, 0.96)}, {"H5": 1}),
        ({("alternating", "C1"): (0.88, 0.85, 0.60)}, {"H4": 2, "H5": 1}),
    ],
)
def test_a_missed_part_is_seen(change, missed):
    words = words_of(made({**REPORTED, **change}))
    for target, parts in words.items():
        assert parts.count("missed") == missed.get(target, 0), target


def test_low_clean_accuracy_and_a_defence_that_only_fits_its_attacker_are_seen():
    assert words_of(made(REPORTED, clean=0.985))["H1"] == ["missed", "missed"]
    assert words_of(made(REPORTED, pgd=(0.52, 0.5)))["H6"] == ["missed", "missed"]


def test_what_no_row_measures_is_not_measured():
    assert {word for words in words_of([]).values() for word in words} == {"not measured"}


def test_the_threshold_is_not_measured_where_the_reported_t_was_left_out():
    rows = [row for row in made(REPORTED) if row.get("t") == 0.08 or row["exhibit"] == "clean"]
    assert words_of(rows)["H5"] == ["not measured", "holds"]


def test_a_classifier_that_no_t_hurts_is_measured_by_its_largest_drop():
    unhurt = {**REPORTED, ("consecutive", "C1"): (0.98, 0.97, 0.96)}
    (claim,) = [claim for claim in CLAIMS if claim.id == "H5" and "consecutive" in claim.measured]
    row = claim.row(pd.DataFrame(made(unhurt), columns=list(COLUMNS)).astype(COLUMNS))
    assert row["metric"] == "largest drop in accuracy at any t, consecutive C1"
    assert row["value"] == pytest.approx(0.03) and row["accept_low"] == 0.05 and row["reported"] is None


def test_loss_and_accuracy_are_those_of_torch(classifier, digits):
    accuracy, loss = accuracy_and_loss(classifier, digits[2], digits[3])
    logits = torch.from_numpy(classifier.predict(digits[2]))
    assert loss.value == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(digits[3]))), rel=1e-5
    )
    assert accuracy.value == pytest.approx(float((logits.argmax(1).numpy() == digits[3]).mean()))
