"""An evaluation as a test of a CI system: floors for any figure of the table, JUnit XML, a summary in Markdown."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import advbench
from advbench.cli import main
from advbench.errors import UsageError
from advbench.evaluation import exhibits
from advbench.evaluation.options import floors, number

NET = """
import torch
from conftest import SmallNet

class Rounded(SmallNet):
    def forward(self, x):
        return super().forward(torch.round(x * 7) / 7)
"""


@pytest.fixture(scope="module")
def evaluated(trained_net, digits, tmp_path_factory):
    """The command on a model of a file; the first call computes, later ones only read."""
    folder = tmp_path_factory.mktemp("gate")
    torch.save(trained_net.state_dict(), folder / "w.pt")
    np.savez(folder / "digits.npz", x=digits[2][:40], y=digits[3][:40])
    (folder / "net.py").write_text(NET)

    def run(name, *more):
        words = f"evaluate {folder}/net.py:{name} --weights {folder}/w.pt --data {folder}/digits.npz --checks 12"
        words += f" --attacks fgsm,pgd --eps 4/255,0.1 --out {folder}/{name}"
        return CliRunner().invoke(main, [*words.split(), *more])

    run.folder = folder
    assert run("SmallNet").exit_code == 0
    return run


def table(evaluated, name="SmallNet"):
    rows = exhibits.tabled(advbench.Result(evaluated.folder / name)._rows, "linf")
    return rows.set_index([rows.eps.map(number), rows.attack]).value


def test_a_floor_is_for_any_figure_of_the_table_at_any_eps(evaluated):
    found = table(evaluated)
    for name, value in (
        ("robust_accuracy", found["0.1", "+ pgd"]),
        ("robust_accuracy@4/255", found["4/255", "+ pgd"]),
        ("robust_accuracy@0.1", found["0.1", "+ pgd"]),
        ("fgsm@4/255", found["4/255", "fgsm"]),
        ("fgsm", found["0.1", "fgsm"]),
        ("pgd@0.1", found["0.1", "+ pgd"]),
        ("clean_accuracy", found["0", "clean"]),
        ("accuracy_in_8_bits@4/255", found["4/255", "the same images in 8 bits"]),
    ):
        held = evaluated("SmallNet", "--fail-under", f"{name}={value}")
        assert held.exit_code == 0, held.output
        if value < 1:
            broken = evaluated("SmallNet", "--fail-under", f"{name}={value + 1e-3}")
            assert broken.exit_code == 1 and f"{name} is {value:.4f}, below" in broken.stderr


@pytest.mark.parametrize(
    "text, said",
    [
        ("pdg=0.3", "with NAME of robust_accuracy, .*, fgsm, pgd and NUMBER"),
        ("pgd@8/255=0.3", "not measured at that eps, only at 4/255, 0.1"),
        ("checks_passed@0.1=1", "not measured at that eps"),
        ("pgd@4/0=0.3", "takes NAME=NUMBER"),
        ("pgd@0.1=3", "takes NAME=NUMBER"),
    ],
)
def test_a_floor_that_nothing_measures_is_refused_before_the_run(text, said):
    with pytest.raises(UsageError, match=said):
        floors((text,), ["fgsm", "pgd"], (4 / 255, 0.1))


def test_a_name_may_hold_an_equals_sign():
    name = "art:SquareAttack(max_iter=500)"
    assert floors((f"{name}@4/255=0.3",), [name], (4 / 255,)) == {f"{name}@4/255": 0.3}


def test_junit_has_a_case_for_each_figure_check_and_floor(evaluated):
    path = evaluated.folder / "new" / "junit.xml"
    done = evaluated("SmallNet", "--junit", str(path), "--fail-under", "pgd=1", "--fail-under", "clean_accuracy=0.1")
    assert done.exit_code == 1
    root = ElementTree.parse(path).getroot()
    suites = {suite.get("name"): suite for suite in root}
    result = advbench.Result(evaluated.folder / "SmallNet")
    assert [len(suite) for suite in suites.values()] == [len(table(evaluated)), len(result.checks), 2]
    for suite in suites.values():
        failures = suite.findall("testcase/failure")
        assert (int(suite.get("tests")), int(suite.get("failures"))) == (len(suite), len(failures))
    (failure,) = root.findall(".//failure")
    assert failure.get("message").startswith("pgd is ") and "below 1" in failure.get("message")
    cases = [case.get("name") for case in suites["robust accuracy"]]
    assert cases == [attack if eps == "0" else f"{attack} at eps = {eps}" for eps, attack in table(evaluated).index]
    assert suites["robust accuracy"][0].find("system-out").text.startswith(f"{100 * result.clean_accuracy.value:.1f} %")


def test_a_failed_check_is_a_failure_and_one_that_may_fail_is_skipped(evaluated):
    path, summary = evaluated.folder / "junit.xml", evaluated.folder / "summary.md"
    floor = ["--fail-under", "robust_accuracy=0.1", "--junit", str(path), "--markdown", str(summary)]
    assert evaluated("Rounded", *floor).exit_code == 1
    failed = [case.get("name") for case in ElementTree.parse(path).iter("testcase") if case.find("failure") is not None]
    assert failed == [check.name for check in advbench.Result(evaluated.folder / "Rounded").checks if not check.passed]
    assert "gradients" in failed
    text = summary.read_text()
    assert f"{len(failed)} of " in text and "| gradients | the gradient of the loss is zero" in text
    assert evaluated("Rounded", *floor, "--despite-checks").exit_code == 0
    root = ElementTree.parse(path).getroot()
    assert len(root.findall(".//skipped")) == len(failed) and not root.findall(".//failure")


def test_the_summary_has_the_answer_the_floors_the_table_and_the_command(evaluated):
    path = evaluated.folder / "summary.md"
    evaluated("SmallNet", "--markdown", str(path), "--fail-under", "pgd=1")
    text = path.read_text()
    assert text.startswith("## How robust is ") and "| pgd of at least 1 |" in text and "| FAILED |" in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    start = next(i for i, line in enumerate(lines) if line.startswith("| attack |"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:]]
    shown = pd.DataFrame(cells[2:], columns=cells[0]).set_index("attack")
    found = table(evaluated)
    assert list(shown.columns) == ["0", "4/255", "0.1"]
    for (eps, attack), value in found.items():
        assert shown.loc[attack, eps] == f"{100 * value:.1f} %"
    assert (shown != "").to_numpy().sum() == len(found)
    assert "advbench evaluate" in text.splitlines()[-1]


def test_a_folder_is_no_file(evaluated):
    for option in ("--junit", "--markdown"):
        done = evaluated("SmallNet", option, str(evaluated.folder))
        assert done.exit_code == 2 and f"{option} {evaluated.folder} is a folder" in done.stderr
