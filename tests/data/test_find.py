import os

import numpy as np
import pytest
from PIL import Image

from advbench.data import find as images
from advbench.errors import UsageError

X = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture
def npz(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "set.npz", **arrays)
        return str(tmp_path / "set.npz")

    return write


@pytest.mark.parametrize(
    "x, note",
    [
        (X, None),
        (X.astype(np.float32) / 255, None),
        (X / 255, "was float64"),
        (X.transpose(0, 2, 3, 1), "was (N, H, W, C)"),
        (X[:, 0], "no channel axis"),
    ],
)
def test_images_arrive_as_float32_nchw_and_what_was_done_is_said(npz, x, note):
    found = images.find(npz(x=x, y=Y))
    wanted = X[:, :1] if x.ndim == 3 else X
    assert found.x[:].dtype == np.float32 and found.y.dtype == np.int64
    np.testing.assert_allclose(found.x[:], wanted / 255, atol=1e-6)
    assert len(found.notes) == (note is not None)
    assert all(note in said for said in found.notes)


@pytest.mark.parametrize(
    "arrays, said",
    [
        ({"x": X.astype(np.float32), "y": Y}, r"x must lie in \[0, 1\], found 0\.\.255; divide by 255"),
        ({"x": X.astype(np.float32) / 127.5 - 1, "y": Y}, "looks normalised.*--mean and --std"),
        ({"x": X.astype(np.float64) * 257, "y": Y}, r"found 0\.\.65535; divide by 65535"),
        ({"x": (X.astype(np.float32) - 3) * 1.02, "y": Y}, r"found -3.06\.\.257.04; divide by 255"),
        ({"x": X.astype(np.float32) - 120, "y": Y}, "looks normalised.*--mean and --std"),
        ({"x": X.astype(np.float32) / 250, "y": Y}, r"found 0\.\.1.02; clip it"),
        ({"x": X.astype(np.float32) / 255**2, "y": Y}, "divided by 255 twice"),
        ({"x": np.where(X.max() == X, np.inf, 0.5), "y": Y}, "holds NaN or infinity"),
        ({"x": X // 255, "y": Y}, "uint8 with no value above 1"),
        ({"x": X.astype(np.int64), "y": Y}, "x is int64"),
        ({"x": X * np.nan, "y": Y}, "x must lie in .*holds NaN"),
        ({"x": X[0, 0], "y": np.arange(8)}, r"found shape \(8, 8\)"),
        ({"x": X, "y": Y[:5]}, "y must hold 6 rows like x"),
        ({"x": X, "y": Y + 0.5}, "class indices from 0, found float64 such as 0.5"),
        ({"x": X, "y": np.array(list("abcdef"))}, "class indices from 0, found <U1 such as a"),
        ({"x": X, "y": Y - 1}, "class indices from 0, found int64 such as -1"),
        ({"x": X, "y": np.full(6, 2**63, np.uint64)}, "class indices from 0, found uint64 such as 9223372036854775808"),
        ({"x": X, "y": np.where(Y == 1, 1e300, Y)}, r"class indices from 0, found float64 such as 1e\+300"),
        ({"x": X, "y": np.where(Y == 1, np.nan, Y)}, "class indices from 0, found float64 such as nan"),
        ({"x": X.astype(np.float32) / 16, "y": Y}, r"found 0\.\.15.9375; divide by the largest value"),
        ({"images": X, "y": Y}, "must hold arrays x and y, found images, y"),
        ({"x": X, "y": np.array([None] * 6)}, "Python objects, which only a pickle can read: refused"),
    ],
)
def test_other_arrays_are_one_line_that_says_what_was_found(npz, arrays, said):
    with pytest.raises(UsageError, match=said):
        images.find(npz(**arrays))


@pytest.mark.parametrize("dtype, off", [(np.float32, 2e-7), (np.float64, 1e-9), (np.float16, 9e-4)])
def test_a_rounding_outside_of_the_range_is_clipped_and_said(npz, dtype, off):
    x = (X / 255).astype(dtype)
    x[0, 0, 0, :2] = 1 + off, -off / 4
    found = images.find(npz(x=x, y=Y))
    assert found.x[:].min() == 0 and found.x[:].max() == 1 and found.x[np.array([0])].max() == 1
    assert any("clipped to [0, 1]" in note for note in found.notes)


def test_options_that_the_data_cannot_use_are_refused(npz, folder, tmp_path):
    for source in (npz(x=X, y=Y), "digits"):
        with pytest.raises(UsageError, match="--labels names the output of each class folder; .* labels of its own"):
            images.find(source, labels=(2, 1, 0))
    for source in (npz(x=X, y=Y), str(folder)):
        with pytest.raises(UsageError, match="--data-dir is the folder of a named data set"):
            images.find(source, data_dir=tmp_path)


def test_one_hot_labels_are_taken_as_indices(npz):
    found = images.find(npz(x=X, y=np.eye(3)[Y]))
    np.testing.assert_array_equal(found.y, Y)
    assert found.notes == ("y was one-hot: taken as indices",)


def test_a_file_that_is_no_npz_is_named(tmp_path):
    (tmp_path / "page.npz").write_text("<html></html>")
    for name, said in (("page.npz", "cannot be read|pickle"), ("none.npz", "cannot be read: No such file")):
        with pytest.raises(UsageError, match=said):
            images.find(str(tmp_path / name))
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    for name in ("pipe.npz", "folder.npz"):
        with pytest.raises(UsageError, match=f"{name} is no file that holds arrays"):
            images.find(str(tmp_path / name))
    with pytest.raises(UsageError, match="did you mean 'cifar10'"):
        images.find("cifar")


def test_a_random_part_is_the_same_for_a_seed(npz):
    path = npz(x=X, y=Y)
    first, again, other = (images.find(path, n=3, seed=seed) for seed in (0, 0, 1))
    assert len(first.x) == 3 and first.fingerprint == again.fingerprint != other.fingerprint


@pytest.fixture
def folder(tmp_path):
    for name, value in (("cat", 10), ("dog", 200)):
        (tmp_path / name).mkdir()
        for i in range(2):
            pixels = np.zeros((12, 20, 3), np.uint8)
            pixels[:, 4:16] = value  # what a centre crop to 12 x 12 keeps
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_a_folder_is_decoded_cropped_to_the_centre_and_labelled(folder):
    found = images.find(str(folder), (3, 12, 12))
    assert found.x.shape == (4, 3, 12, 12) and found.classes == 2
    np.testing.assert_allclose(
        found.x[:].reshape(4, -1) * 255, np.repeat([[10], [200]], 2, 0) + np.zeros(432), atol=1e-4
    )
    assert images.find(str(folder), (1, 6, 6), (217, 3)).y.tolist() == [217, 217, 3, 3]
    assert "--labels names output 3 for more than one class folder" in images.find(str(folder), labels=(3, 3)).notes
    assert images.find(str(folder)).x.shape == (4, 3, 12, 20)


def test_a_folder_that_cannot_be_used_says_why(folder, tmp_path):
    with pytest.raises(UsageError, match="--labels must name 2 outputs"):
        images.find(str(folder), labels=(1, 2, 3))
    Image.new("RGB", (9, 9)).save(folder / "cat" / "2.png")
    with pytest.raises(UsageError, match="have several sizes .* give the model's with --shape"):
        images.find(str(folder))
    (folder / "dog" / "3.png").write_text("<html></html>")
    with pytest.raises(UsageError, match=r"dog.3\.png cannot be read as an image"):
        images.find(str(folder), (3, 8, 8))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="one class of images"):
        images.find(str(tmp_path))
    with pytest.raises(UsageError, match="one folder of images a class"):
        images.find(str(tmp_path / "empty"))


def test_digits_come_in_the_shape_of_the_model():
    found = images.find("digits", (1, 8, 8), n=10)
    assert found.x.shape == (10, 1, 8, 8) and found.classes == 10 and found.x[:].max() <= 1
