"""advbench.evaluate: whatever a model and data may be, what the result holds, and two results image by image."""

import copy
import os
import re

import numpy as np
import pytest
import torch
from art.defences.preprocessor import SpatialSmoothing
from click.testing import CliRunner
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import advbench
from advbench import data, estimators
from advbench.cli import main
from advbench.errors import UsageError
from advbench.evaluation.options import number

EPS = (0.02, 0.1)
QUICK = {"attacks": "fgsm,deepfool-linf,pgd", "checks": 4}


@pytest.fixture(scope="module")
def images(digits):
    return digits[2][:96], digits[3][:96]


@pytest.fixture(scope="module")
def result(trained_net, images):
    return advbench.evaluate(trained_net, images, eps=EPS, keep_images=True, **QUICK)


def accuracies(result):
    return result.table.accuracy.tolist()


class Pictures(Dataset):
    """Pillow images, as torchvision's data sets give them without a transform."""

    def __init__(self, x, y):
        self.x, self.y = np.round(x * 255).astype(np.uint8), y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        from PIL import Image

        return Image.fromarray(self.x[i, 0]), int(self.y[i])


FORMS = {
    "tensors": lambda x, y: (torch.from_numpy(x), torch.from_numpy(y)),
    "one-hot, NHWC": lambda x, y: (x.transpose(0, 2, 3, 1), np.eye(10)[y]),
    "a data set": lambda x, y: TensorDataset(torch.from_numpy(x), torch.from_numpy(y)),
    "a list": lambda x, y: list(zip(x, y)),
    "a loader": lambda x, y: DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=40),
    "pictures": Pictures,
    "our data set": lambda x, y: data.Dataset(
        "mine", "test", np.round(x * 255).astype(np.uint8), y, tuple("0123456789")
    ),
    "our images": data.Images,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_figures_do_not_depend_on_the_form_of_the_data(trained_net, images, form):
    quick = {"eps": 0.05, "attacks": "fgsm", "checks": 2}
    found = advbench.evaluate(trained_net, FORMS[form](*images), **quick)
    assert found.clean_accuracy.n == 96
    assert accuracies(found) == accuracies(advbench.evaluate(trained_net, images, **quick))


def test_a_folder_an_archive_and_a_name_are_data_too(trained_net, images, tmp_path):
    np.savez(tmp_path / "digits.npz", x=images[0], y=images[1])
    quick = {"eps": 0.05, "attacks": "fgsm", "checks": 2}
    found = advbench.evaluate(trained_net, tmp_path / "digits.npz", **quick)
    assert accuracies(found) == accuracies(advbench.evaluate(trained_net, images, **quick))
    named = advbench.evaluate(trained_net, "digits", shape=(1, 8, 8), n=20, **quick)
    assert named.clean_accuracy.n == 20 and " of digits, " in repr(named)


def test_the_figures_do_not_depend_on_the_form_of_the_model(trained_net, images, result):
    ours = estimators.classifier(trained_net, (1, 8, 8), 10, device="cpu")
    theirs = estimators.stock(trained_net, (1, 8, 8), 10, "cpu")
    for model in (ours, theirs):
        assert accuracies(advbench.evaluate(model, images, eps=EPS, **QUICK)) == accuracies(result)


def test_the_preprocessing_of_an_art_classifier_is_part_of_the_model(trained_net, images):
    smoothing = SpatialSmoothing(window_size=3, channels_first=True, clip_values=(0, 1))
    model = estimators.stock(trained_net, (1, 8, 8), 10, "cpu", preprocessor=smoothing)
    found = advbench.evaluate(model, images, eps=0.02, attacks="fgsm", checks=2)
    plain = estimators.stock(trained_net, (1, 8, 8), 10, "cpu")
    smoothed, plainly = ((each.predict(images[0]).argmax(1) == images[1]).mean() for each in (model, plain))
    assert found.clean_accuracy.value == smoothed != plainly


def test_the_command_gives_the_same_figures(result, trained_net, images, tmp_path):
    torch.save(trained_net.state_dict(), tmp_path / "w.pt")
    np.savez(tmp_path / "digits.npz", x=images[0], y=images[1])
    (tmp_path / "net.py").write_text("from conftest import SmallNet as make\n")
    words = ["evaluate", f"{tmp_path}/net.py:make", "--weights", f"{tmp_path}/w.pt", "--data", f"{tmp_path}/digits.npz"]
    more = ["--eps", "0.02,0.1", "--attacks", QUICK["attacks"], "--checks", "4", "--keep-images"]
    done = CliRunner().invoke(main, [*words, *more, "--out", f"{tmp_path}/run"])
    assert done.exit_code == 0, done.output
    other = advbench.Result(tmp_path / "run")
    assert accuracies(other) == accuracies(result)
    np.testing.assert_array_equal(other.adversarial, result.adversarial)
    assert other.per_image.equals(result.per_image)


