"""Report 002 end to end on the embedded digits, in one process and in two, and its verdicts from hand-made rows."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from tiny import settings

from advbench import attacks, estimators
from advbench.cli import main
from advbench.data import load
from advbench.metrics import COLUMNS, difference, proportion
from advbench.recipes.training_mnist.claims import CLAIMS, CONFIDENCE, TRANSFER
from advbench.study.claims import judged

TINY = {
    "train_images": 200,
    "validation_images": 40,
    "test_images": 40,
    "epochs": 2,
    "lr": 0.002,
    "seeds": 2,
    "strong_images": 4,
    "pgd_iterations": 3,
    "pgd_restarts": 1,
}
ARGUMENTS = ["recipe", "training-mnist", "--dataset", "digits", "--device", "cpu"]
ARGUMENTS += settings(TINY)


def test_two_workers_change_no_result(run, tmp_path):
    result = CliRunner().invoke(main, [*ARGUMENTS, "--out", str(tmp_path / "two"), "--workers", "2"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "two" / "results.csv").read_bytes() == (run / "results.csv").read_bytes()
    for path in (run / "models").glob("*.safetensors"):
        assert (tmp_path / "two" / "models" / path.name).read_bytes() == path.read_bytes()


def test_every_exhibit_is_there_for_every_seed(rows):
    assert set(rows.exhibit) == {"confidence", "transfer", "stronger", "claims"}
    assert set(rows[rows.exhibit == "confidence"].seed) == set(rows[rows.exhibit == "transfer"].seed) == {0, 1}
    assert len(rows[rows.exhibit == "transfer"]) == 2 * 9 * 2
    assert set(rows.target.dropna()) == {f"L{i}" for i in range(1, 8)}


def test_own_fgsm_images_are_the_diagonal_of_the_transfer_table(rows):
    own = rows[(rows.exhibit == "confidence") & (rows.attack == "fgsm") & (rows.metric == "error")]
    moved = rows[(rows.exhibit == "transfer") & (rows.metric == "error") & (rows.defence == rows.source)]
    joined = own.merge(moved, on=["defence", "seed"])
    assert len(joined) == 6 and (joined.value_x == joined.value_y).all() and (joined.eps_x == joined.eps_y).all()


def test_attacks_never_help_the_defender(rows):
    for _, left in rows[rows.exhibit == "stronger"].groupby("defence"):
        assert left.value.is_monotonic_decreasing and len(left) == 4


def test_the_error_in_the_results_is_that_of_the_kept_model_under_unclipped_fgsm(run, rows):
    test = load("digits", "test", shape=(1, 28, 28))
    x, y = test.x[:40].astype(np.float32) / 255, test.y[:40]
    kept = estimators.load(run, "mixed-seed1", device="cpu")
    unclipped = estimators.classifier(kept.model, (1, 28, 28), 10, device="cpu", clip_values=None)
    eps = 0.1 * kept.model.width
    adversarial = attacks.create("fgsm", unclipped, eps).generate(x, y)
    assert adversarial.min() < 0
    np.testing.assert_allclose(np.abs(adversarial - x).max(), eps, rtol=1e-5)
    own = rows[(rows.exhibit == "confidence") & (rows.metric == "error") & (rows.attack == "fgsm") & (rows.seed == 1)]
    row = own[own.defence == "mixed"]
    assert row.value.item() == pytest.approx((unclipped.predict(adversarial).argmax(1) != y).mean())
    assert row.eps.item() == pytest.approx(eps)


def test_the_page_shows_every_exhibit(run):
    names = [exhibit["name"] for exhibit in json.loads((run / "exhibits.json").read_text())]
    assert names == ["confidence", "transfer-error", "transfer-confidence-wrong", "ablation", "stronger", "curves"]


def reported_rows(cells=()):
    """The report's own numbers as result rows, with some cells changed: (network, attack or source, metric) -> value."""
    own = [
        {"exhibit": "confidence", "defence": name, "attack": attack, "metric": metric, "value": value}
        for (name, attack, metric), value in CONFIDENCE.items()
    ]
    moved = [
        {"exhibit": "transfer", "defence": name, "source": source, "metric": metric, "value": value}
        for (name, source, metric), value in TRANSFER.items()
    ]
    table = pd.DataFrame([*own, *moved]).reindex(columns=list(COLUMNS)).astype(COLUMNS).assign(seed=0, n=10_000)
    for (defence, other, metric), value in dict(cells).items():
        hit = (table.defence == defence) & (table.metric == metric)
        hit &= (table.attack == other) | (table.source == other)
        assert hit.any()
        table.loc[hit, "value"] = value
    return table


def words(table):
    found = judged(CLAIMS, table)
    return {claim: {v.word for v in found if v.target == claim} for claim in {v.target for v in found}}


def test_the_reports_own_numbers_hold_every_claim():
    table = reported_rows()
    assert words(table) == {f"L{i}": {"holds"} for i in range(1, 8)}
    assert all(verdict.value == pytest.approx(verdict.reported, abs=1e-4) for verdict in judged(CLAIMS, table))


def test_three_seeds_are_judged_by_the_interval_of_their_mean():
    tables = [
        reported_rows({("mixed", "fgsm", "error"): error}).assign(seed=i) for i, error in enumerate((0.1, 0.15, 0.2))
    ]
    (verdict,) = [v for v in judged(CLAIMS, pd.concat(tables)) if v.metric == "error under FGSM, mixed"]
    assert (verdict.value, verdict.n, verdict.unit) == (pytest.approx(0.15), 3, "seeds")
    assert verdict.word == "open" and "more seeds would decide it" in verdict.needs  # 0.026 to 0.274 against +- 0.05


def test_one_seed_is_judged_by_the_interval_of_its_images():
    """A network errs a little more on the images of another one than on its own: on 10,000 images that may be chance."""
    table = reported_rows({("mixed", "adversarial", "error"): 0.15})
    n = table.n.astype(int)
    ends = [proportion(round(value * each), each) for value, each in zip(table.value, n, strict=True)]
    table = table.assign(ci_low=[each.ci_low for each in ends], ci_high=[each.ci_high for each in ends])
    found = {verdict.metric: verdict for verdict in judged(CLAIMS, table) if verdict.target in ("L5", "L7")}
    excess = found["largest excess of these over the network's own white-box error"]
    assert excess.word == "open" and excess.value == pytest.approx(0.15 - 0.1472)
    wanted = difference(proportion(1500, 10_000), proportion(1472, 10_000))
    assert (excess.ci_low, excess.ci_high) == pytest.approx((wanted.ci_low, wanted.ci_high))
    assert all(verdict.n == 10_000 and verdict.ci_low < verdict.value < verdict.ci_high for verdict in found.values())


@pytest.mark.parametrize(
    "cell, value, claim",
    [
        (("standard", "fgsm", "error"), 0.80, "L2"),
        (("mixed", "fgsm", "error"), 0.25, "L3"),
        (("mixed", "fgsm", "accuracy"), 0.70, "L4"),
        (("adversarial", "mixed", "error"), 0.30, "L5"),
        (("standard", "mixed", "error"), 0.36, "L6"),
        (("standard", "fgsm", "confidence_wrong"), 0.75, "L7"),
    ],
)
def test_a_cell_that_is_off_misses_its_claim(cell, value, claim):
    found = words(reported_rows({cell: value}))
    assert [name for name in sorted(found) if "missed" in found[name]] == [claim]
