"""Image files of every depth, size and direction; class folders in their order."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from advbench.data import find as images
from advbench.data import pictures
from advbench.errors import UsageError

RNG = np.random.default_rng(0)


def save(path, array, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array, mode).save(path, **options)
    return path


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bits_keep_their_values_and_are_named(tmp_path, ending):
    values = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    found, done = pictures.decode(save(tmp_path / f"a.{ending}", values), (1, 5, 7))
    assert found.dtype == np.float32 and done == [pictures.DEEP]
    np.testing.assert_allclose(found[0], values / 65535, atol=1e-6)
    colours, _ = pictures.decode(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(colours, np.repeat(found, 3, 0))


def deep_png(values):
    """A PNG of 16 bits a value (H, W, channels), which Pillow does not write."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_sixteen_bits_keep_their_values(tmp_path, channels):
    values = RNG.integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(deep_png(values))
    found, done = pictures.decode(tmp_path / "a.png", (3, 5, 7))
    colours = values[..., :3] if channels > 2 else values[..., :1]
    assert found.dtype == np.float32 and pictures.DEEP in done and (pictures.TRANSPARENT in done) == (channels != 3)
    np.testing.assert_allclose(found, np.broadcast_to(colours.transpose(2, 0, 1) / 65535, (3, 5, 7)), atol=1e-6)
    grey, _ = pictures.decode(tmp_path / "a.png", (1, 5, 7))
    theirs = Image.fromarray(np.broadcast_to(colours // 257, (5, 7, 3)).astype(np.uint8)).convert("L")
    np.testing.assert_allclose(grey[0], np.asarray(theirs) / 255, atol=1.5 / 255)
    assert pictures.decode(tmp_path / "a.png", (3, 3, 3))[0].shape == (3, 3, 3)


def test_colours_of_sixteen_bits_in_another_format_are_refused(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 2 1 65535\n" + bytes(range(12)))
    with pytest.raises(UsageError, match="a.ppm has colours of 16 bits a value, which cannot be read"):
        pictures.decode(tmp_path / "a.ppm")


@pytest.mark.parametrize(
    "values, ending",
    [(np.uint16(4095), "png"), (np.uint16(255), "pgm"), (np.uint8(1), "bmp"), (np.float32(0.0039), "tiff")],
)
def test_images_of_fewer_bits_than_their_format_are_refused(tmp_path, values, ending):
    save(tmp_path / "f" / "c" / f"a.{ending}", np.full((4, 4), values))
    with pytest.raises(UsageError, match="f holds images all but black, no value above"):
        images.find(str(tmp_path / "f"), (1, 4, 4))


def test_a_folder_has_one_channel_or_three(tmp_path):
    with pytest.raises(UsageError, match="have 1 channel or 3, and 4 are wanted"):
        images.find(labelled(tmp_path / "f", "ab"), (4, 4, 4))


def test_floats_keep_their_values_or_are_refused_with_advice(tmp_path):
    values = RNG.random((6, 4), np.float32)
    found, done = pictures.decode(save(tmp_path / "a.tiff", values), (1, 6, 4))
    np.testing.assert_array_equal(found[0], values)
    assert done == []
    for array, said in ((255 * values, "divide by 255"), (values - 0.5, "looks normalised"), (values * np.nan, "NaN")):
        with pytest.raises(UsageError, match=f"b.tiff must lie in .*{said}"):
            pictures.decode(save(tmp_path / "b.tiff", array))
    with pytest.raises(UsageError, match="c.tiff holds integers of 32 bits"):
        pictures.decode(save(tmp_path / "c.tiff", (values * 2**20).astype(np.int32)))


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_left_out_and_colours_stay(tmp_path, channels):
    values = RNG.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    found, done = pictures.decode(save(tmp_path / "a.png", values))
    np.testing.assert_array_equal(found, np.broadcast_to(values[..., :-1].transpose(2, 0, 1), (3, 5, 7)))
    assert done == [pictures.TRANSPARENT]


def test_of_several_frames_the_first_is_taken(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (7, 9)]
    for ending in ("tif", "gif", "webp", "png"):
        frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], lossless=True)
        found, done = pictures.decode(tmp_path / f"a.{ending}", (1, 4, 4))
        assert (found == 7).all() and done == [pictures.FRAMES]


def test_a_photo_is_turned_upright(tmp_path):
    values, exif = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8), Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    found, done = pictures.decode(save(tmp_path / "a.png", values, exif=exif))
    np.testing.assert_array_equal(found, np.rot90(values, -1).transpose(2, 0, 1))
    assert done == [pictures.TURNED]