def test_a_model_is_given_back_as_it_was(trained_net, images):
    inner = copy.deepcopy(trained_net)
    net = nn.Sequential(inner, nn.Identity()).double()
    net.train()
    inner.eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    advbench.evaluate(net, images, eps=0.02, attacks="fgsm", checks=2)
    assert net.training and not inner.training
    for name, tensor in net.state_dict().items():
        assert tensor.dtype == before[name].dtype and torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_distance_is_never_above_the_smallest_eps_at_which_any_attack_beat_an_image(result):
    """And the other way round: an image within eps of an adversarial image counts as beaten at eps."""
    for eps in EPS:
        beaten = result.per_image[number(eps)].notna()
        assert (beaten == (result.per_image.distance <= eps)).all()
        assert result.robust_accuracy[eps].value == (~beaten).mean()
    assert (result.per_image["0.02"].notna() <= result.per_image["0.1"].notna()).all()


def test_every_adversarial_image_is_as_far_away_as_it_says_and_beats_the_model(result, images, classifier):
    x, y = images
    adversarial, distance = result.adversarial, result.per_image.distance.to_numpy()
    wrong = classifier.predict(np.array(adversarial)).argmax(1) != y
    assert (wrong == np.isfinite(distance)).all() and adversarial.min() >= 0 and adversarial.max() <= 1
    size = np.abs(adversarial - x).reshape(len(x), -1).max(1)
    np.testing.assert_allclose(size[wrong], distance[wrong], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(adversarial[~wrong], x[~wrong])
    clean = classifier.predict(x).argmax(1) == y
    assert (result.per_image["0.1"][~clean] == "clean").all() and (distance[~clean] == 0).all()


def test_images_are_kept_on_request_only(trained_net, images):
    found = advbench.evaluate(trained_net, images, eps=0.02, attacks="fgsm", checks=2)
    with pytest.raises(UsageError, match="keep_images=True"):
        _ = found.adversarial


def test_a_result_is_shown_as_a_table_and_says_which_checks_failed(trained_net, images, result):
    class Quantised(nn.Module):
        def forward(self, x):
            return trained_net(torch.round(x * 15) / 15)

    html = result._repr_html_()
    assert "CHECK FAILED" not in html and html.count("<tr") == 2 + len(result.table)
    masked = advbench.evaluate(Quantised(), images, eps=0.1, attacks="fgsm", checks=24)
    failed = [check.name for check in masked.checks if not check.passed]
    assert "gradients" in failed
    assert all(f"CHECK FAILED: {name}" in masked._repr_html_() and name in repr(masked) for name in failed)


def test_two_models_are_compared_image_by_image(trained_net, images, result):
    class Worse(nn.Module):
        """Wrong on images with a bright corner of its choice, right where the other is elsewhere."""

        def forward(self, x):
            flip = (x[:, 0, 0, 2] > 0.3)[:, None]
            return torch.where(flip, -trained_net(x), trained_net(x))

    other = advbench.evaluate(Worse(), images, eps=(0.1, 0.3), attacks="fgsm", checks=2)
    table = result.compare(other)
    assert table.index.tolist() == ["0", "0.1"]
    here, there = (each.per_image.distance.to_numpy() > 0 for each in (result, other))
    clean = table.loc["0"]
    assert (clean.only_here, clean.only_there) == ((here & ~there).sum(), (there & ~here).sum())
    assert clean.only_here > 5 and clean.p < 0.05 and clean.ci_low > 0
    mirrored = other.compare(result).loc["0"]
    np.testing.assert_allclose([mirrored.ci_low, mirrored.ci_high], [-clean.ci_high, -clean.ci_low])


@pytest.mark.parametrize(
    "change, said",
    [
        ({"data": lambda x, y: (x[:50], y[:50])}, "different images"),
        ({"norm": "l2", "eps": 0.1}, "different norms"),
        ({"eps": 0.3}, "no eps in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(trained_net, images, result, change, said):
    given = {"eps": 0.1, "attacks": "fast", "checks": 2, **change}
    other = advbench.evaluate(trained_net, given.pop("data", lambda x, y: (x, y))(*images), **given)
    with pytest.raises(UsageError, match=said):
        result.compare(other)


def test_half_precision_holds_images_of_few_grey_levels(trained_net, images):
    grey = np.round(images[0] * 4) / 4  # bfloat16 holds them, and NumPy has no bfloat16
    call = {"eps": 0.1, "attacks": "fgsm", "checks": 1}
    found = [
        advbench.evaluate(trained_net, (torch.from_numpy(grey).to(dtype), images[1]), **call)
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
    ]
    assert accuracies(found[0]) == accuracies(found[1]) == accuracies(found[2])


def test_a_saved_result_is_a_run_that_every_command_takes(result, tmp_path):
    saved = result.save(tmp_path / "kept")
    assert "Robust accuracy" in (saved / "report.html").read_text()
    assert "advbench.evaluate(SmallNet, (x, y), eps=[0.02, 0.1]" in (saved / "report.html").read_text()
    assert accuracies(advbench.Result(saved)) == accuracies(result)
    assert CliRunner().invoke(main, ["show", str(saved)]).exit_code == 0
    with pytest.raises(UsageError, match="is there already"):
        result.save(saved)
    with pytest.raises(UsageError, match="not the run directory of a finished evaluation"):
        advbench.Result(tmp_path)


def test_the_same_call_goes_on_in_its_directory(trained_net, images, tmp_path, caplog):
    quick = {"eps": 0.02, "attacks": "fgsm", "checks": 2, "out": tmp_path / "run"}
    first = advbench.evaluate(trained_net, images, **quick)
    with caplog.at_level("INFO", "advbench"):
        assert accuracies(advbench.evaluate(trained_net, images, **quick)) == accuracies(first)
    assert "fgsm-0.02: finished before" in caplog.messages
    with pytest.raises(UsageError, match="choose another --out"):
        advbench.evaluate(trained_net, images, **{**quick, "eps": 0.03})


def test_nothing_is_left_behind_where_nothing_was_asked_for(trained_net, images, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = advbench.evaluate(trained_net, images, eps=0.02, attacks="fgsm", checks=2)
    assert found.page().is_file() and list(tmp_path.iterdir())
    del found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("norm, named", [(np.inf, "linf"), ("Linf", "linf"), (2, "l2"), ("L2", "l2")])
def test_a_norm_is_written_as_in_other_libraries(norm, named):
    assert advbench.evaluation.Options.parse(model="m", data="d", norm=norm).norm == (named,)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"model": 3}, "model must be an nn.Module, an ART PyTorchClassifier or a name .*, not int"),
        ({"model": "net"}, "MODEL must be"),
        ({"data": np.zeros((2, 1, 8, 8))}, "data must be images and labels .*, not ndarray"),
        ({"data": {"x": np.zeros((2, 1, 8, 8))}}, "data must be images and labels .*, not dict"),
        ({"data": (np.zeros((2, 1, 8, 8)), [0])}, "data hold 2 images and 1 labels"),
        ({"data": (np.zeros((2, 1, 8, 8), int), [0, 1])}, "x is int64; save uint8"),
        ({"data": (np.full((2, 1, 8, 8), 200.0), [0, 1])}, "x must lie in .0, 1., .*; divide by 255"),
        ({"data": [np.zeros((1, 8, 8))]}, r"pairs \(image, label\), found ndarray"),
        ({"data": [(np.zeros((1, 8, 8)), 0, 5)]}, r"pairs \(image, label\), found tuple of 3"),
        ({"data": (np.zeros((2, 1, 8, 8)), [0, 1], [0, 1])}, r"must be \(images, labels\), found tuple of 3"),
        ({"data": (np.zeros((0, 1, 8, 8)), [])}, "x holds no image"),
        ({"data": [(np.zeros((1, 8, 8)), 0), (np.zeros((1, 9, 8)), 0)]}, "several sizes"),
        ({"data": []}, "data hold no image"),
        (
            {"data": (torch.eye(8).expand(2, 1, 8, 8).to_sparse(), [0, 1])},
            "data hold a tensor that is no array .*Sparse",
        ),
        ({"data": (torch.zeros(2, 1, 8, 8, device="meta"), [0, 1])}, "data hold a tensor that is no array .*no data"),
        ({"data": (np.ma.masked_array(np.zeros((2, 1, 8, 8)), True), [0, 1])}, "data hold masked values"),
        ({"weights": "w.pt"}, "--weights belongs to a model that is given by name"),
        ({"labels": [1, 2]}, "--labels names the output of each class folder"),
        ({"data_dir": "d"}, "--data-dir is the folder of a named data set"),
        ({"eps": 8}, "--eps 8: within it any image"),
        ({"eps": []}, "--eps: "),
        ({"norm": "l3"}, "--norm must be 'linf', 'l2'"),
        ({"shape": (1, 9, 9)}, "--shape 1,9,9: .* holds images of shape 1,8,8"),
        ({"norm": "l0", "eps": 0.5}, "--eps 0.5: in l0 it is a number of values"),
        ({"norm": "l1", "eps": 64}, "--eps 64: within it any image may become any other"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(trained_net, images, given, said):
    call = {"model": trained_net, "data": images, "attacks": "fgsm" if "norm" not in given else "fast", **given}
    with pytest.raises(UsageError) as error:
        advbench.evaluate(call.pop("model"), call.pop("data"), **call)
    assert re.search(said, str(error.value)) and "\n" not in str(error.value)


def test_a_model_that_changes_the_folder_is_refused_and_the_folder_is_changed_back(
    trained_net, images, tmp_path, monkeypatch
):
    class Wandering(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = trained_net

        def forward(self, x):
            os.chdir("/")
            return self.net(x)

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="changes the working directory; take os.chdir out of its forward"):
        advbench.evaluate(Wandering(), images, attacks="fgsm", out="run")
    assert os.getcwd() == str(tmp_path) and not list(tmp_path.iterdir())


def test_an_art_classifier_of_another_range_is_refused(trained_net, images):
    wide = estimators.stock(trained_net, (1, 8, 8), 10, "cpu", clip_values=(0, 255))
    with pytest.raises(UsageError, match=r"images in 0..255, needed are images in \[0, 1\]"):
        advbench.evaluate(wide, images)
