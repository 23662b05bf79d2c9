"""How sure a classifier is of its predictions, and its loss."""

from __future__ import annotations

import numpy as np

from advbench.metrics.figures import Figure, accuracy, mean, proportion


def confidence(logits: np.ndarray, y: np.ndarray) -> dict[str, Figure]:
    """Accuracy, error, and the mean largest softmax probability over all, the correct and the wrong images (report 002).

    :param logits: (N, classes).
    :param y: true labels (N,).
    :return: by the names accuracy, error, confidence, confidence_correct and confidence_wrong; NaN over no images.
    """
    from scipy.special import softmax

    largest = softmax(np.asarray(logits, np.float64), axis=1).max(1)
    predicted = logits.argmax(1)
    wrong = predicted != y
    return {
        "accuracy": accuracy(predicted, y),
        "error": proportion(int(wrong.sum()), len(y)),
        "confidence": mean(largest),
        "confidence_correct": mean(largest[~wrong]),
        "confidence_wrong": mean(largest[wrong]),
    }


def cross_entropy(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The cross-entropy of each image (N,), in double precision.

    :param logits: (N, classes).
    :param y: true labels (N,).
    """
    from scipy.special import log_softmax

    return -log_softmax(np.asarray(logits, np.float64), axis=1)[np.arange(len(y)), y]
