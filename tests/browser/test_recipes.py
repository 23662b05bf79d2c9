"""The page of every study, from a run on the embedded data that is as small as it can be."""

import pytest
from click.testing import CliRunner
from tiny import TINY, settings

from advbench.cli import main


@pytest.mark.parametrize("recipe", TINY)
def test_the_page_of_a_study(open_page, browser, tmp_path, recipe):
    out = tmp_path / "run"
    asked = ["recipe", recipe, "--dataset", "digits", "--workers", "1", "--out", str(out), *settings(TINY[recipe])]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    opened = open_page(out / "report.html", width=400)
    page = opened.page
    assert opened.complaints == [] and opened.requests == [(out / "report.html").as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    for chart in page.locator("[data-chart]").all():
        assert chart.locator(".role-mark :is(path, line, image)").count() > 0, chart.get_attribute("data-chart")
    if page.locator("#explore").count():
        before = page.locator("#explore .verdict").inner_text()
        page.locator(".thumbnails button").last.click()
        assert page.locator("#explore .verdict").inner_text() != before
        for name in page.locator("#explore [name=attack] option").all_inner_texts():
            page.select_option("#explore [name=attack]", label=name)
            assert page.locator(".probabilities tbody tr").count() == 10
    assert opened.complaints == []
    assert (out / "report.html").stat().st_size < 5_000_000