def test_a_direction_that_exif_does_not_know_changes_nothing(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 9
    assert pictures.decode(save(tmp_path / "a.png", np.eye(4, dtype=np.uint8), exif=exif))[1] == []


@pytest.mark.parametrize("size", [(32, 64), (64, 32), (20, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_models_size_is_not_resampled(tmp_path, size, channels):
    values = RNG.integers(0, 256, (*size, 3)[: 2 + (channels == 3)], dtype=np.uint8)
    found, _ = pictures.decode(save(tmp_path / "a.bmp", values), (channels, *size))
    np.testing.assert_array_equal(found, values[None] if channels == 1 else values.transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(40, 70), (70, 40), (16, 16), (33, 47), (224, 300)])
@pytest.mark.parametrize("wanted", [(1, 32, 32), (3, 24, 24)])
def test_for_a_square_the_pixels_are_torchvisions(tmp_path, size, wanted):
    values = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    path = save(tmp_path / "f" / "c" / "a.png", values)
    steps = [v2.Resize(wanted[1]), v2.CenterCrop(wanted[1:]), v2.PILToTensor()]
    steps = [v2.Grayscale(), *steps] if wanted[0] == 1 else steps
    theirs = ImageFolder(str(tmp_path / "f"), v2.Compose(steps))[0][0].numpy()
    np.testing.assert_array_equal(pictures.decode(path, wanted)[0], theirs)


@pytest.mark.parametrize("size", [(30, 100), (100, 30), (41, 60), (15, 29)])
def test_for_another_shape_the_image_covers_it_and_keeps_its_proportions(tmp_path, size):
    """A ramp stays a ramp: its slope in the result is that of one factor for both directions."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    ramp = np.stack([rows, columns, 0 * rows], 2).astype(np.uint8)
    found, _ = pictures.decode(save(tmp_path / "a.png", ramp), (3, 20, 40))
    factor = max(20 / size[0], 40 / size[1])
    down, across = (np.polyfit(np.arange(n), line, 1)[0] for n, line in ((20, found[0][:, 20]), (40, found[1][10])))
    assert found.shape == (3, 20, 40)
    np.testing.assert_allclose([down, across], 1 / factor, rtol=0.1)


def labelled(folder, names):
    for value, name in enumerate(names):
        save(folder / name / "a.png", np.full((4, 4), 10 * value, np.uint8))
    return str(folder)


@pytest.mark.parametrize(
    "names, order, noted",
    [
        (("0", "1", "2", "10", "11"), ("0", "1", "2", "10", "11"), True),
        (("7", "21", "100"), ("7", "21", "100"), True),
        (("00", "01", "10"), ("00", "01", "10"), False),
        (("1", "10", "2b"), ("1", "10", "2b"), False),
        (("dog", "cat"), ("cat", "dog"), False),
    ],
)
def test_folders_named_by_numbers_are_taken_in_their_order(tmp_path, names, order, noted):
    found = images.find(labelled(tmp_path / "f", names), (1, 4, 4))
    values = (found.x[:][:, 0, 0, 0] * 25.5).round().astype(int)
    assert [names[value] for value in values] == list(order) and found.y.tolist() == [*range(len(names))]
    assert any("numeric order" in note for note in found.notes) == noted
    again = images.find(str(tmp_path / "f"), (1, 4, 4), labels=range(5, 5 + len(names)))
    assert again.y.tolist() == [*range(5, 5 + len(names))]


def test_what_was_done_to_files_is_counted(tmp_path):
    save(tmp_path / "f" / "c" / "a.png", np.zeros((4, 4, 4), np.uint8))
    save(tmp_path / "f" / "d" / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert images.find(str(tmp_path / "f")).notes == (f"1 of 2 images are {pictures.TRANSPARENT}",)
    save(tmp_path / "f" / "d" / "b.png", np.zeros((4, 4), np.uint16))
    with pytest.raises(UsageError, match="b.png and .*a.png differ in their bits a value"):
        images.find(str(tmp_path / "f"))


def test_links_to_folders_hidden_and_other_files_are_left_out_and_counted(tmp_path):
    folder = tmp_path / "f"
    labelled(folder, "ab")
    os.symlink("..", folder / "a" / "loop")
    hidden = (
        ".ipynb_checkpoints/c.png",
        "a/.ipynb_checkpoints/c.png",
        "a/__MACOSX/c.png",
        "b/.thumbnails/x/c.png",
        "__MACOSX/a/c.png",
        "@eaDir/c.png",
    )
    for name in ("a/below/c.png", *hidden):
        save(folder / name, np.full((4, 4), 20, np.uint8))
    for name in ("a/._c.png", "b/labels.txt", "b/c.heic", "b/d.heic"):
        (folder / name).write_bytes(b"x")
    found = images.find(str(folder))
    assert found.y.tolist() == [0, 0, 1]
    assert found.notes == ("left out of f: 2 x .heic, 1 x .txt, 1 x link to a folder",)
    os.symlink(".", folder / "c")
    with pytest.raises(UsageError, match="c is a link that leads back to"):
        images.find(str(folder))


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda path: os.mkfifo(path), "z.png is a pipe, socket or device"),
        (lambda path: os.symlink("/dev/zero", path), "z.png is a pipe, socket or device"),
        (lambda path: os.symlink("nowhere.png", path), "z.png cannot be read: No such file"),
        (lambda path: os.symlink("z.png", path), "z.png cannot be read: Too many levels"),
        (lambda path: os.symlink("a.png", path), "a.png and .*z.png are one file, which would count twice"),
        (lambda path: os.link(path.parent / "a.png", path), "a.png and .*z.png are one file"),
    ],
)
def test_what_is_no_image_of_its_own_is_named(tmp_path, make, said):
    labelled(tmp_path / "f", "ab")
    make(tmp_path / "f" / "b" / "z.png")
    with pytest.raises(UsageError, match=said):
        images.find(str(tmp_path / "f"))


def test_two_classes_that_are_one_folder_are_named(tmp_path):
    labelled(tmp_path / "f", "ab")
    os.symlink("b", tmp_path / "f" / "c")
    with pytest.raises(UsageError, match="b/a.png and .*c/a.png are one file"):
        images.find(str(tmp_path / "f"))
    save(tmp_path / "elsewhere" / "a.png", np.full((4, 4), 30, np.uint8))
    os.remove(tmp_path / "f" / "c")
    os.symlink("../elsewhere", tmp_path / "f" / "c")  # a class may lie on another disk
    assert images.find(str(tmp_path / "f")).y.tolist() == [0, 1, 2]


def test_the_splits_of_a_data_set_are_not_its_classes(tmp_path):
    labelled(tmp_path / "train", "ab")
    labelled(tmp_path / "val", "ab")
    with pytest.raises(UsageError, match="holds the splits of a data set; choose one, such as .*val"):
        images.find(str(tmp_path))


def test_a_file_with_a_wrong_checksum_is_named_even_where_its_pixels_can_be_read(tmp_path):
    save(tmp_path / "a.png", np.full((8, 8), 61, np.uint8))
    whole = (tmp_path / "a.png").read_bytes()
    for name, content in (
        ("cut.png", whole[:60]),
        ("flipped.png", whole[:-14] + bytes([whole[-14] ^ 1]) + whole[-13:]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=name):
            pictures.decode(tmp_path / name)


@pytest.mark.parametrize("outer", [("val",), ("fold1", "fold2")])
def test_classes_one_level_deeper_are_said_and_not_taken_for_one_class(tmp_path, outer):
    for folder in outer:
        for name in ("cat", "dog"):
            save(tmp_path / folder / name / "a.png", np.full((4, 4), 9, np.uint8))
    with pytest.raises(UsageError, match=rf"the classes \(cat, dog, ...\) lie one level deeper; give .*{outer[-1]}"):
        images.find(str(tmp_path), (1, 4, 4))
    assert images.find(str(tmp_path / outer[-1]), (1, 4, 4)).y.tolist() == [0, 1]


@pytest.mark.parametrize("inner", [("images",), ("train", "test"), ("front", "back")])
def test_folders_inside_of_classes_are_allowed(tmp_path, inner):
    """As for torchvision: one, splits, or others in each class."""
    for name, shift in (("cat", 0), ("dog", 1)):
        for part in (*inner, "own" if inner[-1] == "back" and shift else inner[0]):
            save(tmp_path / name / part / "a.png", np.full((4, 4), 9, np.uint8))
    assert set(images.find(str(tmp_path), (1, 4, 4)).y) == {0, 1}


def test_images_of_another_size_are_counted(tmp_path):
    for name, size in (("a", (4, 4)), ("b", (5, 4)), ("c", (8, 8))):
        save(tmp_path / "cat" / f"{name}.png", np.full(size, 9, np.uint8))
    (note,) = images.find(str(tmp_path), (1, 4, 4)).notes
    assert note.startswith("2 of 3 images are of another size than 4 x 4: scaled until they cover it")
