"""The study end to end on the embedded digits, killed half-way, resumed, and read back as a user would."""

import json
import re
import signal
import subprocess
import sys
import time
from math import nan

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from tiny import settings

from advbench import estimators, report
from advbench.cli import main
from advbench.data import load
from advbench.detectors import SubnetworkDetector
from advbench.metrics import COLUMNS
from advbench.recipes.detector_cifar.claims import CLAIMS
from advbench.study.claims import judged
from advbench.study.schema import typed

TINY = {
    "epochs": 3,
    "train_images": 300,
    "test_images": 24,
    "detector_images": 32,
    "validation_images": 16,
    "detector_epochs": 2,
    "eps_fgsm": "[1/255,4/255]",
    "eps_bim": "[1/255,8/255]",
    "eps_bim_l2": "[40/255]",
    "depths": "[2,4]",
    "depth_seeds": 1,
    "dynamic_eps": "1/255",
    "dynamic_epochs": 2,
    "sigmas": "[0,1]",
    "sigma_images": 24,
    "check_iterations": 2,
    "min_successes": 1,
}
ARGUMENTS = ["recipe", "detector-cifar", "--dataset", "digits", "--device", "cpu"]
ARGUMENTS += settings(TINY)


def test_a_run_killed_while_it_trains_ends_the_same(run, tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "advbench", *ARGUMENTS, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=tmp_path)
    checkpoint = out / "checkpoints" / "classifier.safetensors"
    deadline = time.monotonic() + 180
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists() and not (out / "stages" / "classifier.json").exists()
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert (out / "results.csv").read_bytes() == (run / "results.csv").read_bytes()
    kept = (run / "models" / "classifier.safetensors").read_bytes()
    assert (out / "models" / "classifier.safetensors").read_bytes() == kept


def test_a_finished_run_is_not_computed_again(run):
    before = {path: path.stat().st_mtime_ns for path in (run / "stages").iterdir()}
    result = CliRunner().invoke(main, [*ARGUMENTS, "--out", str(run), "--json"])
    assert result.exit_code == 0
    assert before == {path: path.stat().st_mtime_ns for path in (run / "stages").iterdir()}
    assert len(json.loads(result.stdout)["rows"]) == len(pd.read_csv(run / "results.csv"))


def test_another_configuration_is_refused_in_the_same_directory(run):
    result = CliRunner().invoke(main, [*ARGUMENTS, "--out", str(run), "--seed", "5"])
    assert result.exit_code == 2 and "seed = 0, not 5" in result.output


def test_the_rows_say_what_they_are(run):
    rows = pd.read_csv(run / "results.csv")
    assert set(rows.dataset) == {"digits"} and rows.note.str.contains("instead of the report's cifar10").all()
    shares = rows[rows.metric.str.contains("accuracy|detectability|auc|tpr") & rows.target.isna()]
    assert shares.value.between(0, 1).all() and (shares.n > 0).all()
    assert ((shares.ci_low <= shares.value) & (shares.value <= shares.ci_high)).all()
    assert set(rows[rows.exhibit == "detection"].attack) == {"fgsm", "bim", "bim-l2", "deepfool-l2", "deepfool-linf"}
    transfer = {"between eps", "between adversaries"}
    dynamic = {"dynamic adversary", "finer steps"}
    assert set(rows.exhibit) == {"clean accuracy", "detection", "depth", *transfer, *dynamic, "claims"}
    finer = rows[rows.exhibit == "finer steps"]
    assert set(finer.attack) == {"dynamic"} and set(finer.steps) == {2} and set(finer.alpha * 255) == {0.25}
    assert set(rows.target.dropna()) == {f"M{i}" for i in range(1, 10)}


def test_adversaries_and_finer_steps_are_left_out_where_the_config_says_so(tmp_path):
    out = tmp_path / "bim"
    fewer = {**TINY, "eps_fgsm": "[]", "eps_bim": "[1/255]", "eps_bim_l2": "[]", "deepfool": "false", "depths": "[]"}
    arguments = ["recipe", "detector-cifar", "--dataset", "digits", "--device", "cpu", "--out", str(out)]
    result = CliRunner().invoke(main, [*arguments, *settings(fewer), "--set", "check_sigmas=[0.5]"])
    assert result.exit_code == 0, result.output
    rows = pd.read_csv(out / "results.csv")
    assert set(rows.attack.dropna()) == {"bim", "dynamic"}
    assert set(rows[rows.exhibit == "finer steps"].sigma) == {0.5}
    claims = rows[rows.target.notna()].set_index("target").value
    assert claims[["M2", "M3", "M4", "M5", "M6", "M7"]].isna().all() and claims["M1"] > 0


