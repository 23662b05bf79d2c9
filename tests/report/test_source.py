"""A run directory may come from someone else: nothing outside of it is read, and nothing written by its names."""

import json

import pytest
from click.testing import CliRunner

from advbench.cli import main
from advbench.errors import UsageError
from advbench.report import write_docs, write_figures, write_report


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
