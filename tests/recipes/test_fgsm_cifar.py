"""Report 000 end to end on the embedded digits, and its verdicts from hand-made rows."""

import json

import numpy as np
import pandas as pd
import pytest
from art.attacks.evasion import FastGradientMethod
from click.testing import CliRunner
from tiny import settings

from advbench import estimators, models
from advbench.cli import main
from advbench.data import Images, load
from advbench.recipes.compare_defences.future import FUTURE
from advbench.recipes.fgsm_cifar.claims import CLAIMS, CLEAN, DEFENDED, UNDEFENDED, best_reading
from advbench.recipes.fgsm_cifar.config import FgsmCifar
from advbench.recipes.fgsm_cifar.materials import LARGEST, READINGS, STANDARD, Networks, training_eps
from advbench.recipes.fgsm_cifar.measurements import table
from advbench.seeds import derive
from advbench.study.claims import judged
from advbench.study.schema import typed
from advbench.trainers.losses import SoftmaxMSE

TINY = {
    "train_images": 96,
    "test_images": 24,
    "watched_images": 16,
    "epochs": 2,
    "defended_epochs": 1,
    "eps": "[0.005,0.05]",
    "readings": "[V1,V2,V3,V1 dynamic,V2 dynamic]",
    "pooling": "true",
    "seeds": 1,
    "strong_images": 4,
    "pgd_iterations": 2,
    "pgd_restarts": 1,
    "autoattack_images": 1,
    "autoattack_eps": 0.3,
    "future.defences": ",".join(FUTURE),
    "future.train_images": 32,
    "future.validation_images": 16,
    "future.test_images": 8,
    "future.epochs": 1,
    "future.batch": 16,
    "future.eps": 0.01,
    "future.draws": 2,
    "future.pgd_steps": 2,
    "future.adaptive_steps": 2,
    "future.restarts": 1,
}
ARGUMENTS = ["recipe", "fgsm-cifar", "--dataset", "digits", "--device", "cpu", "--workers", "1"]
ARGUMENTS += settings(TINY)


def test_every_exhibit_is_there(run, rows):
    assert set(rows.exhibit) == {
        "clean",
        "transfer",
        "white box",
        "zero gradient",
        "strong",
        "autoattack",
        "comparison",
        "gap",
        "certificate",
        "defence training",
        "claims",
    }
    assert set(rows.target.dropna()) == {"V-a", "V-b", "V-c", "V-d", "V-e"}
    assert set(rows[rows.exhibit == "transfer"].defence) == {"none", *READINGS}
    white_box = rows[rows.exhibit == "white box"]
    assert set(white_box.attack) == {"fgsm"} and set(white_box.variant) == {"mse", "ce"}
    names = [exhibit["name"] for exhibit in json.loads((run / "exhibits.json").read_text())]
    future = ["comparison-2-55", "naive-adaptive-2-55", "adaptive", "certificate"]
    before = ["table", "readings", "columns", "zero-gradient", "picture", "pooling", "autoattack"]
    assert names == [*before, *future, "curves"]


def test_every_defence_of_future_work_is_a_row_under_the_attack_that_knows_it(rows):
    part = rows[rows.exhibit == "comparison"]
    assert set(part.defence) == set(FUTURE)
    for name in FUTURE:
        left = part[part.defence == name].set_index("attack").value
        own = left.drop(["clean", "transfer", "fgsm", "pgd", "adaptive", "worst case"])
        assert left["adaptive"] <= own.min() and left["worst case"] == left.min()
        gap = rows[(rows.metric == "gap") & (rows.defence == name)].value.item()
        assert gap == pytest.approx(left["pgd"] - left["adaptive"])
    knows = part[~part.attack.isin(["clean", "transfer", "fgsm", "pgd", "adaptive", "worst case"])]
    assert knows[knows.defence == "jpeg-compression"].attack.tolist() == ["bpda"]
    assert knows[knows.defence == "vae-reformer"].attack.tolist() == ["pgd-expectation"]
    assert "pgd-scaled-logits" in set(knows[knows.defence == "defensive-distillation"].attack)
    trained = rows[rows.metric == "training_images"].set_index("defence").value
    assert set(trained.index) == set(FUTURE) - {"none", "jpeg-compression"} and (trained == 32).all()


class MadeUp(Networks):
    """Networks with logits and gradients that nobody computed; counts how often images are classified."""

    def __init__(self):
        self.config = FgsmCifar(eps=(0.005, 0.05))
        self.test = Images(np.zeros((2, 3, 4, 4), np.float32), np.arange(2))
        self.classified = 0

    def direction(self, regime, seed, loss):
        return np.ones(self.test.x.shape, np.int8)

    def logits(self, regime, seed, x):
        self.classified += 1
        return np.zeros((len(x), 10), np.float32)

    def penalty(self, regime, seed):
        return 0.0


