"""Folders of ten ImageNet classes: what is decoded, kept and refused."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from advbench import data, metrics
from advbench.cli import main
from advbench.data import imagenet, store
from advbench.data.find import find
from advbench.errors import DataUnavailable, UsageError
from advbench.report import write_report
from advbench.study import Config, Recipe, start

SHAPE = (3, 16, 16)


def picture(seed, size=(16, 16)):
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two images of each of the report's classes, lossless, 16 x 16; the seed of an image is its place in its split."""
    for part in ("train", "val"):
        for i, name in enumerate(sorted(imagenet.REPORT)):
            (tmp_path / part / name).mkdir(parents=True)
            for j in range(2):
                Image.fromarray(picture(2 * i + j)).save(tmp_path / part / name / f"{j}.png")
    return tmp_path


def load(folder, split="train", **options):
    return data.load("imagenet10", split, folder, **{"shape": SHAPE, **options})


def test_the_ids_are_those_of_torchvisions_logits():
    from torchvision.datasets import Imagenette
    from torchvision.models import VGG16_Weights

    categories = VGG16_Weights.IMAGENET1K_V1.meta["categories"]
    assert len(imagenet.wordnet_ids()) == len(categories) == 1000
    for wordnet_id, names in Imagenette._WNID_TO_CLASS.items():
        assert categories[imagenet.logits([wordnet_id])[0]] in names
    said = ["palace", "joystick", "bee", "dugong", "cardigan", "modem", "confectionery", "valley", "Persian cat"]
    assert [categories[i] for i in imagenet.logits(imagenet.REPORT)] == [*said, "stone wall"]


