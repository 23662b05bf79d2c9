"""How well a score separates clean from adversarial images (Metzen et al., 2017, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, sqrt

import numpy as np

from advbench.metrics.figures import Z95, Figure, balanced, proportion


def detectability(clean: np.ndarray, adversarial: np.ndarray, threshold: float = 0.5) -> Figure:
    """Detector accuracy on clean and adversarial images, either kind weighted one half; 0.5 is chance.

    :param clean: scores (N,) of clean images, those above the threshold are flagged.
    :param adversarial: scores (M,) of adversarial images.
    """
    return balanced(proportion(int((clean <= threshold).sum()), len(clean)), true_positive_rate(adversarial, threshold))


def true_positive_rate(adversarial: np.ndarray, threshold: float) -> Figure:
    """The share of adversarial scores (M,) above a threshold that was fixed on other, clean images."""
    return proportion(int((adversarial > threshold).sum()), len(adversarial))


def sr_at(wrong: np.ndarray, adversarial: np.ndarray, threshold: float) -> Figure:
    """SR@N of Bryniarski et al. (2021, section 5): the share of images that are misclassified and not flagged.

    :param wrong: bool (N,): whether the classifier is wrong on the adversarial image.
    :param adversarial: detector scores (N,) of the same images; those above the threshold are flagged.
    :param threshold: fixed on other, clean images, of which it flags N %.
    :raises ValueError: if the lengths differ.
    """
    if wrong.shape != adversarial.shape:
        raise ValueError(f"wrong has shape {wrong.shape}, adversarial {adversarial.shape}")
    return proportion(int((wrong & (adversarial <= threshold)).sum()), len(wrong))


def auc(clean: np.ndarray, adversarial: np.ndarray) -> Figure:
    """Area under the ROC curve, with the interval of Hanley & McNeil (1982, equation 2)."""
    from sklearn.metrics import roc_auc_score

    n0, n1 = len(clean), len(adversarial)
    if not n0 or not n1:
        return Figure(float("nan"), n0 + n1)
    a = float(roc_auc_score(np.repeat([0, 1], [n0, n1]), np.concatenate([clean, adversarial])))
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    error = sqrt(max(a * (1 - a) + (n1 - 1) * (q1 - a**2) + (n0 - 1) * (q2 - a**2), 0) / (n0 * n1))
    return Figure(a, n0 + n1, max(0.0, a - Z95 * error), min(1.0, a + Z95 * error))


def average_precision(clean: np.ndarray, adversarial: np.ndarray) -> Figure:
    """Area under the precision-recall curve (AUPR), adversarial images being the positives, as average precision.

    The logit interval is that of Boyd, Eng & Page (2013, section 3.2). Chance is the share of adversarial images.
    """
    from scipy.special import expit, logit
    from sklearn.metrics import average_precision_score

    n0, n1 = len(clean), len(adversarial)
    if not n1:
        return Figure(float("nan"), n0)
    a = float(average_precision_score(np.repeat([0, 1], [n0, n1]), np.concatenate([clean, adversarial])))
    if not 0 < a < 1:
        return Figure(a, n0 + n1)
    half = Z95 / sqrt(n1 * a * (1 - a))
    return Figure(a, n0 + n1, float(expit(logit(a) - half)), float(expit(logit(a) + half)))


def fpr_at_tpr(clean: np.ndarray, adversarial: np.ndarray, tpr: float = 0.95) -> Figure:
    """The share of clean images that are flagged by the highest threshold that flags at least a share of the adversarial ones.

    Scores at the threshold are flagged, so equal scores of both kinds count against the detector.
    """
    if not len(adversarial):
        return Figure(float("nan"), len(clean))
    wanted = ceil(tpr * len(adversarial) - 1e-9)
    threshold = np.sort(adversarial)[len(adversarial) - wanted]
    return proportion(int((clean >= threshold).sum()), len(clean))


def detection_figures(clean: np.ndarray, adversarial: np.ndarray, thresholds: Mapping[int, float]) -> dict[str, Figure]:
    """How well a detector tells clean from adversarial images.

    :param clean: scores (N,) of clean images.
    :param adversarial: scores (M,) of adversarial images.
    :param thresholds: each by the percentage of other, clean images that it flags.
    :return: ``detectability``, ``auc``, and the true-positive rate at each threshold, such as ``tpr_at_5_fpr``.
    """
    rates = {
        f"tpr_at_{percent}_fpr": true_positive_rate(adversarial, threshold) for percent, threshold in thresholds.items()
    }
    return {"detectability": detectability(clean, adversarial), "auc": auc(clean, adversarial), **rates}
