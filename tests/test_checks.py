import numpy as np
import pytest

from advbench import checks

X = np.full((2, 1, 4, 4), 0.5, np.float32)


@pytest.mark.parametrize(
    "x, said",
    [
        (X[0], "must have shape"),
        (X[:0], "must have shape"),
        (X * np.nan, r"must lie in \[0, 1\]"),
        (X * 255, r"found 127.5\.\.127.5"),
        (X - 1, r"must lie in \[0, 1\]"),
        ((X * 255).astype(np.uint8), "divide uint8 images by 255"),
    ],
)
def test_wrong_images_are_named(x, said):
    with pytest.raises(ValueError, match=f"^images .*{said}|^images {said}"):
        checks.images(x, "images")


def test_a_nan_among_good_pixels_is_found():
    x = X.copy()
    x[1, 0, 2, 3] = np.nan
    with pytest.raises(ValueError, match="^x must lie"):
        checks.images(x)


@pytest.mark.parametrize(
    "y, said",
    [
        ([0, 3], r"0\.\.2, found 0\.\.3"),
        ([-1, 0], "found -1"),
        ([0], "2 labels"),
        ([0.5, 1], "whole numbers, found float64 such as 0.5"),
        ([np.nan, 1], "whole"),
        (["cat", "dog"], "whole numbers, found <U3 such as cat"),
    ],
)
def test_wrong_labels_are_named(y, said):
    with pytest.raises(ValueError, match=f"^labels .*{said}"):
        checks.labels(np.array(y), 2, 3, "labels")


@pytest.mark.parametrize("y", [[True, False], [[1], [0]], [1.0, 0.0], np.array([1, 0], np.uint8)])
def test_indices_have_many_types(y):
    np.testing.assert_array_equal(checks.labels(np.array(y), 2, 3), [1, 0])


def test_one_hot_rows_are_labels():
    np.testing.assert_array_equal(checks.labels(np.eye(3)[[2, 0]], 2, 3), [2, 0])


@pytest.mark.parametrize("value", [-1, 0, np.nan, np.inf])
def test_a_number_that_is_not_positive_is_named(value):
    with pytest.raises(ValueError, match="^eps must be positive"):
        checks.positive(value, "eps")


@pytest.mark.parametrize("low, high", [(0, 1 + 2e-7), (-1e-6, 1), (-5e-4, 1.0009)])
def test_a_rounding_is_clipped_with_a_warning(low, high):
    x = X.copy()
    x[0, 0, 0, :2] = low, high
    with pytest.warns(UserWarning, match=r"^images lies in .*clipped to \[0, 1\]"):
        found = checks.images(x, "images")
    assert found.min() >= 0 and found.max() <= 1 and (found[1:] == 0.5).all()


@pytest.mark.parametrize(
    "low, high, said",
    [
        (0, 255, "divide by 255"),
        (-4, 260, "divide by 255"),
        (0, 4095, "divide by 4095"),
        (0, 1e9, "largest value that its type can have"),
        (-2.1, 2.6, "looks normalised"),
        (-124, 151, "looks normalised"),
        (0, 1.1, "clip it"),
        (np.nan, np.nan, "NaN"),
        (0, np.inf, "infinity"),
    ],
)
def test_the_advice_fits_the_range(low, high, said):
    line = checks.outside_unit("x", low, high)
    assert line.startswith("x must lie in [0, 1], found") and said in line
