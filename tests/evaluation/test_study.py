"""The whole command on a small trained network, masked ones, and again on what it left behind."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from advbench import attacks
from advbench.cli import main
from advbench.evaluation import exhibits
from advbench.metrics.sanity import RULES

FILE = """
import torch
from conftest import SmallNet

def plain():
    net = SmallNet()
    net.load_state_dict(torch.load(__file__.replace("net.py", "w.pt"), weights_only=True))
    return net

class Detached(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()
    def forward(self, x):
        return self.net(x.detach())

class Quantised(Detached):
    def forward(self, x):
        return self.net(torch.round(x * 15) / 15)
"""


@pytest.fixture(scope="module")
def folder(trained_net, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "net.py").write_text(FILE)
    torch.save(trained_net.state_dict(), folder / "w.pt")
    np.savez(folder / "digits.npz", x=digits[2][:96], y=digits[3][:96])
    return folder


def evaluate(folder, name, *more):
    words = [
        "evaluate",
        f"{folder}/net.py:{name}",
        "--data",
        f"{folder}/digits.npz",
        "--attacks",
        "fast",
        *([] if "--eps" in more else ["--eps", "0.02,0.1"]),
    ]
    return CliRunner().invoke(main, [*words, "--out", f"{folder}/{name}", *more])


@pytest.fixture(scope="module")
def plain(folder):
    return evaluate(folder, "plain", "--fail-under", "checks_passed=1")


def results(folder, name):
    return pd.read_csv(folder / name / "results.csv")


def test_a_sound_model_passes_all_checks_and_its_figures_are_those_of_the_attacks(plain, folder, classifier, digits):
    assert plain.exit_code == 0, plain.output
    rows = results(folder, "plain")
    accuracy = {(row.attack, row.eps): row.value for row in rows[rows.exhibit == "robustness"].itertuples()}
    x, y = digits[2][:96], digits[3][:96]
    assert accuracy["clean", 0] == (classifier.predict(x).argmax(1) == y).mean()
    for eps in (0.02, 0.1):
        attacked = attacks.create("bim", classifier, eps, max_iter=20).generate(x, y)
        theirs = (classifier.predict(attacked).argmax(1) == y).mean()
        assert abs(accuracy["+ PGD-20", eps] - theirs) <= 0.05
        assert accuracy["FGSM", eps] >= accuracy["+ DeepFool", eps] >= accuracy["+ PGD-20", eps]
    checks = rows[rows.exhibit == "check"]
    assert len(checks) == len(RULES) and checks.n.gt(0).all()
    median = rows[rows.metric == "median_distance"].iloc[0]
    assert median.ci_low < median.value < median.ci_high and 0.02 < median.value < 0.2


def test_the_worst_case_is_the_smallest_at_each_eps_and_the_page_is_there(plain, folder):
    rows = results(folder, "plain")
    headline = rows[rows.exhibit == "headline"]
    assert headline.metric.tolist() == ["clean_accuracy", "robust_accuracy", "robust_accuracy"]
    assert headline.value.is_monotonic_decreasing
    for row in headline.itertuples():
        assert row.value == rows[(rows.exhibit == "robustness") & (rows.eps == row.eps)].value.min()
    assert "Did the attacks work?" in (folder / "plain" / "report.html").read_text()


def test_an_image_that_is_beaten_costs_nothing_more_at_this_eps_or_a_larger_one(plain, folder):
    """FGSM makes one gradient for every image that it sees, PGD-20 at most 20, and restarts none for those that are beaten."""
    rows = results(folder, "plain")
    cost = rows[(rows.exhibit == "cost") & (rows.metric == "backward_passes")].set_index(["attack", "eps"]).value
    left = rows[rows.exhibit == "robustness"].set_index(["attack", "eps"]).value
    assert cost["FGSM", 0.02] == pytest.approx(left["clean", 0])
    assert cost["FGSM", 0.1] == pytest.approx(left["+ PGD-20", 0.02])
    for eps in (0.02, 0.1):
        sees, leaves = left["+ DeepFool", eps], left["+ PGD-20", eps]
        assert 20 * leaves <= cost["PGD-20", eps] <= 20 * leaves + 10 * (sees - leaves)
    total = cost[[attack == "all" for attack, _ in cost.index]].item()
    assert total == pytest.approx(cost.sum() - total)


def test_the_same_command_keeps_what_is_there_and_a_floor_is_exit_code_1_with_one_line(plain, folder):
    before = {path: path.read_bytes() for path in (folder / "plain" / "arrays").rglob("*.npy")}
    again = evaluate(folder, "plain", "--fail-under", "robust_accuracy=0.99", "--json")
    assert again.exit_code == 1
    assert again.stderr.strip().splitlines()[-1].startswith("advbench: robust_accuracy is 0.")
    assert json.loads(again.stdout)["summary"]["recipe"] == "evaluate"
    assert "pgd-0.1: finished before" in again.stderr and "..." not in again.stderr
    assert before == {path: path.read_bytes() for path in before}


def test_another_processor_changes_figures_by_less_than_they_say(plain, folder):
    """The oldest kernels that PyTorch and its libraries have, in another number of threads, stand for another machine."""
    old = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **old, "PYTHONPATH": str(Path(__file__).parents[1])}
    asked = (
        f"evaluate {folder}/net.py:plain --data {folder}/digits.npz --eps 0.02,0.1 --attacks fast --out {folder}/old"
    )
    code = "import sys, torch; from advbench.cli import main; print(torch.backends.cpu.get_cpu_capability()); main(sys.argv[1:])"
    said = subprocess.run(
        [sys.executable, "-c", code, *asked.split()],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.startswith("DEFAULT")
    here, there = results(folder, "plain"), results(folder, "old")
    assert here.metric.tolist() == there.metric.tolist()
    figures = here.exhibit.isin(["robustness", "headline"])
    np.testing.assert_array_equal(here[figures & (here.eps == 0)].value, there[figures & (there.eps == 0)].value)
    np.testing.assert_allclose(here[figures].value, there[figures].value, rtol=0, atol=2 / 96)  # two images
    median = here.metric == "median_distance"
    np.testing.assert_allclose(here[median].value, there[median].value, rtol=0.01)
    passed = [[check.passed for check in exhibits.checks(rows)] for rows in (here, there)]
    assert passed[0] == passed[1]


def test_another_model_is_not_mixed_into_the_run(plain, folder, trained_net):
    other = {name: tensor + 0 for name, tensor in trained_net.state_dict().items()}
    other["head.2.bias"] += 1
    torch.save(other, folder / "other.pt")
    result = evaluate(folder, "plain", "--weights", f"{folder}/other.pt")
    assert result.exit_code == 2 and "choose another --out" in result.stderr


@pytest.mark.parametrize("name", ["Detached", "Quantised"])
def test_a_masked_model_is_caught(folder, name):
    result = evaluate(folder, name, "--n", "64", "--fail-under", "checks_passed=1")
    assert result.exit_code == 1 and "checks_passed is" in result.stderr
    rows = results(folder, name)
    failed = {row.metric for row in rows[rows.exhibit == "check"].itertuples() if not _passes(row)}
    assert {"gradients", "large eps breaks it", "transfer is weaker"} <= failed
    assert "are not to be trusted" in (folder / name / "exhibits.json").read_text()


def _passes(row):
    return not (row.value < row.accept_low or row.value > row.accept_high)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("evaluate", "net.py", "--data", "digits"), "MODEL must be"),
        (("evaluate", "net.py:f", "--data", "digits", "--eps", "x"), "--eps"),
        (("evaluate", "net.py:f", "--data", "digits", "--fail-under", "x=1"), "--fail-under takes"),
        (("evaluate", "net.py:f", "--data", "digits", "--attacks", "fgms"), "did you mean 'fgsm'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, said):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "more, said",
    [
        (("--labels", "1,0"), "--labels names the output of each class folder"),
        (("--shape", "1,16,16"), "--shape 1,16,16: .*digits.npz holds images of shape 1,8,8"),
        (("--norm", "l2", "--eps", "8"), "--eps 8: within it any image may become any other; .*8/255"),
        (("--outputs", "sigmoid"), "--outputs sigmoid does not fit"),
    ],
)
def test_an_option_that_does_not_fit_the_data_or_the_model_is_refused(folder, more, said):
    result = evaluate(folder, "plain", *more)
    assert result.exit_code == 2 and re.search(said, result.stderr.strip().splitlines()[-1])


def test_a_bug_that_was_mended_is_not_hidden_by_the_run_of_before(folder):
    code = (folder / "net.py").read_text().replace("def plain", "def make").replace('"net.py", ', '"own.py", ')
    (folder / "own.py").write_text(f"{code}\nSCALE = 1\n")
    words = ["evaluate", f"{folder}/own.py:make", "--data", f"{folder}/digits.npz", "--attacks", "fgsm", "--n", "12"]
    command = [*words, "--checks", "2", "--eps", "0.1", "--out", f"{folder}/own"]
    first = CliRunner().invoke(main, command)
    assert first.exit_code == 0, first.stderr
    (folder / "own.py").write_text((folder / "own.py").read_text().replace("SCALE = 1", "SCALE = 2"))
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 2 and "holds a run with code = " in again.stderr and "own.py" in again.stderr


def test_labels_in_another_order_are_said_loudly_with_the_order(folder, digits):
    np.savez(folder / "turned.npz", x=digits[2][:200], y=9 - digits[3][:200])
    words = [
        "evaluate",
        f"{folder}/net.py:plain",
        "--data",
        f"{folder}/turned.npz",
        "--attacks",
        "fgsm",
        "--eps",
        "0.1",
    ]
    result = CliRunner().invoke(main, [*words, "--checks", "2", "--out", f"{folder}/turned"])
    assert "THE LABELS DO NOT MATCH THE OUTPUTS OF THE MODEL" in result.stderr and "0 is output 9" in result.stderr
    assert "THE LABELS DO NOT MATCH" in (folder / "turned" / "exhibits.json").read_text()


def test_a_floor_does_not_pass_while_a_check_fails_unless_it_may(folder):
    """The quantised model "withstands" everything."""
    trusted = evaluate(folder, "Quantised", "--n", "64", "--fail-under", "robust_accuracy=0.1")
    assert trusted.exit_code == 1 and "gradients" in trusted.stderr and "--despite-checks" in trusted.stderr
    allowed = evaluate(folder, "Quantised", "--n", "64", "--fail-under", "robust_accuracy=0.1", "--despite-checks")
    assert allowed.exit_code == 0, allowed.output
    assert evaluate(folder, "Quantised", "--n", "64", "--fail-under", "checks_passed=0.1").exit_code == 0


@pytest.mark.parametrize("found", [{}, {"robust_accuracy": float("nan")}])
def test_a_figure_that_is_missing_is_below_every_floor(plain, folder, monkeypatch, found):
    monkeypatch.setattr(exhibits, "figures", lambda run: found)
    result = evaluate(folder, "plain", "--fail-under", "robust_accuracy=0")
    assert result.exit_code == 1 and "robust_accuracy is nan" in result.stderr


@pytest.mark.parametrize("line", ["exit(0)", "raise SystemExit(0)", "1 / 0", "print('x'); quit()"])
@pytest.mark.parametrize("place", ["import", "make", "forward"])
def test_a_model_that_ends_the_program_or_fails_is_no_success(folder, line, place):
    at_import, make, forward = (f"{line}\n" if place == each else "pass\n" for each in ("import", "make", "forward"))
    (folder / "ends.py").write_text(
        f"from torch import nn\nfrom net import plain\n{at_import}class Net(nn.Module):\n    def __init__(self):\n"
        f"        super().__init__()\n        self.net = plain()\n        {make}    def forward(self, x):\n"
        f"        {forward}        return self.net(x)\n"
    )
    arguments = ["evaluate", f"{folder}/ends.py:Net", "--data", f"{folder}/digits.npz", "--out", f"{folder}/ends"]
    done = CliRunner().invoke(main, [*arguments, "--fail-under", "clean_accuracy=0", "--json"])
    assert done.exit_code in (1, 2) and done.stdout == "" and "ends.py" in done.stderr + str(line)
    assert done.stderr.strip().splitlines()[-1].startswith("advbench: ") and "Traceback" not in done.stderr
