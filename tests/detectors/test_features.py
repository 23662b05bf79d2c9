import tracemalloc

import numpy as np
import pytest

from advbench.detectors import FeatureFiles


@pytest.fixture
def whole(tmp_path):
    """Three files of 5, 1 and 4 rows, and all ten rows in one array."""
    whole = np.random.default_rng(0).standard_normal((10, 3, 2, 2)).astype(np.float16)
    for i, part in enumerate((whole[:5], whole[5:6], whole[6:])):
        np.save(tmp_path / f"{i}.npy", part)
    return whole


@pytest.fixture
def files(whole, tmp_path):
    return FeatureFiles([tmp_path / f"{i}.npy" for i in range(3)])


@pytest.mark.parametrize("rows", [range(10), [9, 0, 5, 5, 4, 6], [], [7]])
def test_rows_are_those_of_the_files_in_one(whole, files, rows):
    rows = np.array(rows, dtype=int)
    found = files[rows]
    assert len(files) == 10 and found.dtype == np.float16
    np.testing.assert_array_equal(found, whole[rows])


@pytest.mark.parametrize("row", [-1, 10])
def test_a_row_that_is_not_there_is_refused(files, row):
    with pytest.raises(IndexError, match=r"0\.\.9"):
        files[np.array([row])]
    with pytest.raises(ValueError, match="paths"):
        FeatureFiles([])


def test_memory_is_that_of_the_rows_asked_for(tmp_path):
    """4 MB in four files; a tenth of one is held while eight rows of each are read."""
    for i in range(4):
        np.save(tmp_path / f"{i}.npy", np.zeros((256, 32, 8, 8), np.float16))
    tracemalloc.start()
    files = FeatureFiles([tmp_path / f"{i}.npy" for i in range(4)])
    for start in range(0, 1024, 8):
        files[np.arange(start, 1024, 32)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 32 * 32 * 8 * 8 * 2
