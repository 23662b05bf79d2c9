"""Report 003 end to end on the embedded digits, and its verdicts from hand-made rows."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from tiny import settings

from advbench import attacks, estimators
from advbench.cli import main
from advbench.data import load, split_indices
from advbench.models import ModelSpec, create
from advbench.recipes.compare_defences.future import FUTURE
from advbench.recipes.weighted_cifar.claims import (
    CLAIMS,
    CLEAN,
    FIXED,
    NATURAL,
    PERTURBED,
    TARGETED,
    UNDEFENDED,
    best_reading,
)
from advbench.seeds import derive
from advbench.study.claims import judged
from advbench.study.schema import typed
from advbench.trainers import GradAlignTrainer

TINY = {
    "train_images": 200,
    "validation_images": 40,
    "watched_images": 20,
    "watched_pgd_steps": 2,
    "test_images": 24,
    "epochs": 2,
    "lr": 0.02,
    "eps": "[0.01,0.1]",
    "alphas": "[0.5]",
    "alpha_eps": "[0.01]",
    "pgd_eps": "[0.01]",
    "fixed_eps": "[0.01,0.1]",
    "training_pgd_steps": 2,
    "seeds": 2,
    "strong_images": 12,
    "pgd_iterations": 2,
    "pgd_restarts": 2,
    "autoattack_images": 1,
    "future.train_images": 64,
    "future.validation_images": 16,
    "future.test_images": 8,
    "future.epochs": 1,
    "future.batch": 32,
    "future.eps": "[0.01,0.1]",
    "future.draws": 2,
    "future.pgd_steps": 2,
    "future.adaptive_steps": 2,
    "future.restarts": 1,
}
ARGUMENTS = ["recipe", "weighted-cifar", "--dataset", "digits", "--device", "cpu", "--workers", "1"]
ARGUMENTS += settings(TINY)


@pytest.fixture(scope="module")
def test():
    test = load("digits", "test", shape=(3, 32, 32))
    return test.x[:24].astype(np.float32) / 255, test.y[:24]


def test_every_exhibit_is_there(run, rows):
    future = {"comparison", "gap", "certificate", "defence training"}
    own = {"undefended", "targeted", "defence", "strong", "autoattack", "claims"}
    assert set(rows.exhibit) == own | future
    assert set(rows.target.dropna()) == {f"G{i}" for i in range(1, 7)}
    losses = {("standard", 1), ("fgsm", 0), ("fgsm", 0.5), ("pgd", 0), ("several", 0.25), ("fixed", 0)}
    part = rows[rows.exhibit == "defence"]
    assert set(zip(part.defence, part.alpha, strict=True)) == losses
    assert set(rows[rows.exhibit == "undefended"].seed) == set(part.seed) == {0, 1}
    names = [exhibit["name"] for exhibit in json.loads((run / "exhibits.json").read_text())]
    confusion = [f"confusion-{name}" for name in ("clean", "fgsm", "pga", "targeted-pga")]
    bounds = [f"{kind}-{eps}" for kind in ("comparison", "naive-adaptive") for eps in ("2-55", "25-5")]
    after = ["defence", "readings", "alpha", "leak", "autoattack", *bounds, "adaptive", "certificate", "overfitting"]
    assert names == ["attacks", "targeted", *confusion, *after]


def test_the_three_bases_of_the_targeted_rate(run, rows, test):
    """Counted by hand on FGSM towards deer, class 4, at eps 0.1 on the kept network."""
    x, y = test
    kept = estimators.load(run, "standard-seed0", device="cpu")
    before = kept.predict(x).argmax(1)
    towards = attacks.create("fgsm", kept, 0.1)
    towards.set_params(targeted=True)
    after = kept.predict(towards.generate(x, np.full(24, 4))).argmax(1)
    part = rows[(rows.exhibit == "targeted") & (rows.attack == "fgsm") & (rows.eps == 0.1) & (rows.seed == 0)]
    said = part.set_index("variant")
    for base, counted in (("all", y == y), ("other", y != 4), ("moved", (y != 4) & (before != 4))):
        row = said.loc[base]
        assert (row.value, row.n) == (pytest.approx((after[counted] == 4).mean()), counted.sum())


def test_pga_is_iterative_fgsm_without_a_random_start(run, rows, test):
    x, y = test
    kept = estimators.load(run, "standard-seed1", device="cpu")
    pga = rows[(rows.exhibit == "undefended") & (rows.attack == "pga") & (rows.eps == 0.1) & (rows.seed == 1)]
    for parts, part in ((4, pga[pga.variant.isna()]), (40, pga[pga.variant == "step eps/40"])):
        moved = attacks.create("bim", kept, 0.1, eps_step=0.1 / parts, max_iter=30).generate(x, y)
        assert part.value.item() == pytest.approx((kept.predict(moved).argmax(1) == y).mean())


def test_the_predicted_label_is_that_of_the_network(run, rows, test):
    x, y = test
    kept = estimators.load(run, "fgsm-eps0.1-alpha0-seed0", device="cpu")
    for name, label in (("true", y), ("predicted", kept.predict(x).argmax(1))):
        moved = attacks.create("fgsm", kept, 0.1).generate(x, label)
        part = rows[(rows.defence == "fgsm") & (rows.alpha == 0) & (rows.eps == 0.1) & (rows.seed == 0)]
        said = part[(part.exhibit == "defence") & (part.variant == f"{name} label")]
        assert said.value.item() == pytest.approx((kept.predict(moved).argmax(1) == y).mean())


def test_the_fixed_set_is_fgsm_on_the_undefended_network(run, rows, test):
    x, y = test
    undefended, trained = (
        estimators.load(run, f"{name}-seed1", device="cpu") for name in ("standard", "fixed-eps0.1-alpha0")
    )
    moved = attacks.create("fgsm", undefended, 0.1).generate(x, y)
    part = rows[(rows.exhibit == "defence") & (rows.defence == "fixed") & (rows.variant == FIXED) & (rows.seed == 1)]
    part = part[part.eps == 0.1]
    assert part.value.item() == pytest.approx((trained.predict(moved).argmax(1) == y).mean())


def test_the_reading_nearest_to_the_report_is_judged():
    current = reported_rows({("defence", "fgsm", 0.01): 0.5})
    fixed = reported_rows().assign(defence="fixed")
    fixed = fixed.assign(variant=fixed.variant.where(fixed.variant != "true label", FIXED))
    own = fixed[fixed.exhibit.isin(["defence", "strong"])]
    both = pd.concat([current, own], ignore_index=True)
    assert best_reading(current)["defence"] == "fgsm" and best_reading(both)["defence"] == "fixed"
    assert "missed" in words(current)["G6"] and words(both)["G6"] == {"holds"}
    fewer = pd.concat([current, own[own.eps == 0.1]], ignore_index=True)
    assert best_reading(fewer)["defence"] == "fgsm"
    farther = both.assign(value=both.value.where(both.defence != "fixed", 0.0))
    assert best_reading(farther)["defence"] == "fgsm"


def test_more_attacks_never_help_the_defender(rows):
    strong = rows[rows.exhibit == "strong"]
    for _, part in strong.groupby(["defence", "alpha", "eps"]):
        part = part.set_index(part.attack.fillna("clean")).value
        assert part["worst case"] <= part["clean"] and part["worst case"] <= part["pgd"] + 0.2
    for _, left in rows[rows.exhibit == "autoattack"].groupby(["defence", "eps"]):
        assert left.value.is_monotonic_decreasing and len(left) == 3


def test_each_defence_of_future_work_is_compared_at_every_eps(rows):
    part = rows[rows.exhibit == "comparison"]
    assert set(part.defence) == set(FUTURE) and set(part.eps) == {0.01, 0.1}
    for _, of in part.groupby(["defence", "eps"]):
        left = of.set_index("attack").value
        assert left["worst case"] == left.min() and left["worst case"] <= left["adaptive"] <= left["clean"] + 0.3
    certified = rows[rows.exhibit == "certificate"].set_index("metric")
    assert set(certified.defence) == {"lipschitz"}
    assert certified.norm.drop("lipschitz_bound").tolist() == ["l2", "l2"]
    assert 9.9 < certified.value["lipschitz_bound"] < 15  # ten, up to the slack of the bound with zero padding


def test_gradalign_learns_at_the_largest_eps(run):
    """Its kept weights are those of the trainer called by itself."""
    train = load("digits", "train", shape=(3, 32, 32))
    chosen, _ = split_indices(len(train), 16, 0)
    images = train.images(np.sort(np.random.default_rng(derive(0, "subset", len(chosen))).permutation(chosen)[:64]))
    module = create(ModelSpec("small-cnn", (3, 32, 32), 10, (0.0,) * 3, (1.0,) * 3), derive(0, "network"))
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    classifier = estimators.classifier(module, (3, 32, 32), 10, device="cpu", optimizer=optimizer)
    GradAlignTrainer(classifier, 0.1).fit(images.x, images.y, batch_size=32, nb_epochs=1, seed=derive(0, "order"))
    kept = estimators.load(run, "defence-fgsm-rs-gradalign", device="cpu").model.state_dict()
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(kept[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


def test_pgd_watches_over_every_epoch(run):
    for path in (run / "models").glob("[!d]*.csv"):
        history = pd.read_csv(path)
        assert len(history) == 2 and history.training.notna().all()
        assert history[["watched_clean", "watched_fgsm", "watched_pgd"]].notna().all(axis=None)


def test_a_killed_run_goes_on_where_it_stopped(run):
    before = (run / "results.csv").read_bytes()
    (run / "models" / "pgd-eps0.01-alpha0-seed1.safetensors").unlink()
    (run / "stages" / "strong-standard.json").unlink()
    result = CliRunner().invoke(main, [*ARGUMENTS, "--out", str(run)])
    assert result.exit_code == 0, result.output
    assert (run / "results.csv").read_bytes() == before


def test_the_undefended_network_can_be_trained_alone(tmp_path):
    alone = settings({**TINY, "defended": "false", "epochs": 1, "autoattack_images": 0, "future.defences": '["none"]'})
    result = CliRunner().invoke(main, [*ARGUMENTS[:8], *alone, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    trained = {path.stem for path in (tmp_path / "run/models").glob("*.safetensors")}
    assert trained == {"standard-seed0", "standard-seed1"}
    shown = {each["name"] for each in json.loads((tmp_path / "run/exhibits.json").read_text())}
    assert "attacks" in shown and not shown & {"defence", "leak"}


def reported_rows(changes=None):
    """The report's own numbers as result rows, with some cells changed: (exhibit, attack, eps) -> value."""
    rows = [{"exhibit": "undefended", "defence": "standard", "value": CLEAN}]
    for attack, cells in UNDEFENDED.items():
        for eps, value in cells.items():
            rows.append({"exhibit": "undefended", "defence": "standard", "attack": attack, "eps": eps, "value": value})
    for attack, cells in TARGETED.items():
        for eps, value in cells.items():
            columns = {"defence": "standard", "attack": attack, "eps": eps, "metric": "target_rate", "variant": "all"}
            rows.append({"exhibit": "targeted", "value": value, **columns})
    for eps, value in NATURAL.items():
        columns = {"defence": "fgsm", "alpha": 0.0, "eps": eps}
        rows.append({"exhibit": "defence", "value": value, **columns})
        leaked = {"value": PERTURBED[eps], "attack": "fgsm", "variant": "true label"}
        rows.append({"exhibit": "defence", **leaked, **columns})
        rows.append({"exhibit": "strong", "value": value, **columns})
        rows.append({"exhibit": "strong", "value": value / 2, "attack": "pgd", **columns})
    table = typed(pd.DataFrame(rows))
    table = table.assign(
        metric=table.metric.fillna("accuracy"), seed=0, n=1000, ci_low=table.value, ci_high=table.value
    )
    for (exhibit, attack, eps), value in (changes or {}).items():
        same = table.eps.isna() if eps is None else table.eps == eps
        hit = (table.exhibit == exhibit) & (table.attack.fillna("") == (attack or "")) & same
        assert hit.sum() == 1
        table.loc[hit, ["value", "ci_low", "ci_high"]] = value
    return table


