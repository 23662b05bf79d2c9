"""The study on the detectors of a finished run on the embedded digits, and its verdicts from hand-made rows."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from tiny import settings

from advbench import estimators
from advbench.cli import main
from advbench.data import load
from advbench.metrics import COLUMNS
from advbench.recipes.detector_adaptive.claims import CLAIMS
from advbench.study.claims import judged
from advbench.study.schema import typed

DETECTORS = {
    "epochs": 12,
    "train_images": 600,
    "test_images": 30,
    "clean_images": 30,
    "detector_images": 48,
    "validation_images": 20,
    "detector_epochs": 2,
    "dynamic_epochs": 1,
    "sigmas": "[0]",
    "sigma_images": 8,
    "check_iterations": 1,
}
TINY = {
    "images": 12,
    "eps": "[1/255,64/255]",
    "steps": 8,
    "carlini_images": 4,
    "carlini_steps": 40,
    "carlini_adaptive_steps": 4,
    "carlini_searches": 1,
}


def arguments(recipe, fields, out):
    return ["recipe", recipe, "--dataset", "digits", "--device", "cpu", *settings(fields), "--out", str(out)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A finished run of detector-cifar."""
    out = tmp_path_factory.mktemp("runs") / "source"
    result = CliRunner().invoke(main, arguments("detector-cifar", DETECTORS, out))
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "adaptive"
    result = CliRunner().invoke(main, arguments("detector-adaptive", {**TINY, "source": source}, out))
    assert result.exit_code == 0, result.output
    return out


def test_classifier_and_detectors_are_those_of_the_source(source, run):
    for name in ("classifier", "detector-dynamic", "detector-fgsm-24-ad2-seed0"):
        kept = (source / "models" / f"{name}.safetensors").read_bytes()
        assert (run / "models" / f"{name}.safetensors").read_bytes() == kept


def test_every_attack_met_every_detector(rows):
    detectors = {("static", "fgsm"), ("static", "bim"), ("dynamic", "bim")}
    adaptive = rows[(rows.exhibit == "adaptive") & (rows.metric == "sr_at_5")]
    met = zip(adaptive.detector, adaptive.fit_attack, adaptive.attack, adaptive.eps.round(3), strict=True)
    assert set(met) == {
        (*detector, attack, eps)
        for detector in detectors
        for attack in ("selective-pgd", "orthogonal-pgd")
        for eps in (round(1 / 255, 3), round(64 / 255, 3))
    }
    carlini = rows[(rows.exhibit == "carlini") & (rows.metric == "sr_at_5")]
    limited = carlini[carlini.variant == "limited knowledge"]
    assert set(zip(limited.detector, limited.fit_attack, strict=True)) == detectors - {("dynamic", "bim")}
    assert len(carlini) == 8
    assert set(rows.target.dropna()) == {f"A{i}" for i in range(1, 7)}


def test_errors_are_those_of_the_model_itself_on_images_that_it_had_right(run, rows):
    classifier = estimators.load(run, device="cpu")
    clean = load("digits", "test", shape=(3, 16, 16)).images(slice(None))
    x = np.load(run / "arrays" / "selective-pgd-dynamic-1-images" / "x.npy")
    distance = np.abs(x[:, None] - clean.x[None]).max((2, 3, 4))
    assert (distance.min(1) <= 1.001 / 255).all()
    origin = distance.argmin(1)
    assert (classifier.predict(clean.x[origin]).argmax(1) == clean.y[origin]).all()
    wrong = classifier.predict(x).argmax(1) != clean.y[origin]
    row = rows[(rows.exhibit == "adaptive") & (rows.detector == "dynamic") & (rows.attack == "selective-pgd")]
    error = row[row.metric == "error"].set_index("eps").value
    assert error[1 / 255] == wrong.mean() and error[64 / 255] > 0


def test_a_lower_threshold_flags_more(rows):
    wide = rows[rows.exhibit.isin(["adaptive", "carlini"])].pivot_table(
        index=["exhibit", "detector", "fit_attack", "attack", "eps", "variant"],
        columns="metric",
        values="value",
        dropna=False,
    )
    wide = wide.dropna(subset=["error"])
    assert len(wide) == 20
    assert (wide.sr_at_50 <= wide.sr_at_28).all() and (wide.sr_at_28 <= wide.sr_at_5).all()
    assert (wide.sr_at_5 <= wide.error).all()


def test_another_data_set_or_recipe_as_source_is_one_line(source, run, tmp_path):
    for wrong, message in (
        (tmp_path, "is not a run directory"),
        (run, "recipe = detector-adaptive, needed is detector-cifar"),
    ):
        result = CliRunner().invoke(
            main, arguments("detector-adaptive", {**TINY, "source": wrong}, tmp_path / f"out-{wrong.name}")
        )
        assert result.exit_code == 2 and message in result.output
        assert "Traceback" not in result.output


def test_a_field_of_the_detectors_is_set_by_its_dotted_name(tmp_path):
    result = CliRunner().invoke(main, arguments("detector-adaptive", {"detectors.epoch": 3}, tmp_path / "out"))
    assert result.exit_code == 2 and "detectors.epochs" in result.output


def test_claims_take_the_strongest_attack_at_the_largest_eps():
    def row(attack, eps, value):
        common = {"exhibit": "adaptive", "metric": "sr_at_5", "detector": "dynamic", "fit_attack": "bim", "n": 100}
        return common | {"attack": attack, "eps": eps, "value": value}

    rows = [row("selective-pgd", 0.01, 0.99), row("selective-pgd", 0.03, 0.85), row("orthogonal-pgd", 0.03, 0.95)]
    table = typed(pd.DataFrame(rows).reindex(columns=COLUMNS))
    words = {verdict.target: (verdict.value, verdict.word) for verdict in judged(CLAIMS, table)}
    assert words["A4"] == (0.95, "holds")
    assert words["A3"][1] == words["A1"][1] == "not measured"
