"""docs/findings.md says what the committed results say, and each of its sentences leads to the row that it rests on."""

import re
from pathlib import Path

import pandas as pd
import pytest

from advbench.metrics import COLUMNS, percent
from advbench.report.findings import findings_page
from advbench.study import every
from advbench.study.schema import read_results

DOCS = Path(__file__).parents[2] / "docs"
RECIPES = list(every())
LINK = re.compile(r"\[([^]]+)\]\(results/([\w/-]+)/results\.csv#L(\d+)\)")


@pytest.fixture(scope="module")
def page():
    return (DOCS / "findings.md").read_text()


def test_the_page_is_what_the_committed_results_say(page):
    assert page == findings_page(RECIPES, DOCS / "results"), "run python docs/findings.py"


def test_every_sentence_leads_to_a_row_that_holds_its_figure(page):
    bullets = [line for line in page.splitlines() if line.startswith("- ")]
    assert len(bullets) > 20 and all(LINK.search(line) for line in bullets)
    for line in bullets:
        for text, (name, recipe, number) in zip(LINK.split(line)[::4], LINK.findall(line), strict=False):
            results = read_results(DOCS / "results" / recipe / "results.csv")
            row = results.iloc[int(number) - 2]
            if name.startswith("row"):
                value = row.value
                if means := re.search(r"means of (\d+) seeds, the first in $", text):
                    known = results[[*COLUMNS][: [*COLUMNS].index("value")]].astype(object).fillna("")
                    repeated = results[(known == known.loc[row.name]).all(axis=1)]
                    assert len(repeated) == int(means[1]) and row.train_seed == repeated.train_seed.min()
                    value = repeated.value.mean()
                sides = {percent(value), f"{value:.2f}"}
                assert any(side in text for side in sides) or recipe == "compare-defences", (text, value)
            else:
                assert row.target == name, "a claim leads to its own row"


def test_every_report_is_on_the_page_and_it_fits_a_screen(page):
    assert len(re.findall(r"^## .*[Rr]eport 00\d", page, flags=re.M)) == 5
    assert len(page.splitlines()) < 50


def test_the_page_follows_a_changed_figure(page, tmp_path):
    for recipe in RECIPES:
        (tmp_path / recipe.name).mkdir()
        table = pd.read_csv(DOCS / "results" / recipe.name / "results.csv")
        if recipe.name == "training-mnist":
            beaten = (table.exhibit == "stronger") & (table.attack == "autoattack")
            table.loc[beaten, ["value", "ci_low", "ci_high"]] = (0.01, 0.005, 0.02)
        table.to_csv(tmp_path / recipe.name / "results.csv", index=False)
    changed = findings_page(RECIPES, tmp_path)
    assert "part of the gain survives" in page and "leaves 1.0 % (0.5 to 2.0) and 1.0 % (0.5 to 2.0)" in changed
    assert "nothing of the gain survives" in changed