def words(table):
    found = judged(CLAIMS, table)
    return {target: {v.word for v in found if v.target == target} for target in {v.target for v in found}}


def test_the_reports_own_numbers_hold_every_claim():
    assert words(reported_rows()) == {f"G{i}": {"holds"} for i in range(1, 7)}
    found = judged(CLAIMS, reported_rows())
    assert all(v.value == pytest.approx(v.reported, abs=1e-4) for v in found if v.reported == v.reported)


@pytest.mark.parametrize(
    "cell, value, target",
    [
        (("undefended", None, None), 0.66, "G1"),
        (("undefended", "fgsm", 0.01), 0.28, "G2"),
        (("undefended", "pga", 0.1), 0.002, "G3"),
        (("targeted", "pgd", 0.001), 0.07, "G4"),
        (("targeted", "fgsm", 0.1), 0.8, "G4"),
        (("defence", None, 0.001), 0.70, "G5"),
        (("defence", "fgsm", 0.01), 0.5, "G6"),
        (("strong", "pgd", 0.1), 0.3, "G6"),
    ],
)
def test_a_cell_that_is_off_misses_its_claim(cell, value, target):
    found = words(reported_rows({cell: value}))
    assert [name for name in sorted(found) if "missed" in found[name]] == [target]


def test_what_was_not_measured_is_said_so():
    table = reported_rows()
    found = words(table[table.eps != 0.1])
    assert found["G1"] == {"holds"} and all("not measured" in found[f"G{i}"] for i in range(2, 7))
    assert set.union(*words(typed(pd.DataFrame())).values()) == {"not measured"}