@pytest.mark.parametrize(("reading", "sets"), [("none", 2), ("V1", 3)])
def test_no_set_of_images_is_classified_twice(reading, sets):
    """Clean images once, and each set of FGSM images once an eps: of two losses on the network itself, and of the squared
    error on the undefended one, which for that network is one of the two."""
    made, regime = MadeUp(), STANDARD if reading == "none" else READINGS[reading]
    rows = list(table(made, regime, 0))
    assert made.classified == 1 + sets * len(made.config.eps)
    assert sum(row["exhibit"] in ("transfer", "white box") and row["metric"] == "accuracy" for row in rows) == 6


def test_the_undefended_row_is_the_network_that_the_study_trained(run, rows):
    test = load("digits", "test", shape=(3, 32, 32))
    chosen = np.sort(np.random.default_rng(derive(0, "subset", len(test))).permutation(len(test))[:8])
    images = test.images(chosen)
    kept = estimators.load(run, "vgg-none-seed0", device="cpu")
    x = np.load(run / "arrays" / "transfer-0.01" / "x.npy")
    assert np.abs(x - images.x).max() <= 0.01 + 1e-6
    said = rows[(rows.exhibit == "comparison") & (rows.defence == "none")].set_index("attack").value
    for attack, shown in (("clean", images.x), ("transfer", x)):
        assert said[attack] == (kept.predict(shown).argmax(1) == images.y).mean()


def test_a_defence_that_is_not_known_is_one_line(tmp_path):
    settings = ["--set", "future.defences=jpeg-compresion", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, [*ARGUMENTS, *settings])
    assert result.exit_code == 2 and "did you mean 'jpeg-compression'" in result.output


def test_transfer_onto_the_undefended_network_is_white_box(rows):
    part = rows[(rows.defence == "none") & (rows.model == "vgg") & (rows.metric == "accuracy")]
    moved = part[part.exhibit == "transfer"].set_index("eps").value
    own = part[(part.exhibit == "white box") & (part.variant == "mse")].set_index("eps").value
    pd.testing.assert_series_equal(moved, own)


def test_the_accuracy_in_the_results_is_that_of_arts_own_unclipped_fgsm(run, rows):
    """On V2, the images made on the undefended network with ART's attack through the squared error."""
    test = load("digits", "test", shape=(3, 32, 32))
    x, y = test.x[:24].astype(np.float32) / 255, test.y[:24]
    source, _ = models.load(run / "models" / "vgg-none-seed0.safetensors")
    crafting = estimators.classifier(source, (3, 32, 32), 10, device="cpu", clip_values=None, loss=SoftmaxMSE())
    adversarial = FastGradientMethod(crafting, np.inf, 0.05).generate(x, y)
    assert adversarial.min() < 0
    defended = estimators.load(run, "vgg-V2-seed0", device="cpu")
    said = rows[
        (rows.exhibit == "transfer") & (rows.defence == "V2") & (rows.metric == "accuracy") & (rows.eps == 0.05)
    ]
    assert said.value.item() == pytest.approx((defended.predict(adversarial).argmax(1) == y).mean())


def test_attacks_never_help_the_defender(rows):
    for exhibit in ("strong", "autoattack"):
        for _, left in rows[rows.exhibit == exhibit].groupby(["defence", "eps"]):
            assert left.value.is_monotonic_decreasing and len(left) == 3


def test_the_loss_holds_the_penalty_on_the_kernels(run, rows):
    module, _ = models.load(run / "models" / "vgg-none-seed0.safetensors")
    kernels, _ = module.decayed(1e-4)
    penalty = 1e-4 * sum((kernel**2).sum().item() for kernel in kernels["params"])
    test = load("digits", "test", shape=(3, 32, 32))
    x, y = test.x[:24].astype(np.float32) / 255, test.y[:24]
    classifier = estimators.classifier(module, (3, 32, 32), 10, device="cpu")
    logits = classifier.predict(x).astype(float)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(24), y]
    said = rows[(rows.exhibit == "clean") & (rows.metric == "loss") & (rows.defence == "none") & (rows.model == "vgg")]
    assert said.value.item() == pytest.approx(losses.mean() + penalty, rel=1e-4)


