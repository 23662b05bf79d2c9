"""Corruptions against the package that makes them and by hand; rotations against scipy, ART's and a model that knows the place."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import SHAPE
from PIL import Image
from scipy import ndimage
from torch import nn

import advbench
from advbench.errors import UsageError
from advbench.evaluation import corruptions, exhibits, gate
from advbench.evaluation.options import floors
from advbench.seeds import own_global_state


@pytest.fixture
def colours():
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    return np.random.default_rng(0).integers(0, 256, (3, 3, 32, 40)).astype(np.float32) / 255


@pytest.mark.parametrize("name", corruptions.NAMES)
def test_a_corruption_is_that_of_the_package(colours, name):
    from imagecorruptions import corruptions as package

    np.random.seed(5)
    ours = corruptions.corrupted(colours, name, 3)
    np.random.seed(5)
    for image, found in zip(colours, ours, strict=True):
        seed = {"seed": np.random.randint(2**31)} if name in ("impulse_noise", "glass_blur") else {}
        pixels = Image.fromarray(np.uint8(np.rint(image.transpose(1, 2, 0) * 255)))
        theirs = np.uint8(getattr(package, name)(pixels, 3, **seed))
        np.testing.assert_array_equal(np.rint(found * 255), theirs.transpose(2, 0, 1))


def test_the_names_are_the_fifteen_of_the_package_in_its_kinds():
    package = pytest.importorskip("imagecorruptions", exc_type=ImportError)
    for kind, names in corruptions.KINDS.items():
        assert list(names) == package.get_corruption_names(kind)
    assert list(corruptions.NAMES) == package.get_corruption_names("common") and len(corruptions.NAMES) == 15


@pytest.mark.parametrize("severity, more", [(1, 0.1), (3, 0.3), (5, 0.5)])
@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 32, 32)])
def test_brightness_adds_to_a_grey_image_of_any_size_what_the_paper_says(shape, severity, more):
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    x = np.broadcast_to(np.random.default_rng(1).random((2, 1, *shape[1:]), np.float32), (2, *shape)).copy()
    made = corruptions.corrupted(x, "brightness", severity)
    assert made.shape == x.shape and made.dtype == np.float32
    np.testing.assert_allclose(made, np.clip(x + more, 0, 1), atol=1.51 / 255)  # rounded to 8 bits, and cut off to 8


def test_contrast_draws_an_image_towards_its_mean_as_the_paper_says(colours):
    mean = colours.mean((2, 3), keepdims=True)
    np.testing.assert_allclose(
        corruptions.corrupted(colours, "contrast", 2), (colours - mean) * 0.3 + mean, atol=1.51 / 255
    )


def test_noise_of_a_small_grey_image_is_as_strong_as_in_the_paper():
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    with own_global_state(0):
        noise = corruptions.corrupted(np.full((200, 1, 8, 8), 0.5, np.float32), "gaussian_noise", 1) - 0.5
    assert noise.std() == pytest.approx(0.08, rel=0.05)


def evaluated(net, digits, **more):
    return advbench.evaluate(net, (digits[2][:30], digits[3][:30]), eps=0.05, attacks="fgsm", **more)


@pytest.fixture
def corrupted_run(trained_net, digits, one_check, tmp_path):
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    return evaluated(trained_net, digits, battery="corruptions", out=tmp_path / "run")


def test_each_corruption_and_severity_is_a_row_and_the_mean_is_theirs(corrupted_run, trained_net, digits):
    table = corrupted_run.corruptions
    assert len(table) == 75 and (table.n == 30).all()
    assert ((table.ci_low <= table.accuracy) & (table.accuracy <= table.ci_high)).all()
    whole = corrupted_run.table.loc[("none", "corruptions, mean")]
    assert whole.accuracy == pytest.approx(table.accuracy.mean()) and whole.ci_low < whole.accuracy < whole.ci_high
    with torch.no_grad():
        bright = np.clip(np.rint(digits[2][:30] * 255) / 255 + 0.1, 0, 1).astype(np.float32)
        right = (trained_net(torch.from_numpy(bright)).argmax(1).numpy() == digits[3][:30]).mean()
    assert table.accuracy["brightness", 1] == pytest.approx(right, abs=1.01 / 30)
    assert table.accuracy["gaussian_noise", 5] < corrupted_run.clean_accuracy.value


def test_the_page_the_answer_and_the_gate_have_it(corrupted_run):
    page = corrupted_run.page().read_text()
    assert "Under the corruptions of ImageNet-C" in page and "glass blur" in page
    rows = corrupted_run._rows
    (sentence, *_) = exhibits.answer(rows)
    assert "in the mean over the 15 corruptions of ImageNet-C" in sentence.text
    run = SimpleNamespace(results=lambda: rows)
    assert exhibits.figures(run)["mean_corruption_accuracy"] == pytest.approx(corrupted_run.corruptions.accuracy.mean())
    assert any(case.name == "corruptions, mean" for case in gate._figures(rows))
    assert floors(("mean_corruption_accuracy=0.4",)) == {"mean_corruption_accuracy": 0.4}


def test_it_goes_on_where_it_stopped_and_the_seed_decides(corrupted_run, trained_net, digits, monkeypatch):
    folder = corrupted_run.directory
    before = (folder / "results.csv").read_bytes()
    for gone in ("stages/corruptions.json", "stages/corruption-fog.json"):
        (folder / gone).unlink()
    made = []
    monkeypatch.setattr(
        corruptions,
        "corrupted",
        lambda x, name, *rest, of=corruptions.corrupted: (made.append(name), of(x, name, *rest))[1],
    )
    evaluated(trained_net, digits, battery="corruptions", out=folder)
    assert (folder / "results.csv").read_bytes() == before and set(made) == {"fog"}


def test_without_the_package_a_line_says_how_to_get_it(trained_net, digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(
        UsageError, match="needs a package that is not installed: python -m pip install 'imagecorruptions-imaug"
    ):
        evaluated(trained_net, digits, battery="corruptions")


def test_images_of_two_channels_have_no_corruptions():
    net = nn.Sequential(nn.Flatten(), nn.Linear(128, 4)).eval()
    x = np.random.default_rng(0).random((8, 2, 8, 8), np.float32)
    with pytest.raises(UsageError, match="images of one or three channels, not of 2"):
        advbench.evaluate(net, (x, np.zeros(8, int)), battery="corruptions", eps=0.05)


def test_a_battery_that_is_unknown_is_refused(trained_net, digits):
    with pytest.raises(UsageError, match=r"--battery must be 'corruptions' or 'rotations', not 'weather'"):
        evaluated(trained_net, digits, battery="weather")


@pytest.mark.parametrize("angle", [-30, 12, 30])
def test_a_rotation_is_that_of_scipy(angle):
    x = ndimage.gaussian_filter(np.random.default_rng(0).random((2, 1, 21, 21)), (0, 0, 2, 2)).astype(np.float32)
    theirs = ndimage.rotate(x, -angle, axes=(2, 3), reshape=False, order=1)
    inside = (..., slice(5, 16), slice(5, 16))  # at the edge of the image the libraries round differently
    np.testing.assert_allclose(corruptions.moved(x, angle, (0, 0))[inside], theirs[inside], atol=0.01)


def test_a_shift_moves_pixels_and_leaves_black_and_none_changes_nothing():
    x = np.random.default_rng(0).random((2, 3, 6, 8), np.float32)
    wanted = np.zeros_like(x)
    wanted[:, :, 1:, :-2] = x[:, :, :-1, 2:]
    np.testing.assert_allclose(corruptions.moved(x, 0, (-2, 1)), wanted, atol=1e-6)
    assert corruptions.moved(x, 0, (0, 0)) is x


class Corner(nn.Module):
    """Class 1 where the pixel in the middle is white: shifts move it away, and rotations do not."""

    def forward(self, x):
        self.seen = getattr(self, "seen", 0) + len(x)
        middle = x[:, 0, 4, 4] - 0.5
        return torch.stack([-middle, middle], 1)


def test_the_worst_place_of_each_image_counts(one_check):
    x = np.zeros((4, 1, 9, 9), np.float32)
    x[:2, 0, 4, 4] = 1  # one pixel: any shift moves it away
    x[2:, 0, 2:7, 2:7] = 1  # five: none does
    result = advbench.evaluate(Corner(), (x, np.ones(4, int)), battery="rotations", eps=1e-3, attacks="fgsm", checks=2)
    assert result.rotations.accuracy.to_dict() == {"rotations": 1, "shifts": 0.5, "rotations and shifts": 0.5}
    assert result.table.accuracy["none", "rotations and shifts"] == 0.5


def test_rotations_are_the_worst_case_over_the_whole_grid(trained_net, digits, one_check):
    result = evaluated(trained_net, digits, battery=["rotations"])
    x, y = digits[2][:30], digits[3][:30]

    def right(angle, place):
        with torch.no_grad():
            return trained_net(torch.from_numpy(corruptions.moved(x, angle, place))).argmax(1).numpy() == y

    shifts = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]  # 8 pixels: a tenth is one
    grid = {(angle, place): right(angle, place) for angle in np.linspace(-30, 30, 31) for place in shifts}
    rotations = np.all([each for (_, place), each in grid.items() if place == (0, 0)], axis=0)
    moves = np.all([each for (angle, _), each in grid.items() if angle == 0], axis=0)
    wanted = [rotations.mean(), moves.mean(), np.all(list(grid.values()), axis=0).mean()]
    np.testing.assert_allclose(result.rotations.accuracy, wanted)
    assert wanted[2] < wanted[1] <= result.clean_accuracy.value and x.shape[1:] == SHAPE
    assert "Turned and shifted" in (result.directory / "exhibits.json").read_text()
