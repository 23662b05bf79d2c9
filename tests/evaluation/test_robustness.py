import numpy as np

from advbench import attacks, evaluation


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
    clean, first, last = evaluation.still_correct(classifier, [attacks.create("fgsm", classifier, 0.1), recorder], x, y)
    assert np.array_equal(clean, classifier.predict(x).argmax(1) == y)
    assert recorder.sizes == [first.sum()] and clean.sum() > first.sum()
    assert not np.any(first & ~clean) and not np.any(last & ~first)


def test_nothing_left_is_nothing_to_attack(classifier, digits):
    x, y = digits[2][:8], (digits[3][:8] + 1) % 10
    wrong = classifier.predict(x).argmax(1) != y
    recorder = Recorder()
    list(evaluation.still_correct(classifier, [recorder], x[wrong], y[wrong]))
    assert recorder.sizes == []
