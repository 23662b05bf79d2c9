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
from advbench.metrics import COLUMNS
from advbench.recipes import _training_mnist_exhibits as exhibits
from advbench.report.verdicts import verdicts

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
ARGUMENTS = ["recipe", "training-mnist", "--dataset", "digits", "--device", "cpu", "--workers", "1"]
ARGUMENTS += settings(TINY)


def test_two_workers_change_no_result(run, tmp_path):
    result = CliRunner().invoke(main, [*ARGUMENTS, "--out", str(tmp_path / "two"), "--workers", "2"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "two" / "results.csv").read_bytes() == (run / "results.csv").read_bytes()
    for path in (run / "models").glob("*.safetensors"):
        assert (tmp_path / "two" / "models" / path.name).read_bytes() == path.read_bytes()


def test_every_exhibit_is_there_for_every_seed(rows):
    assert set(rows.exhibit) == {"confidence", "transfer", "stronger", "targets"}
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
    said = own[own.defence == "mixed"]
    assert said.value.item() == pytest.approx((unclipped.predict(adversarial).argmax(1) != y).mean())
    assert said.eps.item() == pytest.approx(eps)


def test_the_page_shows_every_exhibit(run):
    names = [exhibit["name"] for exhibit in json.loads((run / "exhibits.json").read_text())]
    assert names == ["confidence", "transfer-error", "transfer-confidence-wrong", "ablation", "stronger", "curves"]


def reported_rows(**changes):
    """The report's own numbers as result rows, with some cells changed: (defence, attack or source, metric) -> value."""
    rows = []
    for (defence, attack), cells in exhibits._CONFIDENCE.items():
        for metric, value in zip(exhibits.METRICS, cells, strict=True):
            rows.append(
                {"exhibit": "confidence", "defence": defence, "attack": attack, "metric": metric, "value": value / 100}
            )
    for (defence, source), cells in exhibits._TRANSFER.items():
        for metric, value in zip(("error", "confidence_wrong"), cells, strict=True):
            rows.append(
                {"exhibit": "transfer", "defence": defence, "source": source, "metric": metric, "value": value / 100}
            )
    table = pd.DataFrame(rows).reindex(columns=COLUMNS).assign(seed=0)
    for (defence, other, metric), value in changes.get("cells", {}).items():
        hit = (
            (table.defence == defence) & (table.metric == metric) & ((table.attack == other) | (table.source == other))
        )
        assert hit.any()
        table.loc[hit, "value"] = value
    return table


def words(table):
    found = verdicts(pd.DataFrame(exhibits.targets(table)).reindex(columns=COLUMNS))
    return {target: {v.word for v in found if v.target == target} for target in {v.target for v in found}}


def test_the_reports_own_numbers_hold_every_target():
    table = reported_rows()
    assert words(table) == {f"L{i}": {"holds"} for i in range(1, 8)}
    found = verdicts(pd.DataFrame(exhibits.targets(table)).reindex(columns=COLUMNS))
    assert all(verdict.value == pytest.approx(verdict.reported, abs=1e-4) for verdict in found)


@pytest.mark.parametrize(
    "cell, value, target",
    [
        (("standard", "fgsm", "error"), 0.80, "L2"),
        (("mixed", "fgsm", "error"), 0.25, "L3"),
        (("mixed", "fgsm", "accuracy"), 0.70, "L4"),
        (("adversarial", "mixed", "error"), 0.30, "L5"),
        (("standard", "mixed", "error"), 0.36, "L6"),
        (("standard", "fgsm", "confidence_wrong"), 0.75, "L7"),
    ],
)
def test_a_cell_that_is_off_misses_its_target(cell, value, target):
    found = words(reported_rows(cells={cell: value}))
    assert [name for name in sorted(found) if "missed" in found[name]] == [target]
