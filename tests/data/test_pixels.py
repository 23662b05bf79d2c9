from pathlib import Path

import numpy as np
import pytest
from conftest import memory, needs_proc

from advbench.data import pixels
from advbench.data.pixels import Pixels, fingerprint, room


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("part", [slice(1, 4), slice(None, None, 2), np.array([4, 0, 4]), slice(0, 0)])
def test_a_part_is_float32_in_0_to_1(dtype, part):
    values = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 5))
    kept = values.astype(np.uint8) if dtype == np.uint8 else (values / 255).astype(dtype)
    found = Pixels(kept)[part]
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, values[part] / 255, rtol=1e-6)


def test_parts_make_up_the_whole_and_none_is_larger_than_said(monkeypatch):
    images = Pixels(np.zeros((10, 3, 4, 4), np.uint8))
    for size, wanted in ((1, 10), (3 * 192, 4), (1 << 30, 1)):
        monkeypatch.setattr(pixels, "PART", size)
        parts = list(images.parts())
        assert len(parts) == wanted and np.concatenate([np.arange(10)[part] for part in parts]).tolist() == [*range(10)]
        assert min(images.most, 10) == parts[0].stop
        assert all(images[part].nbytes <= max(size, 192) for part in parts)


def test_the_fingerprint_is_that_of_the_content_however_it_is_kept(tmp_path, monkeypatch):
    x, y = np.arange(96, dtype=np.uint8).reshape(2, 3, 4, 4), np.array([0, 1])
    np.save(tmp_path / "x.npy", x)
    first = fingerprint(x, y)
    monkeypatch.setattr(pixels, "PART", 1)
    assert first == fingerprint(np.load(tmp_path / "x.npy", mmap_mode="r"), y)
    assert first != fingerprint(x, y + 1) and first != fingerprint(x[::-1], y)


@needs_proc
def test_what_is_large_lies_in_a_file_and_its_pages_are_given_back(monkeypatch):
    """300 MB are written and read, in order and here and there; the process never holds a third of them."""
    monkeypatch.setattr(pixels, "_IN_MEMORY", 1 << 20)
    kept = room((100_000, 3, 32, 32), np.uint8)
    images = Pixels(kept)

    def write():
        for start in range(0, len(kept), 5000):
            kept[start : start + 5000] = start // 5000
            pixels.let_go(kept)

    def read():
        for part in images.parts():
            assert images[part][0, 0, 0, 0] == np.float32(part.start // 5000 / 255)

    scattered = np.random.default_rng(0).permutation(len(kept))[:2000]
    for work in (write, read, lambda: images[scattered]):
        assert peak_of(work) < 100 << 20
    assert room((2, 3), np.float32).base is None


def peak_of(work):
    """By how many bytes this process grows at most meanwhile."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak from now on
    before = memory("VmHWM")
    work()
    return memory("VmHWM") - before


def test_no_room_is_an_error_and_not_a_crash():
    with pytest.raises((OSError, ValueError)):
        room((1 << 60, 3, 32, 32), np.uint8)
