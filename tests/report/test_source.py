"""A run directory may come from someone else: nothing outside of it is read, and nothing written by its names."""

import json
import os

import pytest
from click.testing import CliRunner
from conftest import make_run

from advbench.cli import main
from advbench.errors import UsageError
from advbench.report import paper, write_docs, write_figures, write_report
from advbench.report.source import formatted, with_intervals


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../outside"},
        {"name": "/tmp/outside"},
        {"name": ".hidden"},
        {"name": ""},
        {"name": None},
        {"name": "one", "chart": "../secret.json"},
        {"name": "one", "chart": "/etc/hostname"},
        {"name": "one", "chart": "charts/matrix.vl.json"},
        {"name": "one", "chart": 3},
    ],
)
@pytest.mark.parametrize(
    "write", [write_report, lambda run: write_docs(run, run / "out"), lambda run: write_figures(run, run / "out")]
)
def test_names_that_lead_elsewhere_are_refused(finished_run, change, write):
    secret = finished_run.parent / "secret.json"
    secret.write_text('{"token": "hunter2"}')
    path = finished_run / "exhibits.json"
    exhibits = json.loads(path.read_text())
    exhibits[0] |= change
    path.write_text(json.dumps(exhibits))
    (finished_run / "checksums.json").unlink()  # who writes the run writes its checksums too
    before = {path for path in finished_run.parent.rglob("*") if "out" not in path.parts}
    with pytest.raises(UsageError, match="cannot be read as a run"):
        write(finished_run)
    assert {path for path in finished_run.parent.rglob("*") if "out" not in path.parts} == before


def test_checksums_of_files_outside_of_the_run_are_refused(finished_run):
    (finished_run / "checksums.json").write_text('{"../secret": "00"}')
    with pytest.raises(UsageError, match=r"names a file outside of itself: \.\./secret"):
        write_report(finished_run)


@pytest.mark.parametrize(
    "file", ["config.json", "environment.json", "exhibits.json", "about.json", "results.csv", "checksums.json"]
)
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"1e400"])
def test_a_damaged_file_is_one_line(finished_run, file, content):
    if file != "checksums.json":
        (finished_run / "checksums.json").unlink()
    (finished_run / file).write_bytes(content)
    done = CliRunner().invoke(main, ["report", str(finished_run)])
    assert done.exit_code in (0, 2) and len(done.output.splitlines()) == 1


READERS = [
    ["show", "{run}"],
    ["report", "{run}"],
    ["report", "{run}", "--docs", "{out}"],
    ["report", "{run}", "--figures", "{out}"],
    ["report", "{run}", "--track", "tensorboard"],
    ["compare", "{run}", "{other}"],
    ["evaluate", "{run}", "--data", "digits"],
    ["evaluate", "{run}:net", "--data", "digits"],
]


def call(arguments, run, tmp_path):
    names = {"run": run, "out": tmp_path / "out", "other": tmp_path / "other"}
    return CliRunner().invoke(main, [part.format(**names) for part in arguments])


@pytest.mark.parametrize("arguments", READERS)
@pytest.mark.parametrize("place", ["stages/clean.json", "charts/one.svg", "tensorboard", "models/net.safetensors"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path.parents[2] / "secret")])
def test_no_reader_follows_a_link_or_waits_for_a_pipe(finished_run, tmp_path, arguments, place, make):
    make_run(tmp_path / "other")
    (tmp_path / "secret").mkdir()
    path = finished_run / place
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)
    done = call(arguments, finished_run, tmp_path)
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1 and path.name in done.stderr, done.output
    assert list((tmp_path / "secret").iterdir()) == [] and not (tmp_path / "out").exists()


def redrawn(run, change):
    path = run / "charts" / "one.vl.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    (run / "checksums.json").unlink()  # who writes the run writes its checksums too


IMAGE = {"mark": "image", "encoding": {"url": {"field": "u"}}}
ADDRESS = "http://127.0.0.1:9/x"


@pytest.mark.parametrize(
    "out", [["--docs"], ["--figures"], ["--format", "png", "--figures"], ["--format", "pdf", "--figures"]]
)
@pytest.mark.parametrize(
    "change, said",
    [
        (lambda spec: {"mark": "nonsense"}, "the chart one cannot be drawn"),
        (lambda spec: {}, "the chart one cannot be drawn"),
        (lambda spec: {"mark": "bar", "data": {"url": f"{ADDRESS}.csv"}}, "the chart one "),
        (
            lambda spec: {"mark": "bar", "data": {"url": "file:///etc/hostname"}},
            "the chart one names file:///etc/hostname",
        ),
        (lambda spec: {"layer": [spec, {"mark": "bar", "data": {"url": "../secret.csv"}}]}, "the chart one "),
        (lambda spec: {**IMAGE, "data": {"values": [{"u": f"{ADDRESS}.png"}]}}, f"the chart one names {ADDRESS}.png"),
        (lambda spec: {**IMAGE, "data": {"values": [{"u": "/etc/x.png"}]}}, "/etc/x.png"),
        (
            lambda spec: {
                **IMAGE,
                "data": {"values": [{"a": "http:"}]},
                "transform": [{"calculate": "datum.a + '//127.0.0.1:9/y.png'", "as": "u"}],
            },
            "the chart one names http://127.0.0.1:9/y.png",
        ),
    ],
)
def test_a_chart_that_would_fetch_or_cannot_be_drawn_is_one_line(finished_run, tmp_path, out, change, said):
    redrawn(finished_run, change)
    done = CliRunner().invoke(main, ["report", str(finished_run), *out, str(tmp_path / "out")])
    assert done.exit_code == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.output


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("_SECONDS", 0.01, "the chart one cannot be drawn in 0.01 seconds"),
        ("_PROGRAM", "import os; os.abort()  # {}", "the chart one cannot be drawn: there is not enough memory for it"),
    ],
)
def test_a_chart_that_never_ends_or_ends_its_process_is_one_line(
    finished_run, tmp_path, monkeypatch, name, value, said
):
    """As one of 10^6 rows, or of a sequence of 1e12: whoever reads the run goes on."""
    monkeypatch.setattr(paper, name, value)
    done = call(["report", "{run}", "--figures", "{out}"], finished_run, tmp_path)
    assert done.exit_code == 2 and done.stderr.strip() == f"advbench: {said}"


def test_a_control_character_in_a_chart_is_written_out(finished_run, tmp_path):
    redrawn(finished_run, lambda spec: {"mark": "bar", "title": "a\x1b[31m\x00b", "data": {"values": [{}]}})
    assert call(["report", "{run}", "--figures", "{out}"], finished_run, tmp_path).exit_code == 0
    assert r"a\x1b[31m\x00b" in (tmp_path / "out" / "one.svg").read_text()


def test_a_chart_that_holds_its_images_is_drawn(finished_run, tmp_path):
    pixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    redrawn(finished_run, lambda spec: {**IMAGE, "data": {"values": [{"u": pixel}]}})
    assert call(["report", "{run}", "--figures", "{out}"], finished_run, tmp_path).exit_code == 0
    assert pixel in (tmp_path / "out" / "one.svg").read_text()


def test_a_table_of_someone_else_has_no_cell_that_cannot_be_written():
    columns, rows = with_intervals(["a", "ci_low", "ci_high"], [[10**400, "low", "high"], ["x" * 10**6, True, None]])
    assert columns == ["a", "95 % interval"] and [row[1] for row in rows] == ["", ""]
    cells = formatted(columns, rows)[1]
    assert cells[0][0] == str(10**400) and len(cells[1][0]) < 10**4
