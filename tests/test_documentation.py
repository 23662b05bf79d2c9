"""What the documentation shows runs as it stands there."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from advbench.cli import main
from advbench.data import load
from advbench.study.registry import names

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("plugin") / "run"
    result = CliRunner().invoke(main, ["recipe", str(DOCS / "my_study.py"), "--device", "cpu", "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out


def test_the_attack_keeps_its_bound_and_the_defence_hides_the_gradient_only(run):
    x = load("digits", "test", shape=(1, 8, 8)).x.astype(np.float32) / 255
    for path in run.glob("arrays/*/x.npy"):
        adversarial = np.load(path)
        assert np.abs(adversarial - x).max() <= 0.2 + 1e-6 and 0 <= adversarial.min() <= adversarial.max() <= 1
    rows = pd.read_csv(run / "results.csv")
    accuracy = rows.set_index([rows.model, rows.attack.fillna("none")]).value
    assert accuracy["plain", "none"] > 0.85 and accuracy["rounded", "none"] > 0.8
    assert accuracy["plain", "fgsm"] < 0.3
    assert accuracy["rounded", "fgsm"] == accuracy["rounded", "none"], "a rounded input has no gradient"
    assert accuracy["rounded", "corners"] < accuracy["rounded", "fgsm"] - 0.1


def test_its_page_has_question_table_and_explorer_of_both_models(run):
    page = (run / "report.html").read_text()
    assert f"advbench recipe {DOCS / 'my_study.py'} --preset quick" in page
    assert "only hide the gradient?" in page and "Accuracy under attack" in page
    assert '"plain": {"predicted"' in page and '"rounded": {"predicted"' in page


def test_the_code_for_a_model_of_ones_own_runs(trained_net, digits, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", (DOCS / "own-model.md").read_text(), flags=re.S)
    exec(program, {"my_module": trained_net, "x": digits[2][:64], "y": digits[3][:64]})
    shares = [float(value) for value in re.findall(r"value=([\d.]+)", capsys.readouterr().out)]
    assert len(shares) == 5 and shares[0] > 0.85
    assert shares[-1] <= min(shares[:3]), "the worst case is not above any attack with a bound"


@pytest.mark.parametrize("page", [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.name)
def test_every_link_of_the_documentation_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_study_has_its_page():
    assert {path.stem for path in (DOCS / "recipes").glob("*.md")} == set(names())
    assert all(f"recipes/{name}.md" in (DOCS / "README.md").read_text() for name in names())