def test_images_are_decoded_once_and_mapped(folder, monkeypatch):
    first = load(folder)
    assert isinstance(first.x, np.memmap) and first.x.dtype == np.uint8 and first.x.shape == (20, *SHAPE)
    np.testing.assert_array_equal(first.x, [picture(i).transpose(2, 0, 1) for i in range(20)])
    np.testing.assert_array_equal(first.y, np.arange(20) // 2)
    assert first.classes[0] == "dugong" and first.note == "16 pixels wide instead of 224"
    monkeypatch.setattr(imagenet, "_image", lambda *_: pytest.fail("decoded again"))
    assert load(folder).fingerprint == first.fingerprint


def test_a_changed_folder_and_a_damaged_file_are_decoded_again(folder):
    first = load(folder)
    (folder / "train" / first.ids[0] / "1.png").unlink()
    assert len(load(folder)) == 19
    kept = next(path for path in (store.cache_dir() / "decoded").glob("*.uint8") if path.stat().st_size == 19 * 768)
    content = bytearray(kept.read_bytes())
    content[100] ^= 1
    kept.write_bytes(content)
    np.testing.assert_array_equal(load(folder).x[0], picture(0).transpose(2, 0, 1))


def test_images_of_any_size_and_mode_are_scaled_and_cropped_in_the_middle(folder):
    """A wide image, its outer thirds black, keeps only its middle, up to the filter's reach; a grey one gets three channels."""
    first = folder / "train" / sorted(imagenet.REPORT)[0]
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 200
    Image.fromarray(wide).save(first / "0.png")
    Image.fromarray(np.full((40, 40), 77, np.uint8)).save(first / "1.png")
    x = load(folder).x
    assert (x[0, :, :, 1:-1] == 200).all() and x[0].min() > 150 and (x[1] == 77).all()


def test_the_classes_are_chosen_and_ordered_by_their_ids(folder):
    for extra in ("n01440764", "n02102040"):
        for part in ("train", "val"):
            (folder / part / extra).mkdir()
            Image.fromarray(picture(99)).save(folder / part / extra / "a.jpg")
    with pytest.raises(UsageError, match="train holds 12 classes instead of 10; choose them with --classes"):
        load(folder)
    chosen = [*imagenet.REPORT[:9], "n01440764"]
    found = load(folder, classes=chosen)
    assert found.ids == tuple(chosen) and found.classes[0] == "palace" and found.classes[9] == "tench"
    palace = sorted(imagenet.REPORT).index("n03877845")
    np.testing.assert_array_equal(found.x[0], picture(2 * palace).transpose(2, 0, 1))
    assert "tench" in found.note and "instead of the report's ten" in found.note


def test_files_that_are_no_images_are_counted_and_named(folder):
    name = sorted(imagenet.REPORT)[3]
    (folder / "train" / name / "notes.jpg").write_text("no image")
    cut = folder / "train" / name / "cut.jpg"
    Image.fromarray(picture(1, (64, 64))).save(cut)
    cut.write_bytes(cut.read_bytes()[:300])
    found = load(folder)
    assert len(found) == 20 and found.unreadable == (f"train/{name}/cut.jpg", f"train/{name}/notes.jpg")
    line = "imagenet10 train: 2 of 22 files cannot be read and are left out: "
    assert found.left_out == f"{line}train/{name}/cut.jpg, train/{name}/notes.jpg" == load(folder).left_out
    assert load(folder, "test").left_out == ""
    done = CliRunner().invoke(main, ["data", "fetch", "imagenet10", "--data-dir", str(folder)])
    assert done.exit_code == 0 and line in done.stderr and "imagenet10 test: 20 images" in done.stdout
    (folder / "val" / name / "notes.jpg").write_text("no image")
    (note,) = find("imagenet10", SHAPE, data_dir=folder).notes
    assert note.startswith("imagenet10 test: 1 of 21 files cannot be read")


def empty(folder, name):
    for path in (folder / "train" / name).iterdir():
        path.unlink()


def only_text(folder, name):
    empty(folder, name)
    (folder / "train" / name / "a.jpg").write_text("no image")


MISTAKES = {
    "empty": (empty, "n02206856 holds no image (.jpg"),
    "only text": (only_text, "n02206856 holds no image that can be read"),
    "nine": (lambda folder, name: (empty(folder, name), (folder / "train" / name).rmdir()), "9 classes instead of 10"),
    "a name": (lambda folder, name: (folder / "train" / name).rename(folder / "train" / "bee"), "WordNet id"),
    "no val": (lambda folder, name: (folder / "val").rename(folder / "valid"), "val is missing"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_folder_that_is_not_ten_classes_is_one_line_on_the_command_line(folder, tmp_path, mistake):
    spoil, said = MISTAKES[mistake]
    spoil(folder, "n02206856")
    command = ["recipe", "detector-imagenet10", "--data-dir", str(folder), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2 and said in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "classes, said",
    [
        (["n00000001"] * 10, "no class n00000001"),
        (imagenet.REPORT[:3], "names 3 classes"),
        ([imagenet.REPORT[0]] * 10, "differ"),
    ],
)
def test_classes_that_cannot_be_had_are_named(folder, classes, said):
    with pytest.raises(UsageError, match=said):
        load(folder, classes=classes)


def test_a_killed_decoding_leaves_nothing_that_is_taken_for_whole(folder, monkeypatch):
    decode = imagenet._image

    def killed(path, shape):
        if path.parent.name == sorted(imagenet.REPORT)[5]:
            raise KeyboardInterrupt
        return decode(path, shape)

    with monkeypatch.context() as patch:
        patch.setattr(imagenet, "_image", killed)
        with pytest.raises(KeyboardInterrupt):
            load(folder)
    assert len(load(folder)) == 20


def test_imagenette_is_fetched_once_or_the_line_names_the_ways_out(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ADVBENCH_CACHE", str(tmp_path / "cache"))

    def fetch(source, scratch, split):
        return folder.rename(scratch / "imagenette2-320")

    def refuse(*_):
        raise OSError("no route to host")

    monkeypatch.setattr(store, "_official", refuse)
    with pytest.raises(DataUnavailable, match="no route to host. Ways out: --data-dir") as caught:
        data.load("imagenet10", "train", shape=SHAPE)
    assert "\n" not in str(caught.value)
    folder = (tmp_path / "fetched").absolute()
    folder.mkdir()
    for part in ("train", "val"):
        (tmp_path / part).rename(folder / part)
    monkeypatch.setattr(store, "_official", fetch)
    assert len(data.load("imagenet10", "train", shape=SHAPE)) == 20
    monkeypatch.setattr(store, "_official", refuse)
    assert len(data.load("imagenet10", "test", shape=SHAPE)) == 20


def test_a_run_goes_on_with_the_same_images_only_wherever_they_lie(folder, tmp_path):
    class Shape(Config):
        def data_options(self):
            return {"shape": SHAPE}

    def body(study):
        study.run.rows("count", lambda: [metrics.proportion(len(study.train), 20).row("read")])

    toy = Recipe("toy", "imagenet10", (3, 8, 8), {"quick": Shape()}, body)
    out = tmp_path / "run"
    (folder / "train" / imagenet.REPORT[0] / "torn.jpg").write_text("no image")
    run = start(toy, data_dir=folder, out=out, device="cpu")
    assert run.results().value.item() == 1 and run.config["note"] == "16 pixels wide instead of 224"
    assert "train: 1 of 21 files cannot be read" in (out / "log.txt").read_text()
    assert f"--data-dir {folder}" in write_report(out).read_text()
    moved = tmp_path / "moved"
    moved.mkdir()
    for part in ("train", "val"):
        (folder / part).rename(moved / part)
    start(toy, data_dir=moved, out=out, device="cpu")
    Image.fromarray(picture(77)).save(moved / "val" / imagenet.REPORT[0] / "0.png")
    with pytest.raises(UsageError, match="holds a run with fingerprint"):
        start(toy, data_dir=moved, out=out, device="cpu")


def test_what_is_kept_says_so(folder):
    load(folder)
    about = max((store.cache_dir() / "decoded").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    said = json.loads(about.read_text())
    assert said["shape"] == list(SHAPE) and said["unreadable"] == [] and len(said["labels"]) == 20


def test_an_image_of_16_bits_keeps_its_values(folder):
    """A ramp up to 65535, which Pillow's convert() clips at 255."""
    ramp = np.linspace(0, 65535, 256).reshape(16, 16)
    Image.fromarray(ramp.astype(np.uint16)).save(folder / "train" / sorted(imagenet.REPORT)[0] / "0.png")
    found = load(folder).x[0]
    np.testing.assert_allclose(found, np.broadcast_to(ramp / 257, found.shape), atol=0.51)
