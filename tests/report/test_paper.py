import csv
import json
import re

import pytest
from click.testing import CliRunner
from conftest import make_run
from PIL import Image

from advbench.cli import main


@pytest.mark.parametrize("form, begins", [("svg", b"<svg"), ("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_every_chart_and_table_is_written(finished_run, tmp_path, form, begins):
    out = tmp_path / "figures"
    result = CliRunner().invoke(main, ["report", str(finished_run), "--figures", str(out), "--format", form])
    assert result.exit_code == 0, result.output
    tables = {f"{name}.{kind}" for name in ("claims", "one", "matrix") for kind in ("csv", "md", "tex")}
    assert {path.name for path in out.iterdir()} == {f"one.{form}", f"matrix.{form}"} | tables
    assert (out / f"one.{form}").read_bytes().startswith(begins)
    assert set(result.output.split()) == {str(path) for path in out.iterdir()}


def test_a_chart_has_room_for_a_wider_font_than_the_one_that_was_measured(finished_run, tmp_path):
    for form in ("svg", "png"):  # text of a PNG is drawn by then
        CliRunner().invoke(main, ["report", str(finished_run), "--figures", str(tmp_path), "--format", form])
    with Image.open(tmp_path / "one.png") as picture:
        measured = picture.width / 3
    width = float(re.search(r'width="([\d.]+)"', (tmp_path / "one.svg").read_text())[1])
    assert width == pytest.approx(measured + 15 + 25, abs=1)


def test_a_table_says_what_the_run_says(finished_run, tmp_path):
    CliRunner().invoke(main, ["report", str(finished_run), "--figures", str(tmp_path)])
    (exhibit,) = (e for e in json.loads((finished_run / "exhibits.json").read_text()) if e["name"] == "one")
    head, *rows = csv.reader((tmp_path / "one.csv").open())
    assert head == exhibit["table"]["columns"]
    assert rows == [["" if cell is None else str(cell) for cell in row] for row in exhibit["table"]["data"]]
    assert (
        "| M1 | accuracy | 0.900 | 0.596 to 0.982 | 0.910 | at least 0.5 | holds |"
        in (tmp_path / "claims.md").read_text()
    )


def test_names_are_escaped_in_latex_and_markdown(tmp_path):
    run = make_run(tmp_path / "run", "_50%&|$").directory
    CliRunner().invoke(main, ["report", str(run), "--figures", str(tmp_path / "f")])
    tex = (tmp_path / "f" / "one.tex").read_text()
    assert r"b\_50\%\&|\$ & 0.500 &  \\" in tex and r"\toprule" in tex
    assert r"| b_50%&\|$ | 0.500 |" in (tmp_path / "f" / "one.md").read_text()
