"""The page of a run, as a reader meets it."""

import pytest
from conftest import make_run

from advbench.report import write_comparison, write_report


def column(page, table, index):
    return page.locator(f"[aria-label='{table}'] tbody tr > :nth-child({index})").all_inner_texts()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1000, 400])
def test_the_page_asks_nobody_complains_of_nothing_and_fits(open_page, page_file, width, dark):
    opened = open_page(page_file, width, dark)
    assert opened.complaints == [] and opened.requests == [page_file.as_uri()]
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1000, 400])
def test_axe_finds_nothing(open_page, page_file, width, dark):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra 'browser' is not installed")
    opened = open_page(page_file, width, dark)
    opened.page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    found = axe.Axe().run(opened.page)
    assert found.response["passes"], "axe looked at something"
    assert found.violations_count == 0, found.generate_report()


def test_every_mark_is_drawn_and_the_legend_filters(open_page, page_file):
    page = open_page(page_file).page
    marks = page.locator("[data-chart=one] .mark-symbol.role-mark path")
    legend = page.locator("[data-chart=one] .legend button")
    assert [text[-1] for text in legend.all_inner_texts()] == ["a", "b", "c"]
    assert marks.count() == 2, "b has no second coordinate"
    colour = marks.last.get_attribute("fill")
    legend.first.press("Enter")
    assert legend.first.get_attribute("aria-pressed") == "false"
    page.wait_for_function("document.querySelectorAll('[data-chart=one] .mark-symbol.role-mark path').length === 1")
    assert marks.first.get_attribute("fill") == colour, "a mark keeps its colour when another is hidden"
    legend.first.click()
    page.wait_for_function("document.querySelectorAll('[data-chart=one] .mark-symbol.role-mark path').length === 2")
    assert page.locator("[data-chart=matrix] .mark-rect.role-mark path").count() == 4
    assert page.locator("[data-chart=matrix] .legend").count() == 0


def test_a_mark_says_its_values_under_the_pointer(open_page, page_file):
    page = open_page(page_file).page
    page.locator("[data-chart=one] .mark-symbol.role-mark path").first.hover()
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert "0.900" in page.locator("#vg-tooltip-element").inner_text()


def test_a_table_sorts_both_ways_by_number(open_page, page_file):
    page = open_page(page_file).page
    name = "Table: One"
    button = page.locator(f"[aria-label='{name}'] th button", has_text="reported")
    heading = page.locator(f"[aria-label='{name}'] th", has_text="reported")
    button.click()
    assert column(page, name, 3) == ["0.800", "0.910", ""] and heading.get_attribute("aria-sort") == "ascending"
    button.press("Enter")
    assert column(page, name, 3) == ["0.910", "0.800", ""] and heading.get_attribute("aria-sort") == "descending"
    page.locator(f"[aria-label='{name}'] th button", has_text="group").click()
    assert column(page, name, 1) == ["a", "b", "c"] and heading.get_attribute("aria-sort") is None


def test_a_table_is_copied_with_all_digits(open_page, page_file):
    opened = open_page(page_file)
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    claims = opened.page.locator(".table", has=opened.page.locator('[aria-label="Table: the report\'s claims"]'))
    claims.get_by_role("button", name="Copy table").click()
    claims.get_by_role("button", name="Copied").wait_for()
    lines = opened.page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0].split("\t")[:3] == ["Claim", "Measured", "Ours"]
    assert lines[1].split("\t")[:3] == ["M1", "accuracy", "0.9"] and len(lines) == 5


def test_a_link_opens_the_row_that_it_leads_to(open_page, page_file):
    page = open_page(page_file).page
    row = page.locator("#row-3")
    assert not row.is_visible()
    page.get_by_role("link", name="M2, its row of results.csv").click()
    row.wait_for(state="visible")
    assert "flips" in row.inner_text()


def test_the_keyboard_skips_to_the_content(open_page, page_file):
    page = open_page(page_file).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_on_paper_the_page_is_black_on_white(open_page, page_file):
    page = open_page(page_file, dark=True).page
    ink = "getComputedStyle(document.querySelector('.role-axis-label text')).fill"
    assert page.evaluate(ink) == "rgb(230, 230, 230)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(ink) == "rgb(26, 26, 26)"
    assert not page.locator("nav").is_visible()


HOSTILE = "\"'><img src=x onerror=alert(1)></script><script>alert(2)</script><svg onload=alert(3)>{{7*7}}"


def test_no_name_runs_script(open_page, tmp_path):
    opened = open_page(write_report(make_run(tmp_path / "run", HOSTILE).directory))
    page = opened.page
    page.locator("[data-chart=one] .mark-symbol.role-mark path").last.hover()
    page.select_option("[name=class]", index=1)
    page.get_by_role("link", name="M2, its row of results.csv").click()
    page.wait_for_timeout(200)
    assert opened.complaints == [] and len(opened.requests) == 1
    assert page.locator("img, svg[onload]").count() == 0
    assert HOSTILE in page.locator("h1").inner_text() and HOSTILE in page.locator(".verdict").inner_text()


def test_even_script_that_slipped_through_would_not_run(open_page, tmp_path, page_file):
    broken = tmp_path / "broken.html"
    broken.write_text(
        page_file.read_text().replace("<main", "<script>alert(1)</script><img src=x onerror=alert(2)><main")
    )
    opened = open_page(broken)
    assert opened.complaints and not {"1", "2"} & set(opened.complaints), "refused, and said so"


def test_the_comparison_of_runs(open_page, tmp_path):
    runs = [
        make_run(tmp_path / name, HOSTILE, seed, value).directory
        for seed, (name, value) in enumerate(zip("ab", (9, 1)))
    ]
    opened = open_page(write_comparison(runs, tmp_path / "compare.html"), width=400)
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra 'browser' is not installed")
    found = axe.Axe().run(opened.page)
    assert found.violations_count == 0, found.generate_report()
    assert opened.complaints == [] and len(opened.requests) == 1
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 400
    assert opened.page.locator("[data-chart=differences] .mark-symbol.role-mark path").count() == 3
    assert "-0.800" in opened.page.locator("[aria-label='Table: differences']").inner_text()
