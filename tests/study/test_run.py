import json
import resource
import subprocess
import sys

import numpy as np
import pytest

from advbench import metrics
from advbench.errors import UsageError
from advbench.seeds import derive
from advbench.study import Run
from advbench.study.stages import check, stage_seconds

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
    rows = [metrics.proportion(1, 3).row("accuracy", attack="fgsm", eps=0.1)]
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
    run.rows("b", lambda: [metrics.proportion(1, 2).row("first")])
    run.rows("a", lambda: [])
    run.rows("c", lambda: [metrics.proportion(2, 2).row("second", sigma=0.1)])
    results = run.results()
    assert dict(results.dtypes.astype(str)) == metrics.COLUMNS
    assert list(results.metric) == ["first", "second"] and set(results.recipe) == {"r"}
    assert (run.directory / "results.csv").read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        (b'{"peak memory": "7000.00 GiB"}', True),
        (b'{"peak memory": "0.01 GiB"}', False),
        (b"[", False),
        (b"[1]", False),
    ],
)
def test_peak_memory_is_the_largest_since_the_run_was_begun(run, before, kept):
    (run.directory / "environment.json").write_bytes(before)
    run.record_environment("cpu")
    said = json.loads((run.directory / "environment.json").read_text())
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert said["device"] == "cpu"
    peak = float(said["peak memory"].removesuffix(" GiB"))
    assert peak == 7000 if kept else own - 0.01 <= peak < 100


def test_a_directory_of_another_run_or_of_something_else_is_refused(run, tmp_path):
    with pytest.raises(UsageError, match="holds a run with epochs = 3, not 4; choose another --out"):
        Run(run.directory, {**CONFIG, "config": {"epochs": 4}})
    with pytest.raises(UsageError, match="holds a run with epochs = 3, not 2"):
        Run(run.directory, {**CONFIG, "config": {"epochs": 2}}, grows=["epochs"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="not a run"):
        Run(tmp_path / "mine", CONFIG)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be used"):
        Run(tmp_path / "file", CONFIG)


def test_a_run_that_another_process_computes_does_not_grow(run):
    more = Run(run.directory, {**CONFIG, "config": {"epochs": 4}}, grows=["epochs"])
    with run.alone(), pytest.raises(UsageError, match="another process"), more.alone():
        pass
    assert json.loads((run.directory / "config.json").read_text())["config"] == {"epochs": 3}
    with more.alone():
        assert json.loads((run.directory / "config.json").read_text())["config"] == {"epochs": 4}
    with pytest.raises(UsageError, match="epochs = 4, not 3"):
        again(run)


def test_seeds_depend_on_every_part_of_the_name():
    seeds = {derive(seed, *path) for seed in (0, 1) for path in (("a",), ("b",), ("a", 1), ("a", 2))}
    assert len(seeds) == 8 and all(0 <= seed < 2**63 for seed in seeds)


def test_finished_stages_of_another_run_are_taken_over(run, tmp_path):
    other = Run(tmp_path / "other", {**CONFIG, "config": {"epochs": 7}})
    run.arrays("part-a", lambda: {"x": np.ones(3)})
    run.arrays("part-b", lambda: {"x": np.ones(4)})
    other.arrays("part-b", lambda: {"x": np.zeros(4)})
    assert other.adopt(run.directory, "r", ["part-*"]) == CONFIG
    assert other.arrays("part-a", never)["x"].sum() == 3
    assert other.arrays("part-b", never)["x"].sum() == 0  # its own stays


@pytest.mark.parametrize(
    "change, message",
    [
        ({"recipe": "s"}, "recipe = s, needed is r"),
        ({"dataset": "e"}, "dataset = e, needed is d"),
        ({"seed": 1}, "seed = 1, needed is 0"),
        ({}, "no finished stage missing-[*]"),
    ],
)
def test_what_cannot_be_taken_over_is_refused(run, tmp_path, change, message):
    other = Run(tmp_path / "other", {**CONFIG, **change})
    with pytest.raises(UsageError, match=message):
        run.adopt(other.directory, "r", ["missing-*"])
    with pytest.raises(UsageError, match="not a run directory"):
        run.adopt(tmp_path / "nowhere", "r", [])


def test_a_stage_with_files_outside_of_its_run_is_refused(run, tmp_path):
    other = Run(tmp_path / "other", CONFIG)
    (tmp_path / "secret").write_text("x")
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of "x"
    marker = other.directory / "stages" / "a.json"
    marker.parent.mkdir()
    marker.write_text('{"seconds": 1, "ended": 1, "files": {"../secret": "' + digest + '"}}')
    with pytest.raises(UsageError, match="outside of itself"):
        run.adopt(other.directory, "r", ["a"])


def test_a_damaged_marker_is_an_unfinished_stage(run):
    run.arrays("a", lambda: {"x": np.ones(4)})
    (run.directory / "stages" / "a.json").write_text('{"seconds": 1, "fi')
    assert again(run).arrays("a", lambda: {"x": np.zeros(4)})["x"].sum() == 0


def test_two_processes_do_not_compute_in_one_directory(run, tmp_path):
    import subprocess
    import sys

    script = f"""
from pathlib import Path
from advbench.study.run import Run
with Run(Path({str(run.directory)!r}), {CONFIG!r}).alone():
    print("alone")
"""
    with run.alone():
        refused = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert refused.returncode and "another process computes in" in refused.stderr
    allowed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert allowed.stdout == "alone\n"


def test_a_link_inside_of_a_run_is_refused(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (run.directory / "arrays").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="arrays is a symbolic link"):
        again(run)


@pytest.mark.parametrize("content", ['{"recipe": "r', "[1, 2]", ""])
def test_a_damaged_config_is_refused(run, content):
    (run.directory / "config.json").write_text(content)
    with pytest.raises(UsageError, match="config.json is damaged"):
        again(run)


@pytest.mark.parametrize(
    "file", ["results.csv", "exhibits.json", "charts/one.svg", "charts/one.vl.json", "explorer/explorer.json"]
)
def test_every_flipped_bit_of_what_the_page_shows_is_found(finished_run, file):
    check(finished_run)
    path = finished_run / file
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), max(1, len(content) // 25)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=f"{file} is missing or not as the run wrote it"):
            check(finished_run)
    path.unlink()
    with pytest.raises(UsageError, match="missing"):
        check(finished_run)


def test_the_lock_sweeps_what_a_killed_process_left(run):
    left = run.directory / "arrays" / ".x.npy.77.partial"
    left.parent.mkdir()
    left.touch()
    with run.alone():
        assert not left.exists()


def test_a_directory_where_a_process_was_killed_at_its_first_file_is_begun_again(tmp_path):
    """Found by interruptions.py: kill -9 between the first file's other name and its own."""
    killed = (
        "import os, sys; from pathlib import Path; from advbench.study.run import Run; os.fsync = lambda _: os._exit(9)"
    )
    begin = f"{killed}; Run(Path(sys.argv[1]), {CONFIG!r})"
    assert subprocess.run([sys.executable, "-c", begin, tmp_path / "run"], check=False).returncode == 9
    assert [path.suffix for path in (tmp_path / "run").iterdir()] == [".partial"]
    with Run(tmp_path / "run", CONFIG).alone():
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", "config.json"]
