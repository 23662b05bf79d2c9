import numpy as np
import pytest

from advbench import evaluation
from advbench.errors import UsageError
from advbench.runs import Run, stage_seconds
from advbench.seeds import derive

CONFIG = {"recipe": "r", "dataset": "d", "seed": 0, "note": "", "config": {"epochs": 3}}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run", CONFIG)


def again(run):
    return Run(run.directory, CONFIG)


def never():
    raise AssertionError("computed again")


def test_a_finished_stage_is_not_repeated(run):
    first = run.arrays("a", lambda: {"x": np.arange(6.0).reshape(2, 3)})
    kept = again(run).arrays("a", never)
    np.testing.assert_array_equal(first["x"], kept["x"])
    rows = [evaluation.proportion(1, 3).row("accuracy", attack="fgsm", eps=0.1)]
    run.rows("b", lambda: rows)
    assert again(run).rows("b", never).value[0] == pytest.approx(1 / 3)


def test_a_stage_that_failed_is_repeated_and_leaves_no_half_file(run):
    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run.arrays("a", fail)
    assert not list(run.directory.rglob("*.npy"))
    assert again(run).arrays("a", lambda: {"x": np.ones(2)})["x"].sum() == 2


def test_a_damaged_file_is_computed_again(run, caplog):
    run.arrays("a", lambda: {"x": np.ones(4)})
    (path,) = run.directory.rglob("x.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert again(run).arrays("a", lambda: {"x": np.ones(4)})["x"].sum() == 4
    assert "missing or damaged" in caplog.text


def test_a_weights_file_replaces_its_checkpoint(run):
    def train(checkpoint):
        checkpoint.write_text("half")
        return lambda path: path.write_text("weights"), [{"epoch": 1, "seconds": 5.0}]

    path = run.trained("net", train)
    assert path.read_text() == "weights"
    assert not list((run.directory / "checkpoints").iterdir())
    assert again(run).trained("net", lambda _: never()) == path
    assert stage_seconds(run.directory) == {"net": 5.0}


def test_results_hold_every_row_in_order_with_all_columns(run):
    run.rows("b", lambda: [evaluation.proportion(1, 2).row("first")])
    run.rows("a", lambda: [])
    run.rows("c", lambda: [evaluation.proportion(2, 2).row("second", sigma=0.1)])
    results = run.results()
    assert list(results.columns) == evaluation.COLUMNS
    assert list(results.metric) == ["first", "second"] and set(results.recipe) == {"r"}
    assert (run.directory / "results.csv").read_text().count("\n") == 3


def test_a_directory_of_another_run_or_of_something_else_is_refused(run, tmp_path):
    with pytest.raises(UsageError, match="holds a run with epochs = 3, asked was 4; choose another --out"):
        Run(run.directory, {**CONFIG, "config": {"epochs": 4}})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="not a run"):
        Run(tmp_path / "mine", CONFIG)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be used"):
        Run(tmp_path / "file", CONFIG)


def test_seeds_depend_on_every_part_of_the_name():
    seeds = {derive(seed, *path) for seed in (0, 1) for path in (("a",), ("b",), ("a", 1), ("a", 2))}
    assert len(seeds) == 8 and all(0 <= seed < 2**63 for seed in seeds)
