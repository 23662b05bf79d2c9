"""Do the labels mean the outputs of the model? A look at the clean predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from advbench.metrics import accuracy

_FEWEST = 10  # images from which on chance is told from skill
_DEVIATIONS = 2.5  # of the accuracy of a guess
_LISTED = 12  # labels in a sentence


def warning(predicted: np.ndarray, y: np.ndarray, classes: int, folders: Sequence[int] = ()) -> str:
    """A sentence if clean accuracy is at chance level, or another meaning of the labels fits better; empty otherwise.

    :param predicted: the outputs that are largest, (N,); ``y`` the labels.
    :param folders: the output of each class folder, where the images come from one.
    """
    if len(y) < _FEWEST:
        return ""
    given, chance = accuracy(predicted, y), 1 / classes
    deviation = (chance * (1 - chance) / len(y)) ** 0.5
    halves = slice(0, None, 2), slice(1, None, 2)
    chosen = _best(predicted[halves[0]], y[halves[0]], classes)  # on one half, and judged on the other
    other, same = (accuracy(predicted[halves[1]], labels[y[halves[1]]]) for labels in (chosen, np.arange(classes)))
    fits_better = other.ci_low > same.ci_high
    at_chance = given.value <= chance + _DEVIATIONS * deviation
    if not (at_chance or fits_better):
        return ""
    start = f"CLEAN ACCURACY IS {given.value:.1%}" + (f", AT CHANCE LEVEL ({chance:.1%})" if at_chance else "")
    if not fits_better:
        return f"{start}: the labels may not be the model's outputs, or its weights or preprocessing are not those of its training"
    best = _best(predicted, y, classes)
    if folders:
        way = f"--labels {','.join(str(best[label]) for label in folders)}"
    else:
        changed = [label for label in np.unique(y) if best[label] != label]
        pairs = ", ".join(f"{label} is output {best[label]}" for label in changed[:_LISTED])
        way = f"label {pairs}{', ...' if len(changed) > _LISTED else ''}"
    return f"{start}: THE LABELS DO NOT MATCH THE OUTPUTS OF THE MODEL. The mapping that fits best gives {other.value:.1%}: {way}"


def _best(predicted: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray:
    """The output for each label, every output once at most, with which most predictions are right; labels not seen stay."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (y, predicted), 1)
    counts = 2 * counts + np.eye(classes, dtype=np.int64)  # what makes no difference stays
    return linear_sum_assignment(counts, maximize=True)[1]
