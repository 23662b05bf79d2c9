import json
import re
from dataclasses import asdict

import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import make_run

from advbench import metrics
from advbench.cli import main
from advbench.metrics import over_seeds, share, where
from advbench.report import charts, write_report
from advbench.report.answer import answer
from advbench.report.source import read_run
from advbench.study.claims import Finding, verdicts


def said(directory, found=(), claims=("M1", "M2", "M3", "M4"), **changes):
    """The sentences of a run whose study found these and has these claims, with columns of its results changed."""
    run = read_run(directory)
    rows = run["results"].assign(**changes)
    run["results"] = rows[rows.target.isna() | rows.target.isin(claims)]
    run["about"] |= {"report": "Meucci (2016)", "answer": list(found)}
    return [finding.text for finding in answer(run, verdicts(run["results"]))]


def test_the_answer_ends_with_what_the_verdicts_say_and_how_sure_that_is(finished_run):
    found = {"text": "It flips 30.0 %.", "line": 3, "survives": True}
    first, sure = said(finished_run, [found])
    assert first == "It flips 30.0 %."
    assert sure == (
        "Of the 4 claims of Meucci (2016), 1 holds, 1 is open, 1 is missed and 1 not measured by preset small; brackets "
        "hold 95 % intervals."
    )


@pytest.mark.parametrize("column", ["seed", "train_seed"])
def test_a_figure_of_one_of_several_trainings_is_said_to_be_that(finished_run, column):
    run = read_run(finished_run)
    again = run["results"].iloc[[1, 1, 0]].assign(target=None, **{column: [1, 2, 1]})
    run["results"] = pd.concat([run["results"].assign(**{column: 0}), again], ignore_index=True)
    run["about"] |= {"answer": [{"text": "It flips 30.0 %.", "line": 3, "survives": True}]}
    *_, sure = answer(run, verdicts(run["results"]))
    assert sure.text.endswith("; the figures above are those of one of 3 seeds; brackets hold 95 % intervals.")


def test_means_over_the_trainings_are_said_to_be_that(finished_run):
    run = read_run(finished_run)
    again = run["results"].iloc[[1, 1]].assign(target=None, seed=[1, 2])
    run["results"] = pd.concat([run["results"].assign(seed=0), again], ignore_index=True)
    flips = where(run["results"], metric="flips")
    finding = Finding.over(flips, f"It flips {share(over_seeds(flips))}.")
    assert finding.line == 3 and finding.seeds == 3 and finding.text == "It flips 30.0 % (30.0 to 30.0)."
    run["about"] |= {"answer": [asdict(finding)]}
    *_, sure = answer(run, verdicts(run["results"]))
    assert sure.text.endswith("; the figures above are means over 3 seeds; brackets hold 95 % intervals.")


@pytest.mark.parametrize(
    "claims, sentence",
    [
        (["M1", "M3"], "Of the 2 claims of Meucci (2016), 1 holds and 1 not measured by preset small."),
        (["M1"], "The claim of Meucci (2016) holds."),
        (["M3"], "The claim of Meucci (2016) is not measured by preset small."),
    ],
)
def test_a_verdict_that_no_claim_has_is_not_counted(finished_run, claims, sentence):
    assert said(finished_run, claims=claims) == [sentence]


@pytest.mark.parametrize("reason", ["digits instead of cifar10", "the preset decides no claim"])
def test_a_run_that_decides_nothing_says_why(finished_run, reason):
    assert said(finished_run, note=reason) == [f"Nothing is decided about Meucci (2016): {reason}."]


def test_a_study_without_claims_and_findings_says_so(finished_run):
    (only,) = said(finished_run, target=None)
    assert "compares no number with a report" in only


def test_each_sentence_leads_to_its_row(finished_run):
    about = json.loads((finished_run / "about.json").read_text())
    found = [
        {"text": "It flips 30.0 %.", "line": 3, "survives": False},
        {"text": "Far.", "line": 10**6, "survives": False},
    ]
    (finished_run / "about.json").write_text(json.dumps(about | {"answer": found}))
    page = write_report(finished_run).read_text()
    assert re.search(r'<p>It flips 30\.0 %\. <a class="source" href="#row-3"', page) and "<p>Far.</p>" in page


def test_the_page_shows_each_claim_with_its_verdict_and_what_it_needs(finished_run):
    page = write_report(finished_run).read_text()
    for claim, word, says in (("M1", "holds", "The network is right."), ("M4", "open", "Half of them are errors.")):
        assert re.search(
            rf'>{claim}</a></td><td data-value="[^"]*"><span class="says"><b class="{word}">{word}</b> {says}</span>',
            page,
        )
    assert re.search(r'<td class="open">open <small>about 61 more images would decide it</small></td>', page)


def test_a_claim_leads_to_its_row_and_its_exhibit(finished_run):
    page = write_report(finished_run).read_text()
    rows = (finished_run / "results.csv").read_text().splitlines()
    for target in ("M1", "M2", "M3", "M4"):
        (line,) = re.findall(rf'<a href="#row-(\d+)"[^>]*>{target}</a>', page)
        assert f",{target}," in rows[int(line) - 1] and f'id="row-{line}"' in page
    assert re.search(r'<a href="#exhibit-one" aria-label="M2: One">', page) and 'id="exhibit-one"' in page


def test_the_page_of_a_run_from_before_the_explorer_is_still_made(finished_run):
    for kept in ("about.json", "explorer/explorer.json", "checksums.json"):
        (finished_run / kept).unlink()
    page = write_report(finished_run).read_text()
    assert "Look at the images" not in page and "The report's claims" in page


def test_no_name_becomes_markup(tmp_path):
    hostile = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    page = write_report(make_run(tmp_path / "run", hostile).directory).read_text()
    assert "<img src=x" not in page and "<script>alert" not in page


def test_a_damaged_run_is_one_line(finished_run):
    (finished_run / "exhibits.json").write_text("[")
    result = CliRunner().invoke(main, ["report", str(finished_run)])
    assert result.exit_code == 2 and len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("paper", ["#ffffff", "#16181c"])
def test_every_colour_of_the_charts_stands_out_from_the_paper(paper):
    """WCAG 2: graphics need a contrast of 3 to what is beside them."""

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in charts.COLOURS:
        light, dark = sorted((luminance(colour), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


def test_a_run_of_many_rows_makes_a_page_of_bounded_size(tmp_path):
    run = make_run(tmp_path / "run")
    many = 60_000
    run.add(pd.DataFrame({"metric": "accuracy", "value": 0.5, "n": range(many), "unit": "images"}))
    run.rows("late", lambda: [metrics.proportion(9, 10).row("late", target="M9", accept_low=0.5)])
    run.exhibit("long", "Long", "A caption.", table=pd.DataFrame({"n": range(many)}))
    page = write_report(run.directory)
    assert page.stat().st_size < 8e6
    text = page.read_text()
    assert f"The first 5000 of {many + 5} rows." in text and f"The first 5000 of {many} rows." in text
    assert set(re.findall(r'href="#(row-\d+)"', text)) <= set(re.findall(r'id="(row-\d+)"', text)) and "M9" in text


def test_the_run_of_an_earlier_version_that_does_not_say_when_it_was_made_has_a_page(finished_run):
    path = finished_run / "environment.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "made"}))
    assert ", made" not in write_report(finished_run).read_text()