def test_a_killed_run_goes_on_where_it_stopped(run, tmp_path):
    """What is lost is computed again, equal to the bit; what is kept is not touched."""
    before = (run / "results.csv").read_bytes()
    (run / "models" / "vgg-V3-seed0.safetensors").unlink()
    (run / "stages" / "vgg-V3-seed0.json").unlink()
    (run / "stages" / "table-vgg-V3-0.json").unlink()
    (run / "models" / "defence-vae-reformer.safetensors").unlink()
    for stage in ("attacked-vae-reformer-0.01", "future-defence-vae-reformer"):
        (run / "stages" / f"{stage}.json").unlink()
    kept = (run / "models" / "vgg-V1-seed0.safetensors").stat().st_mtime_ns
    result = CliRunner().invoke(main, [*ARGUMENTS, "--out", str(run)])
    assert result.exit_code == 0, result.output
    assert (run / "results.csv").read_bytes() == before
    assert (run / "models" / "vgg-V1-seed0.safetensors").stat().st_mtime_ns == kept


def test_the_readings_draw_their_eps_as_the_text_and_the_code_say():
    each, once = training_eps(READINGS["V1"], 0, 1000), training_eps(READINGS["V2"], 0, 1000)
    assert len(set(each)) == 1000 and each.min() >= 0 and each.max() <= LARGEST
    assert each.mean() == pytest.approx(LARGEST / 2, abs=0.005)
    assert len(set(once)) == 1 and 0 <= once[0] <= LARGEST
    assert np.array_equal(once, training_eps(READINGS["V3"], 0, 1000))
    assert once[0] != training_eps(READINGS["V2"], 1, 1)[0]
    assert (training_eps(READINGS["V2"], 0, 3, 0.02) == 0.02).all()
    assert np.array_equal(training_eps(READINGS["V1"], 0, 1000, 0.02), each)


def test_the_history_of_a_training_has_its_name_and_its_seed(run):
    history = pd.read_csv(run / "models" / "vgg-V1-dynamic-seed0.csv")
    assert set(history.training) == {"vgg-V1-dynamic"} and set(history.seed) == {0}


def reported_rows(own=0.2, changes=None):
    """The report's own numbers as result rows, with some cells changed: (exhibit, defence, eps) -> value."""
    rows = [{"exhibit": "clean", "defence": "none", "value": CLEAN}]
    for eps, value in UNDEFENDED.items():
        rows.append({"exhibit": "transfer", "defence": "none", "eps": eps, "attack": "fgsm", "value": value})
    for eps, value in DEFENDED.items():
        for name, off in (("V1", 0.0), ("V2", 0.2)):
            columns = {"defence": name, "eps": eps}
            rows.append({"exhibit": "transfer", "attack": "fgsm", "value": value - off, **columns})
            rows.append({"exhibit": "strong", "attack": "fgsm", "value": 0.9, **columns})
            rows.append({"exhibit": "strong", "attack": "pgd", "value": max(value - own, 0), **columns})
    table = typed(pd.DataFrame(rows))
    table = table.assign(metric="accuracy", model="vgg", seed=0, n=1000, ci_low=table.value, ci_high=table.value)
    for (exhibit, defence, eps), value in (changes or {}).items():
        same = table.eps.isna() if eps is None else table.eps == eps
        hit = (table.exhibit == exhibit) & (table.defence == defence) & same
        assert hit.any()
        table.loc[hit, ["value", "ci_low", "ci_high"]] = value
    return table


def words(table):
    found = judged(CLAIMS, table)
    return {target: {v.word for v in found if v.target == target} for target in {v.target for v in found}}


def test_the_reports_own_numbers_hold_every_claim():
    table = reported_rows()
    assert best_reading(table) == "V1"
    assert words(table) == {f"V-{letter}": {"holds"} for letter in "abcde"}
    found = judged(CLAIMS, table)
    assert all(v.value == pytest.approx(v.reported, abs=1e-4) for v in found if v.target != "V-e")


@pytest.mark.parametrize(
    "cell, value, target",
    [
        (("clean", "none", None), 0.80, "V-a"),
        (("transfer", "none", 0.05), 0.13, "V-b"),
        (("transfer", "V1", 0.001), 0.85, "V-c"),
        (("strong", "V1", 0.01), 0.70, "V-e"),
    ],
)
def test_a_cell_that_is_off_misses_its_claim(cell, value, target):
    found = words(reported_rows(changes={cell: value}))
    assert [name for name in sorted(found) if "missed" in found[name]] == [target]


def test_a_defended_column_that_rises_or_falls_below_the_undefended_misses_the_order():
    assert "missed" in words(reported_rows(changes={("transfer", "V1", 0.05): 0.72}))["V-d"]
    assert "missed" in words(reported_rows(changes={("transfer", "V1", 0.1): 0.05}))["V-d"]


def test_what_was_not_measured_is_said_so():
    table = reported_rows()
    found = words(table[table.eps != 0.05])
    assert found["V-b"] == {"holds", "not measured"} and "not measured" in found["V-e"]
    assert words(table[table.defence == "none"])["V-c"] == {"not measured"}
    assert set.union(*words(typed(pd.DataFrame())).values()) == {"not measured"}
