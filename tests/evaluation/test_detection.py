"""Joint figures of a run's model and detector, at the command line."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from art.defences.detector.evasion import EvasionDetector
from click.testing import CliRunner
from sklearn.metrics import roc_auc_score, roc_curve

import advbench
from advbench import estimators, models
from advbench.cli import main
from advbench.detectors import SubnetworkDetector
from advbench.errors import UsageError
from advbench.evaluation import exhibits


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


class Bright(torch.nn.Module):
    """An image's mean as the score that it is adversarial."""

    def forward(self, x):
        return 10 * x.flatten(1).mean(1)


def brightness(x):
    return x.reshape(len(x), -1).mean(1)


class ByArt(EvasionDetector):
    """ART's contract, reporting in one of its ways."""

    def __init__(self, key):
        super().__init__()
        self.key = key

    def fit(self, x, y, batch_size=128, nb_epochs=20, **kwargs):
        """Nothing is learnt."""

    def detect(self, x, batch_size=128, **kwargs):
        score = brightness(x)
        report = {"predictions": np.stack([1 - score, score], 1), "scores": score}
        return {self.key: report[self.key]} if self.key else {}, score > 0.5


def rows_of(detector, digits, trained_net, n=40):
    data = digits[2][:n], digits[3][:n]
    result = advbench.evaluate(
        trained_net, data, eps=0.2, attacks="fgsm", checks=2, detector=detector, detector_steps=5
    )
    return result._rows[result._rows.exhibit.isin(["detector", "separation"])], result


@pytest.mark.parametrize("detector", [brightness, ByArt("scores"), ByArt("predictions"), ByArt(""), Bright()])
def test_any_detector_by_its_scores_has_the_fields_figures(detector, digits, trained_net):
    """On PGD's images, made again and judged by scikit-learn."""
    rows, result = rows_of(detector, digits, trained_net)
    known = isinstance(detector, Bright)
    wanted = ["PGD", "SelectivePGD", "OrthogonalPGD"] if known else ["PGD"]
    separation = rows[rows.exhibit == "separation"]
    assert list(separation.attack.unique()) == wanted
    arrays = result.directory / "arrays" / "detector-pgd-0.2"
    scores, wrong = np.load(arrays / "scores.npy"), np.load(arrays / "wrong.npy")
    clean = brightness(digits[2][1:40:2])
    clean = {"": clean > 0.5}.get(getattr(detector, "key", None), clean).astype(float)
    kinds = np.repeat([0, 1], [20, wrong.sum()])
    found = separation[separation.attack == "PGD"].set_index("metric").value
    both = np.concatenate([clean, scores[wrong] if not isinstance(detector, Bright) else scores[wrong] / 10])
    if getattr(detector, "key", None) == "predictions":  # the difference of both
        both[:20] = 2 * clean - 1
    assert found["auroc"] == pytest.approx(roc_auc_score(kinds, both), abs=1e-6)
    fpr, tpr, _ = roc_curve(kinds, both)
    assert found["fpr_at_95_tpr"] == pytest.approx(fpr[tpr >= 0.95].min())
    assert {"aupr", "tpr_at_1_fpr", "tpr_at_5_fpr"} <= set(found.index)
    page = (result.directory / "exhibits.json").read_text()
    assert ("NO ATTACK HERE KNOWS THE DETECTOR" in page) != known
    sentence = " ".join(each.text for each in exhibits.answer(result._rows))
    assert ("under attacks that know it" in sentence) == known


@pytest.mark.parametrize(
    "detector, said",
    [
        (lambda x: x, r"must return a finite score \(20,\) for 20 images, not an array \(20, 1, 8, 8\)"),
        (lambda x: np.full(len(x), np.nan), "not NaN or infinity"),
        (lambda x: 1 / 0, "fails: ZeroDivisionError: .*test_detection.py"),
        (3, "is no function from images to scores"),
        ("nowhere.py:score", "no file nowhere.py"),
    ],
)
def test_a_detector_that_does_not_fit_is_one_line(detector, said, digits, trained_net):
    with pytest.raises(UsageError, match=said) as error:
        rows_of(detector, digits, trained_net)
    assert "\n" not in str(error.value)