def test_a_config_without_an_adversary_is_refused(tmp_path):
    none = {"eps_fgsm": "[]", "eps_bim": "[]", "eps_bim_l2": "[]", "deepfool": "false"}
    result = CliRunner().invoke(main, ["recipe", "detector-cifar", "--out", str(tmp_path / "none"), *settings(none)])
    assert result.exit_code == 2 and "advbench: --set: no adversary is left: eps_fgsm" in result.output
    assert not (tmp_path / "none").exists()


def test_deepfool_brings_accuracy_to_zero_in_the_results(run):
    rows = pd.read_csv(run / "results.csv")
    under = rows[(rows.exhibit == "detection") & (rows.metric == "predictive_accuracy")].set_index("attack").value
    assert under["deepfool-l2"] == under["deepfool-linf"] == 0


def test_the_accuracy_in_the_results_is_that_of_the_kept_model(run):
    rows = pd.read_csv(run / "results.csv")
    test = load("digits", "test", shape=(3, 16, 16))
    predicted = estimators.load(run, device="cpu").predict(test.x.astype(np.float32) / 255).argmax(1)
    assert rows[rows.metric == "accuracy"].value.item() == pytest.approx((predicted == test.y).mean())


def test_a_kept_detector_belongs_to_the_kept_classifier(run):
    path = run / "models" / "detector-dynamic.safetensors"
    assert SubnetworkDetector.load(path, estimators.load(run, device="cpu")).position == 2


