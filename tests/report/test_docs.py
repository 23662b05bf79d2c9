"""The result pages of the documentation say what their results.csv says."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import make_run

from advbench import metrics
from advbench.report.docs import NOTES, claims
from advbench.study.run import Run
from advbench.study.schema import About

RESULTS = Path(__file__).parents[2] / "docs" / "results"
PAGES = sorted(results.with_name("README.md") for results in RESULTS.glob("**/results.csv"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.parent.relative_to(RESULTS)))
def test_the_table_of_claims_is_that_of_the_committed_results(page):
    text = page.read_text()
    assert claims(pd.read_csv(page.parent / "results.csv")) in text
    assert len(text.splitlines()) <= 60
    for shown in [*page.parent.glob("*.svg"), *page.parent.glob("*.csv")]:
        assert f"({shown.name})" in text


def test_there_is_a_page():
    assert PAGES


def test_a_table_without_a_chart_is_beside_the_page(tmp_path):
    from advbench.report import write_docs

    run = make_run(tmp_path / "run")
    run.exhibit("plain", "A plain table", "A caption.", table=pd.DataFrame({"defence": ["none"], "gap": [1 / 3]}))
    page = write_docs(run.directory, tmp_path / "docs")
    assert (page.parent / "plain.csv").read_text() == "defence,gap\nnone,0.333\n"
    assert "Tables: [A plain table](plain.csv)." in page.read_text()
    assert not (page.parent / "one.csv").exists()
    assert "| claim |" in page.read_text() and "Of its claims: " in page.read_text()


def test_a_study_without_claims_has_no_table_of_them(tmp_path):
    from advbench.report import write_docs

    asked = {"recipe": "r", "preset": "small", "dataset": "d", "seed": 0, "note": "", "settings": [], "config": {}}
    run = Run(tmp_path / "run", asked)
    run.record_environment("cpu")
    run.record_about(About(question="Is it so?", command="r"))
    run.rows("clean", lambda: [metrics.proportion(9, 10).row("accuracy")])
    run.write_results()
    text = write_docs(run.directory, tmp_path / "docs").read_text()
    assert "\n\nIs it so?\n\n" in text
    assert "claims" not in text
    assert "| claim |" not in text


def test_what_is_written_by_hand_stays(tmp_path, finished_run):
    from advbench.report import write_docs

    page = write_docs(finished_run, tmp_path)
    assert page.read_text().rstrip().endswith(NOTES)
    page.write_text(page.read_text() + "\nBecause.\n")
    assert write_docs(finished_run, tmp_path).read_text().endswith(f"{NOTES}\n\nBecause.\n")
    assert (tmp_path / "results.csv").read_bytes() == (finished_run / "results.csv").read_bytes()
