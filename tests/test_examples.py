"""The examples run as they stand there."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from advbench.cli import main
from advbench.data import load
from advbench.study import verdicts

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_model_of_ones_own_is_attacked(capsys):
    figures = runpy.run_path(str(EXAMPLES / "own_model.py"))["main"]()
    assert list(figures) == ["clean", "fgsm", "pgd"]
    assert figures["clean"].value > 0.9 > 0.7 > figures["fgsm"].value >= figures["pgd"].value
    printed = capsys.readouterr().out.splitlines()
    assert f"pgd    accuracy {figures['pgd'].value:.3f}" in printed[2] and "DeepFool" in printed[3]


def test_an_attack_of_ones_own_keeps_its_bound_and_beats_fgsm():
    example = runpy.run_path(str(EXAMPLES / "own_attack.py"))
    figures = example["main"]()
    assert figures["clean"].value > 0.85 and figures["momentum"].value <= figures["fgsm"].value < 0.7


def test_on_a_linear_model_an_attack_of_ones_own_ends_in_the_corner_of_its_ball(linear, interior):
    attack = runpy.run_path(str(EXAMPLES / "own_attack.py"))["Momentum"](linear, eps=0.01, eps_step=0.01)
    y = linear.predict(interior).argmax(1)
    expected = interior + 0.01 * np.sign(linear.loss_gradient(interior, y))
    # the gradient of a linear model keeps its direction as long as one class leads the others
    moved = attack.generate(interior, y)
    assert np.abs(moved - interior).max() <= 0.01 + 1e-6
    assert np.mean(np.isclose(moved, expected, atol=1e-6)) > 0.95


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("plugin") / "run"
    result = CliRunner().invoke(main, ["recipe", str(EXAMPLES / "own_study.py"), "--device", "cpu", "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out


def test_the_attack_keeps_its_bound_and_the_defence_hides_the_gradient_only(run):
    x = load("digits", "test", shape=(1, 8, 8)).x.astype(np.float32) / 255
    attacked = list(run.glob("arrays/*/x.npy"))
    assert len(attacked) == 4
    for path in attacked:
        adversarial = np.load(path)
        assert np.abs(adversarial - x).max() <= 0.2 + 1e-6 and 0 <= adversarial.min() <= adversarial.max() <= 1
    rows = pd.read_csv(run / "results.csv")
    assert [verdict.word for verdict in verdicts(rows)] == ["holds", "holds"]
    rows = rows[rows.target.isna()]
    accuracy = rows.set_index([rows.model, rows.attack.fillna("none")]).value
    assert accuracy["plain", "none"] > 0.85 and accuracy["rounded", "none"] > 0.8
    assert accuracy["plain", "fgsm"] < 0.3
    assert accuracy["rounded", "fgsm"] == accuracy["rounded", "none"], "a rounded input has no gradient"
    assert accuracy["rounded", "corners"] < accuracy["rounded", "fgsm"] - 0.1


def test_its_page_has_question_table_and_explorer_of_both_models(run):
    page = (run / "report.html").read_text()
    assert f"advbench recipe {EXAMPLES / 'own_study.py'} --preset quick" in page
    assert "only hide the gradient?" in page and "Accuracy under attack" in page
    assert '"plain": {"predicted"' in page and '"rounded": {"predicted"' in page


def test_the_notebook_runs_from_its_first_cell_to_its_last():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(EXAMPLES / "own_model.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "outputs are not kept in the repository"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    tables = [output.data["text/html"] for output in shown if "<table" in output.get("data", {}).get("text/html", "")]
    evaluated, images, compared = tables
    assert evaluated.count("PGD-20") == 2 and "robust accuracy" in evaluated and "CHECK FAILED" not in evaluated
    assert "FGSM" in images and "only_here" in compared
    assert not any("advbench" in output.get("text", "") for output in shown), "progress is shown and taken away again"