def test_the_page_stands_alone_and_says_that_the_data_are_others(run):
    path = report.write_report(run)
    page = path.read_text()
    outside_scripts = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:)""", outside_scripts)
    assert "Other data:" in page and "M9" in page and "vegaEmbed" in page
    assert path.stat().st_size < 5_000_000 and json.loads((run / "explorer" / "explorer.json").read_text())["versions"]
    assert "Other data" in CliRunner().invoke(main, ["show", str(run)]).output


def test_a_run_with_a_name_that_looks_like_html_is_escaped(run, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    config["note"] = "<img src=x onerror=alert(1)></script>"
    (copy / "config.json").write_text(json.dumps(config))
    assert "<img src=x" not in report.write_report(copy).read_text()


def test_charts_and_tables_are_there_for_every_exhibit(run):
    for exhibit in json.loads((run / "exhibits.json").read_text()):
        if "chart" in exhibit:
            svg = (run / exhibit["chart"]).with_suffix("").with_suffix(".svg").read_text()
            assert svg.startswith("<svg") and "NaN" not in svg
        assert exhibit["table"]["data"]


CLEAN = {"exhibit": "clean accuracy", "metric": "accuracy", "value": 0.915, "n": 1e4, "ci_low": 0.91, "ci_high": 0.92}


def words(rows):
    """The verdict on each part of each claim, from hand-made result rows."""
    table = typed(pd.DataFrame([CLEAN, *rows]).reindex(columns=COLUMNS))
    return [(verdict.target, verdict.word) for verdict in judged(CLAIMS, table)]


def fig5(detector, sigma, accuracy, balanced):
    """Rows without an interval: the figure decides."""
    common = {"exhibit": "dynamic adversary", "detector": detector, "sigma": sigma, "n": 100}
    yield {**common, "metric": "predictive_accuracy", "value": accuracy}
    if balanced is not None:
        yield {**common, "metric": "balanced_accuracy", "value": balanced}


def transfer(exhibit, fit, met, value):
    """One cell of figure 3 or 4 or of the depth study, by (attack, eps in pixel units) of fit and met."""
    (fit_attack, fit_eps), (attack, eps) = fit, met
    columns = {"fit_attack": fit_attack, "fit_eps": fit_eps / 255, "attack": attack, "eps": eps / 255}
    return {"exhibit": exhibit, "metric": "detectability", "value": value, "n": 100, **columns}


def test_the_verdicts_follow_the_claims_on_depth_and_transfer():
    small, large, fast = ("bim", 1), ("bim", 4), ("fgsm", 4)
    rows = [
        *({**transfer("depth", small, small, v), "position": k} for k, v in ((2, 0.9), (2, 0.8), (4, 0.855))),
        *(
            {**transfer("depth", ("deepfool-l2", nan), ("deepfool-l2", nan), v), "position": k}
            for k, v in ((2, 0.9), (4, 0.8))
        ),
        transfer("between eps", small, large, 0.9),
        transfer("between eps", large, small, 0.8),
        transfer("between eps", small, small, 0.1),
        transfer("between adversaries", small, fast, 0.7),
        transfer("between adversaries", fast, small, 0.68),
    ]
    assert words(rows)[3:7] == [("M4", "holds"), ("M5", "missed"), ("M6", "holds"), ("M7", "missed")]


def test_the_verdicts_follow_the_claims_on_figure_5():
    holds = [*fig5("static", 0.3, 0.1, 0.52), *fig5("static", 0.9, 0.8, None), *fig5("dynamic", 0.3, 0.4, 0.71)]
    assert words(holds)[0] == ("M1", "holds")
    assert words(holds)[-3:] == [("M8", "holds"), ("M9", "holds"), ("M9", "holds")]
    weak = [*fig5("static", 0.3, 0.1, 0.72), *fig5("dynamic", 0.3, 0.4, 0.60)]
    assert words(weak)[-3:] == [("M8", "missed"), ("M9", "missed"), ("M9", "missed")]
    neither = [*fig5("static", 0.3, 0.5, 0.7)]
    assert words(neither)[-3] == ("M8", "missed")
    only_where_accuracy_is_high = [*fig5("static", 0.3, 0.5, 0.52)]
    assert words(only_where_accuracy_is_high)[-3:] == [("M8", "missed"), ("M9", "not measured"), ("M9", "not measured")]


def fig2(attack, eps, accuracy, seen):
    common = {"exhibit": "detection", "attack": attack, "eps": eps, "n": 100}
    return [
        {**common, "metric": "predictive_accuracy", "value": accuracy},
        {**common, "metric": "detectability", "value": seen},
    ]


def test_the_verdicts_follow_the_claims_on_figure_2():
    others = fig2("bim-l2", 0.1, 0.2, 0.9) + fig2("deepfool-linf", None, 0.0, 0.95)
    rows = fig2("fgsm", 0.01, 0.5, 0.6) + fig2("bim", 0.01, 0.2, 0.82) + fig2("deepfool-l2", None, 0.0, 0.95) + others
    assert words(rows)[1:3] == [("M2", "holds"), ("M3", "holds")]
    rows = fig2("fgsm", 0.01, 0.5, 0.6) + fig2("bim", 0.01, 0.2, 0.75) + fig2("deepfool-l2", None, 0.05, 0.8) + others
    assert words(rows)[1:3] == [("M2", "missed"), ("M3", "missed")]
    assert words(rows[2:])[1:3] == [("M2", "not measured"), ("M3", "not measured")], "FGSM was left out"
    assert [word for _, word in words([])[1:]] == ["not measured"] * 9


def test_the_python_of_the_readme_runs(run):
    """Word for word, but for the names of the run and the data set and the number of images."""
    from pathlib import Path

    from advbench import models

    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (program,) = (
        each for each in re.findall(r"```python\n(.*?)```", readme, flags=re.S) if "SubnetworkDetector" in each
    )
    for text, here in (
        ("runs/small", str(run)),
        ('data.load("cifar10", "test")', 'data.load("digits", "test", shape=(3, 16, 16))'),
        ("slice(256)", "slice(8)"),
    ):
        assert text in program
        program = program.replace(text, here)
    names = {"my_module": models.create("resnet32")}
    exec(program, names)
    assert names["flagged"].shape == (8,)
    assert names["adaptive"].shape == names["adversarial"].shape == (8, 3, 16, 16)
    assert names["mine"].precision == "fast"
