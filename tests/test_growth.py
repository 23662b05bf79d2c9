"""A small part of what ``python tests/growth.py`` measures."""

import growth
import pytest


@pytest.mark.parametrize("how", ["1", "2"])
def test_memory_does_not_grow_with_the_number_of_images(how):
    """36,000 images more are 110 MB as they are stored and 442 MB as float32."""
    few, many = growth.measure(4000, how), growth.measure(40_000, how)
    assert many["images"] == 10 * few["images"]
    assert many["peak_mib"] - few["peak_mib"] < 80
    assert how == "1" or many["worker_mib"] - few["worker_mib"] < 80
