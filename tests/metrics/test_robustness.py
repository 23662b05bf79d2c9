import numpy as np
import pytest

from advbench import attacks, metrics


class Recorder:
    """An attack that blackens what it is handed and remembers how much that was."""

    def __init__(self):
        self.sizes = []

    def generate(self, x, y):
        self.sizes.append(len(x))
        return np.zeros_like(x)


def test_an_image_that_was_beaten_is_not_attacked_again(classifier, digits):
    x, y = digits[2][:64], digits[3][:64]
    recorder = Recorder()
    clean, first, last = metrics.still_correct(classifier, [attacks.create("fgsm", classifier, 0.1), recorder], x, y)
    assert np.array_equal(clean, classifier.predict(x).argmax(1) == y)
    assert recorder.sizes == [first.sum()] and clean.sum() > first.sum()
    assert not np.any(first & ~clean) and not np.any(last & ~first)


def test_nothing_left_is_nothing_to_attack(classifier, digits):
    x, y = digits[2][:8], (digits[3][:8] + 1) % 10
    wrong = classifier.predict(x).argmax(1) != y
    recorder = Recorder()
    list(metrics.still_correct(classifier, [recorder], x[wrong], y[wrong]))
    assert recorder.sizes == []


class Reader:
    """A classifier that reads a tenth of the label off the first pixel."""

    nb_classes = 10

    def predict(self, x):
        return np.eye(10)[(10 * x[:, 0, 0, 0]).round().astype(int)]


class Spoiler:
    """An attack that beats the images with some labels, and checks that it is told the true ones."""

    def __init__(self, *beaten):
        self.beaten = beaten

    def generate(self, x, y):
        np.testing.assert_array_equal(x[:, 0, 0, 0], y / 10)
        return np.where(np.isin(y, self.beaten)[:, None, None, None], 0.9, x)


def test_the_masks_are_what_each_attack_left():
    x = np.array([0, 1, 2, 3, 4]).reshape(5, 1, 1, 1) / 10
    y = np.array([0, 1, 2, 3, 5])
    masks = metrics.still_correct(Reader(), [Spoiler(1), Spoiler(), Spoiler(0, 1, 3)], x, y)
    assert [mask.tolist() for mask in masks] == [
        [True, True, True, True, False],
        [True, False, True, True, False],
        [True, False, True, True, False],
        [False, False, True, False, False],
    ]


@pytest.mark.parametrize("factor, said", [(255, "divide by 255"), (-1, "looks normalised"), (np.nan, "NaN")])
def test_images_of_another_range_are_refused(classifier, digits, factor, said):
    with pytest.raises(ValueError, match=f"x must lie in .*{said}"):
        metrics.robust_accuracy(classifier, {}, digits[2][:4] * factor, digits[3][:4])
