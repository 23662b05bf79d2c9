"""How sure a classifier is of what it says: the five-row table of report 002."""

from __future__ import annotations

import numpy as np

from advbench.evaluation.figures import Figure, accuracy, mean, proportion


def confidence(logits: np.ndarray, y: np.ndarray) -> dict[str, Figure]:
    """Accuracy, error, and the mean largest softmax probability over all, the correct and the wrong images.

    :param logits: (N, classes).
    :param y: true labels (N,).
    :return: by the names accuracy, error, confidence, confidence_correct and confidence_wrong; NaN over no images.
    """
    shifted = np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True)
    largest = 1 / np.exp(shifted).sum(1)
    predicted = logits.argmax(1)
    wrong = predicted != y
    return {
        "accuracy": accuracy(predicted, y),
        "error": proportion(int(wrong.sum()), len(y)),
        "confidence": mean(largest),
        "confidence_correct": mean(largest[~wrong]),
        "confidence_wrong": mean(largest[wrong]),
    }
