import numpy as np
import pytest

from advbench.evaluation.labels import warning

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 10, 300)


def skilled(y, accuracy=0.9, classes=10):
    return np.where(RNG.random(len(y)) < accuracy, y, RNG.integers(0, classes, len(y)))


@pytest.mark.parametrize("accuracy", [0.95, 0.6, 0.3])
def test_a_model_whose_labels_are_right_is_not_warned_of(accuracy):
    for _ in range(20):
        assert warning(skilled(Y, accuracy), Y, 10) == ""


def test_labels_in_another_order_are_named_with_the_mapping():
    for order in (np.arange(10)[::-1], np.roll(np.arange(10), 1), RNG.permutation(10)):
        said = warning(order[skilled(Y)], Y, 10, range(10))
        assert said.endswith(f"--labels {','.join(map(str, order))}") and "THE LABELS DO NOT MATCH" in said
    swapped = np.array([0, 1, 2, 3, 4, 6, 5, 7, 9, 8])  # far from chance, and still wrong
    said = warning(swapped[skilled(Y)], Y, 10)
    assert "CHANCE" not in said and "5 is output 6, 6 is output 5, 8 is output 9, 9 is output 8" in said


def test_folders_that_name_some_of_the_outputs_are_mapped_to_them():
    y = RNG.choice([3, 4, 5], 90)
    right = np.array([0, 0, 0, 217, 20, 482])
    assert warning(right[skilled(y, 0.9, 6)], y, 1000, [3, 4, 5]).endswith("--labels 217,20,482")


def test_a_model_that_guesses_is_said_to_be_at_chance_and_offered_no_mapping():
    said = [warning(RNG.integers(0, 10, 300), Y, 10) for _ in range(100)]
    assert sum(line.startswith("CLEAN ACCURACY IS") for line in said) >= 97
    assert not any(" is output " in line for line in said)
    assert "AT CHANCE LEVEL (50.0%)" in warning(RNG.integers(0, 2, 40), np.arange(40) % 2, 2)
    assert warning(np.zeros(4, int), np.arange(4), 4) == ""  # too few to tell
