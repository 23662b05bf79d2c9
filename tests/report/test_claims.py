"""docs/claims.md says what the committed results say, by claims that are read anew from their rows."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from advbench.report.claims import claims_page
from advbench.report.committed import committed
from advbench.study import every, verdicts
from advbench.study.claims import judged
from advbench.study.schema import read_results

DOCS = Path(__file__).parents[2] / "docs"
RECIPES = [recipe for recipe in every() if recipe.claims]
RUNS = [
    (recipe, path.parent)
    for recipe in RECIPES
    for path in sorted((DOCS / "results" / recipe.name).rglob("results.csv"))
]


def test_the_page_of_claims_is_what_the_committed_results_say():
    assert (DOCS / "claims.md").read_text() == claims_page(RECIPES, DOCS / "results"), "run python docs/claims.py"


@pytest.mark.parametrize(("recipe", "folder"), RUNS, ids=[path.name for _, path in RUNS])
def test_every_committed_claim_is_what_its_own_rows_say(recipe, folder):
    results = read_results(folder / "results.csv")
    measured = results[results.target.isna()]
    committed = verdicts(results)
    found = judged(recipe.claims, measured)
    assert [(v.target, v.metric) for v in committed] == [(v.target, v.metric) for v in found]
    for ours, theirs in zip(found, committed, strict=True):
        for field in ("value", "ci_low", "ci_high", "reported", "accept_low", "accept_high"):
            assert getattr(ours, field) == pytest.approx(getattr(theirs, field), rel=1e-9, nan_ok=True)


def test_the_page_follows_a_changed_figure(tmp_path):
    for recipe in RECIPES:
        (tmp_path / recipe.name).mkdir()
        table = pd.read_csv(DOCS / "results" / recipe.name / "results.csv")
        if recipe.name == "detector-cifar":
            table.loc[table.target == "M1", ["value", "ci_low", "ci_high"]] = (0.5, 0.49, 0.51)
        table.to_csv(tmp_path / recipe.name / "results.csv", index=False)
    before, after = (claims_page(RECIPES, folder) for folder in (DOCS / "results", tmp_path))
    (old,), (new,) = ([line for line in page.splitlines() if line.startswith("| M1 ")] for page in (before, after))
    assert "**holds**" in old and "0.500" in new and "**missed**" in new


def test_a_further_run_decides_what_the_first_did_not_measure_and_nothing_else(tmp_path):
    shutil.copytree(DOCS / "results" / "detector-cifar", tmp_path / "detector-cifar")
    table = pd.read_csv(tmp_path / "detector-cifar" / "results.csv")
    table.loc[table.target == "M4", ["value", "ci_low", "ci_high"]] = float("nan")
    table.to_csv(tmp_path / "detector-cifar" / "results.csv", index=False)
    table.loc[table.target.isin(["M1", "M4"]), ["value", "ci_low", "ci_high"]] = (0.002, 0.001, 0.003)
    (tmp_path / "detector-cifar" / "another").mkdir()
    table.to_csv(tmp_path / "detector-cifar" / "another" / "results.csv", index=False)
    found = {each.verdict.target: each for each in committed("detector-cifar", tmp_path)}
    assert (found["M4"].folder, found["M4"].verdict.word) == ("detector-cifar/another", "holds")
    assert (found["M1"].folder, found["M1"].verdict.word) == ("detector-cifar", "holds")
    page = claims_page([recipe for recipe in RECIPES if recipe.name == "detector-cifar"], tmp_path)
    assert "[`detector-cifar/another`](results/detector-cifar/another/README.md)" in page


def judged_by(results, runs):
    """What runs, by their folder's name, say of M9: value, interval, size and unit of its second part."""
    table = pd.read_csv(DOCS / "results" / "detector-cifar" / "results.csv")
    table = table[table.target == "M9"].reset_index(drop=True)
    for name, figures in runs.items():
        (results / "detector-cifar" / name).mkdir(parents=True, exist_ok=True)
        table["n"], table["unit"] = figures[3:]
        table.loc[1, ["value", "ci_low", "ci_high", "n", "unit"]] = figures
        table.to_csv(results / "detector-cifar" / name / "results.csv", index=False)
    return committed("detector-cifar", results)


@pytest.mark.parametrize(
    ("lead", "low", "high", "n", "unit", "folder", "word"),
    [
        (0.15, 0.14, 0.16, 5000, "images", "detector-cifar/more", "holds"),
        (0.05, 0.04, 0.06, 5000, "images", "detector-cifar/more", "missed"),
        (0.15, 0.14, 0.16, 3, "seeds", "detector-cifar/more", "holds"),
        (0.15, 0.14, 0.16, 500, "images", "detector-cifar", "open"),
        (0.15, 0.14, 0.16, 1, "seeds", "detector-cifar", "open"),
        (0.11, 0.09, 0.13, 5000, "images", "detector-cifar/more", "open"),
        (None, None, None, 0, "", "detector-cifar", "open"),
    ],
)
def test_a_further_run_on_more_judges_what_the_first_left_open(tmp_path, lead, low, high, n, unit, folder, word):
    runs = {"": (0.086, 0.044, 0.127, 800, "images"), "more": (lead, low, high, n, unit)}
    if folder == "detector-cifar/more":
        runs["fewer"] = (0.05, 0.04, 0.06, 850, "images")
    found = judged_by(tmp_path, runs)
    assert [(each.folder, each.verdict.word) for each in found] == [(folder, "holds"), (folder, word)]


@pytest.mark.parametrize(
    ("lead", "low", "high", "n", "unit", "folder", "word"),
    [
        (0.15, 0.14, 0.16, 3, "seeds", "detector-cifar/more", "holds"),
        (0.05, 0.01, 0.13, 3, "seeds", "detector-cifar/more", "open"),
        (0.05, 0.04, 0.06, 3, "seeds", "detector-cifar/more", "missed"),
        (0.15, 0.14, 0.16, 1, "seeds", "detector-cifar", "missed"),
        (0.15, 0.14, 0.16, 5000, "images", "detector-cifar", "missed"),
        (None, None, None, 0, "", "detector-cifar", "missed"),
    ],
)
def test_several_seeds_replace_the_figures_of_one_training(tmp_path, lead, low, high, n, unit, folder, word):
    found = judged_by(tmp_path, {"": (0.05, 0.04, 0.06, 800, "images"), "more": (lead, low, high, n, unit)})
    assert [each.folder for each in found] == [folder, folder] and found[1].verdict.word == word


def test_several_seeds_replace_the_parts_that_were_measured_in_them(tmp_path):
    runs = {"": (0.15, 0.14, 0.16, 800, "images"), "more": (None, None, None, 3, "seeds")}
    dynamic, of_lead = judged_by(tmp_path, runs)
    assert (dynamic.folder, dynamic.verdict.unit) == ("detector-cifar/more", "seeds")
    assert (of_lead.folder, of_lead.verdict.value) == ("detector-cifar", 0.15)


def test_every_report_and_every_claim_is_on_the_page():
    page = (DOCS / "claims.md").read_text()
    for recipe in RECIPES:
        assert recipe.report is None or f"## Report {recipe.report.id}: {recipe.report.title}" in page
        for claim in recipe.claims:
            assert f"| {claim.id} | {claim.says} |" in page
    assert sum(f"## Report 00{i}: " in page for i in range(5)) == 5
