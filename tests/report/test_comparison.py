import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import make_run

from advbench import metrics
from advbench.cli import main
from advbench.errors import UsageError
from advbench.report import compare, write_comparison
from advbench.study.run import Run

CONFIG = {"recipe": "r", "preset": "small", "dataset": "d", "seed": 0, "note": "", "settings": []}


def run_of(directory, rows, **config):
    run = Run(directory, {**CONFIG, "config": config})
    run.record_environment("cpu")
    run.rows("all", lambda: rows)
    return run.directory


@pytest.mark.parametrize(
    "a, b, low, high",
    [  # Newcombe (1998), Statistics in Medicine 17, table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0000),
    ],
)
def test_the_interval_of_a_difference_is_the_published_one(tmp_path, a, b, low, high):
    first = run_of(tmp_path / "b", [metrics.proportion(*b).row("accuracy")])
    other = run_of(tmp_path / "a", [metrics.proportion(*a).row("accuracy")])
    (row,) = compare([first, other])["figures"].to_dict("records")
    assert row["difference"] == pytest.approx(a[0] / a[1] - b[0] / b[1])
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=1e-4)
    assert row["apart"] == "yes"


def test_figures_are_matched_by_what_they_are_of(tmp_path):
    def rows(value):
        yield metrics.proportion(5, 10).row("accuracy", attack="fgsm", eps=0.1)
        yield metrics.proportion(value, 10).row("accuracy", attack="fgsm", eps=0.2)
        yield metrics.Figure(value, 0).row("gap")

    first = run_of(tmp_path / "a", [*rows(1), metrics.proportion(1, 2).row("only here")])
    found = compare([first, run_of(tmp_path / "b", reversed([*rows(2)]))])
    figures = found["figures"].set_index(["metric", "eps"])
    assert figures.difference[("accuracy", 0.1)] == 0 and figures.difference[("accuracy", 0.2)] == pytest.approx(0.1)
    assert figures.apart[("gap", np.nan)] == "" and np.isnan(figures.low[("gap", np.nan)])
    assert found["unmatched"] == 1


def test_what_was_asked_differently_is_all_that_is_listed(tmp_path):
    row = metrics.proportion(1, 2).row("accuracy")
    found = compare([run_of(tmp_path / "a", [row], lr=0.1, epochs=3), run_of(tmp_path / "b", [row], lr=0.2, epochs=3)])
    pd.testing.assert_frame_equal(found["config"], pd.DataFrame({"setting": ["lr"], "a": ["0.1"], "b": ["0.2"]}))


def test_less_than_two_runs_is_a_mistake(finished_run):
    for directories in ([finished_run], [finished_run, finished_run / ".." / finished_run.name]):
        with pytest.raises(UsageError):
            compare(directories)


def test_the_command_prints_and_writes_the_same(tmp_path):
    runs = [
        str(make_run(tmp_path / name, seed=seed, value=value).directory)
        for name, seed, value in (("a", 0, 9), ("b", 1, 1))
    ]
    result = CliRunner().invoke(main, ["compare", *runs, "--out", str(tmp_path)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "-0.800" in result.output and "1 of 4 differences" in result.output and "seed" in result.output
    assert "-0.800" in (tmp_path / "compare.html").read_text()


def test_names_in_the_comparison_are_escaped(tmp_path):
    runs = [make_run(tmp_path / name, "<script>alert(1)</script>", seed).directory for seed, name in enumerate("ab")]
    assert "<script>alert" not in write_comparison(runs, tmp_path / "c.html").read_text()
