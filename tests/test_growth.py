"""A small part of what ``python tests/growth.py`` measures."""

import growth


def test_memory_does_not_grow_with_the_number_of_images():
    """36,000 images more are 110 MB as they are stored and 442 MB as float32."""
    few, many = growth.measure(4000), growth.measure(40_000)
    assert many["images"] == 10 * few["images"]
    assert many["peak_mib"] - few["peak_mib"] < 80
