"""Pure functions from predictions and scores to figures: a value, its n and its 95 % interval."""

from advbench.metrics.certified import certified_accuracy, certified_radius
from advbench.metrics.confidence import confidence, cross_entropy
from advbench.metrics.detection import (
    auc,
    average_precision,
    detectability,
    detection_figures,
    fpr_at_tpr,
    sr_at,
    true_positive_rate,
)
from advbench.metrics.figures import (
    COLUMNS,
    Figure,
    accuracy,
    balanced,
    difference,
    mcnemar,
    mean,
    median,
    of_row,
    paired_difference,
    percent,
    proportion,
)
from advbench.metrics.passes import OutOfPassesError, Passes, counted
from advbench.metrics.robustness import attacked, robust_accuracy, still_correct
from advbench.metrics.rows import above, by_seed, highest_row, lead, lowest, lowest_row, over_seeds, spread, where

__all__ = [
    "COLUMNS",
    "Figure",
    "OutOfPassesError",
    "Passes",
    "above",
    "accuracy",
    "attacked",
    "auc",
    "average_precision",
    "balanced",
    "by_seed",
    "certified_accuracy",
    "certified_radius",
    "confidence",
    "counted",
    "cross_entropy",
    "detectability",
    "detection_figures",
    "difference",
    "fpr_at_tpr",
    "highest_row",
    "lead",
    "lowest",
    "lowest_row",
    "mcnemar",
    "mean",
    "median",
    "of_row",
    "over_seeds",
    "paired_difference",
    "percent",
    "proportion",
    "robust_accuracy",
    "spread",
    "sr_at",
    "still_correct",
    "true_positive_rate",
    "where",
]
