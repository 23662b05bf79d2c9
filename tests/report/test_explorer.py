import json
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from conftest import Thresholded
from PIL import Image

from advbench.report import Attacked, bundle, explorer


def tiles(picture, about):
    """The images of a sprite, cut out one by one."""
    c, h, w = about["shape"]
    grid = np.asarray(Image.open(BytesIO(picture)).convert("RGB" if c == 3 else "L")).reshape(
        -1, w * about["columns"], c
    )
    for i in range(len(about["labels"])):
        row, column = divmod(i, about["columns"])
        yield grid[row * h : (row + 1) * h, column * w : (column + 1) * w].transpose(2, 0, 1).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 4, 6), (3, 5, 4)])
@pytest.mark.parametrize("size", [1e-4, 0.3])
def test_images_and_perturbations_come_back_as_close_as_promised(shape, size):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (7, *shape)).astype(np.float32) / 255
    delta = rng.uniform(-size, size, x.shape).astype(np.float32)
    delta[3] = 0
    files = bundle(x, np.zeros(7, int), ["a", "b"], [Attacked("noise", size, x + delta, Thresholded())])
    about = json.loads(files["explorer.json"])
    for clean, want in zip(tiles(files["clean.webp"], about), x, strict=True):
        np.testing.assert_array_equal(clean, want * 255)
    (version,) = about["versions"]
    for stored, want, largest in zip(tiles(files["delta-0.webp"], about), delta, version["largest"], strict=True):
        assert (
            np.abs((stored - 128) / 4 * largest / about["levels"] - want).max() <= largest / 2 / about["levels"] + 1e-6
        )


def test_what_is_said_of_an_image_is_said_before_rounding():
    x = np.full((1, 1, 2, 2), 0.5, np.float32)
    attack = Attacked("a", None, x + np.float32(1e-5), Thresholded(), detector=Thresholded(), threshold=0.5 + 1e-6)
    (version,) = json.loads(bundle(x, np.array([0]), ["dark", "light"], [attack])["explorer.json"])["versions"]
    (probabilities,) = version["probabilities"]
    assert probabilities == pytest.approx([0.5, 0.5], abs=1e-3) and version["predicted"] == [1]
    assert version["flagged"] == {"clean": [False], "adversarial": [True]}


def test_fewer_images_are_taken_where_they_are_large(monkeypatch):
    monkeypatch.setattr(explorer, "BYTES", 20_000)
    x = np.random.default_rng(0).random((40, 3, 32, 32), dtype=np.float32)
    files = bundle(x, np.zeros(40, int), ["a", "b"], [Attacked("none", None, x[::-1].copy(), Thresholded())])
    kept = len(json.loads(files["explorer.json"])["labels"])
    assert 1 <= kept < 10
    assert sum(len(content) for name, content in files.items() if name.endswith("webp")) <= 20_000


@pytest.mark.parametrize("shape, attacks", [((2, 2, 4, 4), 1), ((2, 16), 1), ((2, 1, 4, 4), 0)])
def test_what_cannot_be_shown_is_refused(shape, attacks):
    x = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match="the explorer"):
        bundle(x, np.zeros(2, int), ["a"], [Attacked("a", None, x, Thresholded())] * attacks)


def test_the_page_embeds_what_is_in_the_directory(finished_run):
    read = explorer.read(finished_run)
    picture = b64decode(read["images"][0].removeprefix("data:image/webp;base64,"))
    assert picture == (finished_run / "explorer" / "clean.webp").read_bytes()
    assert len(read["images"]) == 1 + len(read["versions"]) == 4
    assert explorer.read(finished_run.parent) is None
