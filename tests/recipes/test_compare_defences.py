"""Every defence on the embedded digits, made tiny; ART's classes called by themselves; and the tables from hand-made rows."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from art.attacks.evasion import FastGradientMethod
from art.defences.preprocessor import JpegCompression
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import PyTorchClassifier
from click.testing import CliRunner
from tiny import settings

from advbench import estimators
from advbench.checkpoint import load_tensors
from advbench.cli import main
from advbench.data import load, split_indices
from advbench.metrics import COLUMNS
from advbench.models import create
from advbench.preprocessors import VAEReformer
from advbench.recipes.compare_defences.detectors import NO_GRADIENT
from advbench.recipes.compare_defences.exhibits import by_attack
from advbench.recipes.compare_defences.materials import PLAIN, WORST, Defended, inside
from advbench.recipes.compare_defences.registry import DEFENCES
from advbench.seeds import derive, own_global_state
from advbench.study import find

TINY = {
    "train_images": 96,
    "validation_images": 24,
    "test_images": 10,
    "epochs": 2,
    "batch": 32,
    "lr": 0.003,
    "fit_steps": 1,
    "detector_images": 32,
    "detector_epochs": 1,
    "dynamic_epochs": 1,
    "attacker_width": 2,
    "beyond_views": 2,
    "pgd_steps": 3,
    "adaptive_steps": 3,
    "restarts": 1,
    "joint_steps": 3,
}


def arguments(out, **more):
    where = ["--dataset", "digits", "--device", "cpu", "--workers", "1", "--out", str(out)]
    return ["recipe", "compare-defences", *where, *settings({**TINY, **more})]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tiny"
    result = CliRunner().invoke(main, arguments(out))
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def split():
    """Training and test images as the study takes them."""
    train, test = (load("digits", part, shape=(1, 28, 28)) for part in ("train", "test"))
    chosen, _ = split_indices(len(train), TINY["validation_images"], 0)

    def some(indices, n):
        rng = np.random.default_rng(derive(0, "subset", len(indices)))
        return np.sort(rng.permutation(indices)[:n])

    return train.images(some(chosen, 96)), test.images(some(np.arange(len(test)), 10))


def figures(rows, name, eps=0.1):
    part = rows[(rows.exhibit == "comparison") & (rows.defence == name) & (rows.eps == eps)]
    return part.set_index("attack").value


def test_every_defence_meets_its_own_attack_and_the_worst_case_is_above_no_column(rows):
    assert set(rows[rows.exhibit == "comparison"].defence) == set(DEFENCES) and len(DEFENCES) == 22
    for name in DEFENCES:
        for eps in (0.1, 0.3):
            left = figures(rows, name, eps)
            own = left.drop([*PLAIN, "adaptive", WORST])
            assert len(own) and left["adaptive"] <= own.min()
            assert left[WORST] == left.min()


def test_detectors_without_a_gradient_are_told_apart(rows):
    without = {name for name, defence in DEFENCES.items() if NO_GRADIENT in defence.note}
    assert without == {"binary-activation", "subset-scanning", "beyond"}
    for name, defence in DEFENCES.items():
        attacks = set(figures(rows, name).index)
        assert ("selective-pgd" in attacks) == (defence.kind == "detector" and name not in without)
        assert ("surrogate-detector" in attacks) == (name in without)
        assert ("bpda" in attacks) == (defence.kind == "preprocessor" and defence.library == "art")
        assert ("pgd-expectation" in attacks) == (name == "vae-reformer")
    assert "pgd-scaled-logits" in figures(rows, "defensive-distillation").index


def test_adaptive_images_stay_within_their_bound_and_beat_what_the_rows_say(run, rows, split):
    _, test = split
    base = estimators.load(run, "defence-none", device="cpu")
    for eps in (0.1, 0.3):
        for name in DEFENCES:
            x = np.load(run / "arrays" / f"attacked-{name}-{eps}" / "x.npy")
            assert np.abs(x - test.x).max() <= eps + 1e-5 and 0 <= x.min() <= x.max() <= 1
        x = np.load(run / "arrays" / f"attacked-none-{eps}" / "x.npy")
        assert figures(rows, "none", eps)["adaptive"] == (base.predict(x).argmax(1) == test.y).mean()


def test_arts_preprocessor_called_by_itself_gives_the_same_figures(run, rows, split):
    _, test = split
    base = estimators.load(run, "defence-none", device="cpu")
    jpeg = JpegCompression((0.0, 1.0), quality=75, channels_first=True)
    transferred = np.load(run / "arrays" / "transfer-0.1" / "x.npy")
    for attack, x in (("clean", test.x), ("transfer", transferred)):
        said = figures(rows, "jpeg-compression")[attack]
        assert said == pytest.approx((base.predict(jpeg(x)[0]).argmax(1) == test.y).mean())


def test_arts_trainer_called_by_itself_gives_the_same_weights(run, split):
    train, _ = split
    kept = estimators.load(run, "defence-adversarial-training", device="cpu").model
    module = create("cnn2", derive(0, "network"))
    optimizer = torch.optim.Adam(module.parameters(), TINY["lr"])
    classifier = PyTorchClassifier(
        module, torch.nn.CrossEntropyLoss(), (1, 28, 28), 10, optimizer, clip_values=(0.0, 1.0), device_type="cpu"
    )
    attack = FastGradientMethod(classifier, eps=0.1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with own_global_state(derive(0, "adversarial-training")):
        one_hot = np.eye(10, dtype=np.float32)[train.y]
        AdversarialTrainer(classifier, attack, ratio=0.5).fit(train.x, one_hot, batch_size=32, nb_epochs=2)
    torch.set_num_threads(threads)
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(kept.state_dict()[name], tensor, msg=name)


def test_the_gap_is_between_the_attack_that_does_not_know_the_defence_and_the_one_that_does(rows):
    gaps = rows[rows.metric == "gap"].set_index(["defence", "eps"]).value
    assert len(gaps) == 2 * len(DEFENCES)
    for (name, eps), gap in gaps.items():
        left = figures(rows, name, eps)
        assert gap == pytest.approx(left["pgd"] - left["adaptive"])


def test_the_certificate_is_that_of_the_margin_and_holds_under_every_attack(run, rows, split):
    """Tsuzuku et al., proposition 1: margin > sqrt(2) L r; images moved by less than r keep their label."""
    _, test = split
    said = rows[(rows.exhibit == "certificate") & (rows.defence == "lipschitz")].set_index("metric").value
    kept = estimators.load(run, "defence-lipschitz", device="cpu")
    logits = kept.predict(test.x).astype(float)
    ordered = np.sort(logits, axis=1)
    margin = np.where(logits.argmax(1) == test.y, ordered[:, -1] - ordered[:, -2], 0)
    radius = margin / (np.sqrt(2) * said["lipschitz_bound"])
    assert 9.9 < said["lipschitz_bound"] < 15  # ten, up to the slack of the bound on a convolution with zero padding
    assert said["certified_radius"] == pytest.approx(np.median(radius), rel=1e-4, abs=1e-7)
    assert said["certified_accuracy"] == (radius > 36 / 255).mean()
    for eps in (0.1, 0.3):
        attacked = np.load(run / "arrays" / f"attacked-lipschitz-{eps}" / "x.npy")
        moved = np.sqrt(np.square(attacked - test.x).sum((1, 2, 3)))
        assert (kept.predict(attacked).argmax(1) == test.y)[moved < radius].all()


def test_the_reformer_in_front_of_the_network_gives_the_figures_of_its_row(run, rows, split):
    """A composition made here from the kept weights; each image is one draw, so it may differ by a few."""
    _, test = split
    reformer = VAEReformer((1, 28, 28), device="cpu")
    reformer.network.load_state_dict(load_tensors(run / "models" / "defence-vae-reformer.safetensors")[0])
    base = estimators.load(run, "defence-none", device="cpu").model
    with own_global_state(), torch.no_grad():
        drawn = [base(reformer.forward(torch.from_numpy(test.x))[0]) for _ in range(20)]
    expected = np.mean([(logits.argmax(1).numpy() == test.y).mean() for logits in drawn])
    assert figures(rows, "vae-reformer")["clean"] == pytest.approx(expected, abs=0.35)


def test_the_same_command_again_computes_nothing(run, rows):
    written = {path: path.stat().st_mtime_ns for path in run.glob("stages/*.json")}
    result = CliRunner().invoke(main, arguments(run))
    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in run.glob("stages/*.json")} == written
    pd.testing.assert_frame_equal(pd.read_csv(run / "results.csv"), rows)


def test_the_page_has_every_table_and_says_where_no_gradient_reaches(run):
    shown = {exhibit["name"]: exhibit for exhibit in json.loads((run / "exhibits.json").read_text())}
    assert list(shown) == [
        *("comparison-25-5", "comparison-76-5", "naive-adaptive-25-5", "naive-adaptive-76-5"),
        *("adaptive", "certificate", "cost", "defences"),
    ]
    page = (run / "report.html").read_text()
    assert page.count(NO_GRADIENT) >= 3 and "best effort" in page


def test_only_the_defences_that_are_asked_for_run(tmp_path):
    config = find("compare-defences").presets["quick"]
    assert type(config)(defences=("fbf", "jpeg-compression")).defences == ("none", "jpeg-compression", "fbf")
    result = CliRunner().invoke(main, arguments(tmp_path / "out", defences="jpeg"))
    assert result.exit_code == 2 and "no defence named 'jpeg'" in result.output and "Traceback" not in result.output


def test_an_image_is_beaten_where_it_is_wrong_and_not_flagged():
    class Mean:
        def predict(self, x, batch_size=None):
            mean = x.mean(axis=(1, 2, 3))
            return np.stack([1 - mean, mean], 1)

        def scores(self, x):
            return x.mean(axis=(1, 2, 3))

    x = np.array([0.2, 0.6, 0.9], np.float32)[:, None, None, None] * np.ones((3, 1, 2, 2), np.float32)
    y = np.array([0, 0, 0])
    assert Defended(Mean(), Mean()).beaten(x, y).tolist() == [False, True, True]
    assert Defended(Mean(), Mean(), Mean(), threshold=0.8).beaten(x, y).tolist() == [False, True, False]


def test_an_attack_that_leaves_its_bound_is_an_error():
    x = np.full((2, 1, 2, 2), 0.5, np.float32)
    assert inside(x + 0.1, x, 0.1) is not None
    with pytest.raises(AssertionError, match="bound"):
        inside(x + 0.11, x, 0.1)
    with pytest.raises(AssertionError, match="0, 1"):
        inside(x + 0.6, x, 0.7)


def test_the_table_has_one_row_a_defence_and_the_worst_case_last():
    def entry(defence, attack, value, eps=0.1):
        common = {"exhibit": "comparison", "defence": defence, "attack": attack, "eps": eps, "value": value}
        return dict.fromkeys(COLUMNS) | common

    attacks = [*PLAIN, "pgd-restarts", "adaptive", WORST]
    values = {"none": [0.9, 0.1, 0.2, 0.1, 0.0, 0.0, 0.0], "fbf": [0.8, 0.7, 0.6, 0.5, 0.4, 0.4, 0.3]}
    rows = pd.DataFrame([entry(name, *pair) for name in values for pair in zip(attacks, values[name], strict=True)])
    rows = pd.concat([rows, pd.DataFrame([entry("fbf", WORST, 0.0, eps=0.3)])])
    table = by_attack(rows, 0.1)
    assert list(table.columns) == ["defence", "kind", "library", *PLAIN, "adaptive", WORST, "gap"]
    *shown, gap = table.set_index("defence").loc["fbf"]
    assert shown == ["training", "art", 0.8, 0.7, 0.6, 0.5, 0.4, 0.3] and gap == pytest.approx(0.1)
    assert table.defence.tolist() == ["none", "fbf"]
