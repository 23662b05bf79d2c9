"""Joint figures of a run's model and detector, at the command line."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from advbench import estimators, models
from advbench.cli import main
from advbench.detectors import SubnetworkDetector


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory):
    """A run's model and a detector that flags what is brighter than any clean image."""
    folder = tmp_path_factory.mktemp("detected")
    spec = models.ModelSpec("resnet32", (3, 8, 8), 10, (0.3,) * 3, (0.35,) * 3)
    module = models.create(spec, 0)
    models.save(folder / "run" / "models" / "classifier.safetensors", module, spec)
    classifier = estimators.load(folder / "run", device="cpu")
    x = np.repeat(digits[2][:40], 3, axis=1)
    SubnetworkDetector(classifier, 2).save(folder / "run" / "models" / "detector.safetensors")
    np.savez(folder / "digits.npz", x=x, y=classifier.predict(x).argmax(1))
    return folder


def evaluate(folder, *more):
    words = [
        "evaluate",
        f"{folder}/run",
        "--data",
        f"{folder}/digits.npz",
        "--eps",
        "1/255,32/255",
        "--attacks",
        "fgsm",
    ]
    return CliRunner().invoke(main, [*words, "--checks", "4", "--detector-steps", "5", *more])


def test_joint_figures_are_the_worst_case_over_attacks(folder, tmp_path):
    detector = f"{folder}/run/models/detector.safetensors"
    result = evaluate(folder, "--detector", detector, "--out", str(tmp_path / "out"), "--json")
    assert result.exit_code == 0, result.output
    rows = pd.DataFrame(json.loads(result.stdout)["rows"])
    joint = rows[rows.metric == "joint_accuracy"]
    assert list(joint.attack) == ["clean"] + ["PGD", "+ SelectivePGD", "+ OrthogonalPGD"] * 2
    assert set(joint.n) == {20}
    values = joint.value.to_numpy()
    assert values[0] == 1  # the model's own predictions are the labels
    assert (np.diff(values[1:4]) <= 0).all() and (np.diff(values[4:]) <= 0).all()
    failing = evaluate(
        folder, "--detector", detector, "--out", str(tmp_path / "out"), "--fail-under", "joint_accuracy=1"
    )
    assert failing.exit_code == (1 if values[-1] < 1 else 0)


def test_what_does_not_belong_together_is_one_line(folder, tmp_path):
    other = models.ModelSpec("resnet32", (3, 8, 8), 10, (0.3,) * 3, (0.35,) * 3)
    module = estimators.classifier(models.create(other, 1), (3, 8, 8), 10, device="cpu")
    SubnetworkDetector(module, 2).save(tmp_path / "other.safetensors")
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(192, 10))"
    )
    for arguments, message in (
        (["--detector", str(tmp_path / "other.safetensors")], "trained on another classifier"),
        (["--detector", str(tmp_path / "none")], "no detector at"),
        (["--fail-under", "joint_accuracy=0.5"], "needs a --detector"),
        (["--detector", f"{folder}/run/models/detector.safetensors", "--n", "39"], "needs at least 40 images"),
    ):
        result = evaluate(folder, *arguments, "--out", str(tmp_path / "out"))
        assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output
    words = ["evaluate", f"{tmp_path}/net.py:make", "--data", f"{folder}/digits.npz"]
    result = CliRunner().invoke(main, [*words, "--detector", f"{folder}/run/models/detector.safetensors"])
    assert result.exit_code == 2 and "model of that run" in result.output
