"""Pure functions from predictions and scores to figures: a value, its n and its 95 % interval."""

from advbench.evaluation.detection import auc, detectability, true_positive_rate
from advbench.evaluation.figures import COLUMNS, Figure, accuracy, balanced, proportion

__all__ = [
    "COLUMNS",
    "Figure",
    "accuracy",
    "auc",
    "balanced",
    "detectability",
    "proportion",
    "true_positive_rate",
]
