"""Pure functions from predictions and scores to figures: a value, its n and its 95 % interval."""

from advbench.evaluation.certified import certified_accuracy, certified_radius
from advbench.evaluation.confidence import confidence
from advbench.evaluation.detection import auc, detectability, sr_at, true_positive_rate
from advbench.evaluation.figures import (
    COLUMNS,
    Figure,
    accuracy,
    balanced,
    difference,
    mean,
    median,
    over_seeds,
    proportion,
)
from advbench.evaluation.robustness import still_correct

__all__ = [
    "COLUMNS",
    "Figure",
    "accuracy",
    "auc",
    "balanced",
    "certified_accuracy",
    "certified_radius",
    "confidence",
    "detectability",
    "difference",
    "mean",
    "median",
    "over_seeds",
    "proportion",
    "sr_at",
    "still_correct",
    "true_positive_rate",
]
