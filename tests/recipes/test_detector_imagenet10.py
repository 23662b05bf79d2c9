"""The ImageNet part of report 001 on the embedded digits, read back and measured again from what the run kept."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from tiny import settings

from advbench import data, device, estimators, models
from advbench.cli import main
from advbench.data import Dataset, imagenet
from advbench.detectors import SubnetworkDetector
from advbench.errors import DataUnavailable, UsageError
from advbench.metrics import COLUMNS
from advbench.models import vgg16
from advbench.recipes.detector_cifar.adversaries import Adversary
from advbench.recipes.detector_imagenet10 import claims, materials, network
from advbench.study.claims import judged
from advbench.study.schema import typed

TINY = {
    "head_images": 60,
    "clean_images": 20,
    "test_images": 8,
    "train_images": 12,
    "validation_images": 4,
    "eps_bim_l2": "[400/255,800/255]",
    "deepfool_iterations": 4,
    "deepfool_candidates": 2,
    "detector_epochs": 1,
    "detector_batch": 8,
    "chance_seeds": 2,
}
ARGUMENTS = ["recipe", "detector-imagenet10", "--dataset", "digits", "--device", "cpu"]
ARGUMENTS += settings(TINY)
PIECE = 8
SCALE = 32 / 224
BOUNDS = {
    "fgsm-4": ("linf", 4 / 255),
    "bim-4": ("linf", 4 / 255),
    "bim-l2-400": ("l2", 400 / 255 * SCALE),
    "bim-l2-800": ("l2", 800 / 255 * SCALE),
    "deepfool-l2": ("linf", 6 / 255),
    "deepfool-linf": ("linf", 6 / 255),
}


@pytest.fixture(scope="module")
def asked():
    """How many images the recipe took from the data sets at a time."""
    return []


@pytest.fixture(scope="module")
def run(tmp_path_factory, asked):
    """An uninterrupted run, in pieces of eight images; all eight attacked test images are then kept themselves."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    images = Dataset.images

    def counted(self, part):
        asked.append(len(self.x[part]))
        return images(self, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(materials, "PIECE", PIECE)
        patch.setattr(Dataset, "images", counted)
        patch.setattr(device, "has_bfloat16", lambda _: False)  # float32 gradients can be computed again
        result = CliRunner().invoke(main, [*ARGUMENTS, "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def classifier(run):
    return estimators.load(run, device="cpu")


def kept(run, stage, name):
    return np.load(run / "arrays" / f"{stage}-0" / f"{name}.npy")


def test_no_more_than_a_piece_of_the_images_is_in_memory(run, asked):
    assert max(asked) == PIECE
    of_the_head, of_the_accuracy, of_clean_and_six_adversaries = 8, 3, 7 * (1 + 2 + 1)
    assert len(asked) == of_the_head + of_the_accuracy + of_clean_and_six_adversaries
    pieces = [len(np.load(path, mmap_mode="r")) for path in run.glob("arrays/fgsm-4-train-*/features.npy")]
    assert sorted(pieces) == [4, 8]


@pytest.mark.parametrize("label", BOUNDS)
def test_what_is_kept_of_an_adversary_is_what_the_classifier_makes_of_its_images(run, classifier, label):
    clean, adversarial = (kept(run, f"{name}-test", "pictures") for name in ("clean", label))
    assert adversarial.shape == (8, 3, 32, 32) and 0 <= adversarial.min() <= adversarial.max() <= 1
    with torch.no_grad():
        features = classifier.model.features(torch.from_numpy(adversarial), 4)
        predicted = classifier.model(torch.from_numpy(adversarial)).argmax(1)
    assert kept(run, f"{label}-test", "features").dtype == np.float16
    np.testing.assert_allclose(kept(run, f"{label}-test", "features"), features, rtol=2e-3, atol=1e-4)
    np.testing.assert_array_equal(kept(run, f"{label}-test", "predicted"), predicted)
    change = (adversarial - clean).reshape(8, -1)
    sizes = {"linf": np.abs(change).max(1), "l2": np.sqrt((change**2).sum(1))}
    for norm, size in sizes.items():
        np.testing.assert_allclose(kept(run, f"{label}-test", norm), size, rtol=1e-5)
    norm, bound = BOUNDS[label]
    assert sizes[norm].max() <= bound * (1 + 1e-4)


def test_fgsm_is_the_sign_of_the_gradient(run, classifier):
    x = torch.from_numpy(kept(run, "clean-test", "pictures")).requires_grad_(True)
    y = torch.tensor(labels_of(run))
    torch.nn.functional.cross_entropy(classifier.model(x), y, reduction="sum").backward()
    wanted = (x + 4 / 255 * x.grad.sign()).clamp(0, 1).detach().numpy()
    np.testing.assert_allclose(kept(run, "fgsm-4-test", "pictures"), wanted, atol=1e-6)


def labels_of(run):
    """The labels of the attacked test images, found by their pixels."""
    test = data.load("digits", "test", shape=(3, 32, 32))
    pictures = np.rint(kept(run, "clean-test", "pictures") * 255).astype(np.uint8)
    return [int(test.y[(test.x == picture).all(axis=(1, 2, 3))][0]) for picture in pictures]


def test_detectability_is_that_of_the_saved_detector_on_the_images(run, rows, classifier):
    cells = rows[rows.exhibit == "between adversaries"]
    assert len(cells) == 25
    clean = kept(run, "clean-test", "pictures")
    labels = dict(zip(claims.ATTACKS, ("fgsm-4", "bim-4", "bim-l2-800", "deepfool-l2", "deepfool-linf")))
    for fit in claims.ATTACKS:
        path = run / "models" / f"detector-{labels[fit]}-ad4-seed0.safetensors"
        detector = SubnetworkDetector.load(path, classifier)
        assert (detector.position, detector.architecture) == (4, "imagenet")
        for test in claims.ATTACKS:
            adversarial = kept(run, f"{labels[test]}-test", "pictures")
            wanted = ((detector.scores(clean) <= 0.5).mean() + (detector.scores(adversarial) > 0.5).mean()) / 2
            found = cells[(cells.fit_attack == fit) & (cells.attack == test)].value.item()
            assert found == pytest.approx(wanted), (fit, test)


def test_every_row_names_the_network_and_its_bounds(rows):
    measured = rows[rows.exhibit != "claims"]
    assert set(measured.model) == {"vgg16 with an eighth of the channels, drawn convolutions, new head, 32 px"}
    assert set(measured[measured.attack == "bim-l2"].eps.round(6)) == {
        round(eps / 255 * SCALE, 6) for eps in (400, 800)
    }
    assert set(rows.note) == {"digits instead of the report's imagenet10, by --dataset"}
    accuracy = measured[measured.exhibit == "clean accuracy"].set_index("metric").value
    assert accuracy["accuracy"] > 0.3, "chance is 0.1"
    assert list(measured[measured.exhibit == "chance"].train_seed) == [0, 1]
    assert set(measured[measured.exhibit == "chance"].reported) == {0.5}


def test_what_is_lost_is_computed_again_and_nothing_else(run, tmp_path, monkeypatch):
    monkeypatch.setattr(materials, "PIECE", PIECE)
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    lost = ["deepfool-linf-test-0", "detector-fgsm-4-ad4-seed0", "detection-fgsm-4", "between-adversaries"]
    for stage in lost:
        (copy / "stages" / f"{stage}.json").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in (copy / "stages").iterdir()}
    result = CliRunner().invoke(main, [*ARGUMENTS, "--out", str(copy)])
    assert result.exit_code == 0, result.output
    after = {path.name: path.stat().st_mtime_ns for path in (copy / "stages").iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {f"{stage}.json" for stage in lost}
    assert (copy / "results.csv").read_bytes() == (run / "results.csv").read_bytes()


def test_the_page_has_every_exhibit(run):
    found = {exhibit["name"]: exhibit for exhibit in json.loads((run / "exhibits.json").read_text())}
    transfer = ["between-adversaries", "between-adversaries-report"]
    assert list(found) == ["detection", "between-eps-bim-l2", *transfer, "chance", "pictures"]
    assert "rows: the one that it meets" in found["between-adversaries"]["caption"]
    page = (run / "report.html").read_text()
    assert "M10" in page and "Other data:" in page and len(page) < 5_000_000
    assert json.loads((run / "explorer" / "explorer.json").read_text())["versions"]


def cells(values):
    """The diagonal of the table as rows without an interval: the figure decides."""
    common = {"exhibit": "between adversaries", "metric": "detectability", "n": 100}
    return [{**common, "attack": attack, "fit_attack": attack, "value": value} for attack, value in values.items()]


def words(values):
    table = typed(pd.DataFrame(cells(values)).reindex(columns=COLUMNS))
    return [verdict.word for verdict in judged(claims.CLAIMS, table)]


def test_m10_wants_each_cell_of_the_diagonal_within_six_points():
    said = dict(zip(claims.ATTACKS, (0.89, 0.87, 0.90, 0.85, 0.91)))
    assert words(said) == ["holds"] * 5
    assert words({**said, "fgsm": 0.835, "bim": 0.925, "bim-l2": 0.83, "deepfool-l2": 0.92}) == [
        "holds",
        "holds",
        "missed",
        "missed",
        "holds",
    ]
    assert words({"fgsm": 0.9}) == ["holds", *["not measured"] * 4]


def test_the_reports_table_is_read_with_the_fitted_adversary_in_its_columns():
    """Only so do both DeepFool columns stay at 0.81 or more, and is the diagonal the largest of all rows but one."""
    assert claims.TRANSFER["bim-l2"]["fgsm"] == 0.63
    assert claims.TRANSFER["fgsm"]["bim-l2"] == 0.66
    assert claims.TRANSFER[["deepfool-l2", "deepfool-linf"]].min().min() == 0.81
    diagonal = np.diag(claims.TRANSFER)
    assert (diagonal >= claims.TRANSFER.max(axis=1)).sum() == 4


def test_a_row_has_the_reports_number_where_there_is_one(rows):
    moved = rows[rows.exhibit == "between adversaries"].set_index(["fit_attack", "attack"]).reported
    assert (moved["bim-l2", "fgsm"], moved["fgsm", "bim-l2"]) == (0.63, 0.66) and moved.notna().all()
    between = rows[rows.exhibit == "between eps"]
    weak = between.eps.min()
    at_chance = (between.fit_eps == weak) & (between.eps == weak)
    assert len(between) == 4 and between[at_chance].reported.item() == 0.5
    assert between[~at_chance].reported.isna().all()
    strong = Adversary("bim-l2", 1200 / 255)
    assert claims.BETWEEN_EPS[strong, claims.CHANCE] == 0.78 and (claims.CHANCE, strong) not in claims.BETWEEN_EPS


IMAGES = Dataset(
    "imagenet10", "train", np.zeros((1, 3, 32, 32), np.uint8), np.zeros(1, int), ("class",) * 10, imagenet.REPORT
)


@pytest.fixture
def thousand(monkeypatch):
    """VGG16 for all of ImageNet, with hidden layers of eight that make no large file."""
    monkeypatch.setattr(vgg16, "_HIDDEN", 8)
    spec = models.ModelSpec("vgg16", (3, 32, 32), 1000, *models.registry.IMAGENET)
    return models.create(spec, seed=1)


def test_of_published_weights_the_ten_logits_are_selected(thousand, tmp_path):
    save_file(thousand.published(head=True).state_dict(), tmp_path / "vgg16.safetensors")
    found, spec = network.published(str(tmp_path / "vgg16.safetensors"), IMAGES, 0)
    x = torch.rand(2, 3, 32, 32)
    palace_to_wall = [698, 613, 309, 149, 474, 662, 509, 979, 283, 825]
    with torch.no_grad():
        torch.testing.assert_close(found(x), thousand(x)[:, palace_to_wall])
    assert network.CALLED[spec.name] == "vgg16, ten logits selected"


def test_convolutions_alone_get_a_new_head_that_learns(thousand, tmp_path):
    save_file(thousand.published(head=False).state_dict(), tmp_path / "features.safetensors")
    found, spec = network.published(str(tmp_path / "features.safetensors"), IMAGES, 0)
    x = torch.rand(40, 3, 32, 32) * torch.linspace(0.1, 1, 10).repeat(4)[:, None, None, None]
    pooled, y = found.pooled(x).numpy(), np.tile(np.arange(10), 4)
    assert network.fit_head(found, pooled, y, 10) == 1
    with torch.no_grad():
        np.testing.assert_array_equal(found(x).argmax(1), y)
        torch.testing.assert_close(found.features(x, 5), thousand.features(x, 5))
    assert network.CALLED[spec.name] == "vgg16, new head"
    with pytest.raises(UsageError, match="class 9 of 10 has no image"):
        network.fit_head(found, pooled[:9], y[:9], 10)


def test_weights_of_another_network_are_one_line(thousand, tmp_path):
    other = tmp_path / "other.safetensors"
    for state, said in (
        (models.create("lenet").state_dict(), r"26 missing \(features\.0\.weight, .*unknown"),
        ({**thousand.published(True).state_dict(), "classifier.6.bias": torch.zeros(2)}, "classifier.6.bias"),
    ):
        save_file(state, other)
        with pytest.raises(UsageError, match=f"weights of another network than PublishedVGG16.*{said}") as caught:
            network.published(str(other), IMAGES, 0)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no weights at"):
        network.published(str(tmp_path / "missing"), IMAGES, 0)


def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch):
    from torchvision.models import VGG16_Weights

    def refuse(*_, **__):
        raise OSError("no route to host\nat all")

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", refuse)
    with pytest.raises(DataUnavailable, match=r"\(no route to host\); give a file with --weights") as caught:
        network.published(None, IMAGES, 0)
    assert "\n" not in str(caught.value)


def test_classes_and_weights_are_options_of_the_command(tmp_path):
    command = ["recipe", "detector-imagenet10", "--data-dir", str(tmp_path), "--classes", "n1,n2", "--weights", "1"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2 and "train is missing" in done.stderr
    done = CliRunner().invoke(main, ["recipe", "compare-defences", "--weights", "file"])
    assert done.exit_code == 2 and "no setting named 'weights'" in done.stderr
