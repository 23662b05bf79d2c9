"""The documentation is true: its code runs, its links lead somewhere, its pages are all on the site."""

import re
from pathlib import Path

import pytest

from advbench.study import names

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]


def programs(page):
    """The Python that a page shows."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S)


def test_the_code_for_a_model_of_ones_own_runs(trained_net, digits, capsys):
    given = {"my_module": trained_net, "x": digits[2][:24], "y": digits[3][:24]}
    (program,) = programs(DOCS / "own-model.md")
    first, *_ = programs(ROOT / "README.md")
    assert first.splitlines()[:-1] == program.splitlines()[:-1] and len(first.splitlines()) == 4
    exec(program, given)
    accuracy = given["result"].table.accuracy
    assert accuracy.iloc[0] > 0.85 and accuracy.is_monotonic_decreasing
    assert capsys.readouterr().out.rstrip() == str(given["result"].table)


def test_the_page_about_a_study_of_ones_own_shows_lines_of_the_example():
    (program,) = programs(DOCS / "own-study.md")
    example = [line.strip() for line in (ROOT / "examples" / "own_study.py").read_text().splitlines()]
    assert set(program.splitlines()) <= set(example)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_every_test_that_a_page_names_is_there(page):
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    for path in re.findall(r"(?<![\w/.(-])(?:tests|recipes|examples)/[\w/]+\.\w+", text):
        assert (ROOT / path).exists(), path


def test_every_study_has_its_page():
    assert {path.stem for path in (DOCS / "recipes").glob("*.md")} == set(names())
    assert all(f"recipes/{name}.md" in (DOCS / "README.md").read_text() for name in names())


def test_the_site_has_every_page_of_the_documentation():
    site = re.findall(r'"([\w/.-]+\.md)"', (ROOT / "zensical.toml").read_text())
    here = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert {page for page in site if not page.startswith("api/")} == here
    rooms = {path.parent.name for path in (ROOT / "advbench").glob("*/__init__.py")}
    assert {Path(page).stem for page in site if page.startswith("api/")} == rooms | {"advbench"}


def test_the_citation_is_of_this_version():
    import advbench

    assert f"version: {advbench.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {advbench.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
