"""Pure functions from predictions and scores to figures: a value, its n and its 95 % interval."""

from advbench.metrics.certified import certified_accuracy, certified_radius
from advbench.metrics.confidence import confidence, cross_entropy
from advbench.metrics.detection import auc, detectability, detection_figures, sr_at, true_positive_rate
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
    share,
)
from advbench.metrics.passes import Passes, counted
from advbench.metrics.robustness import attacked, robust_accuracy, still_correct
from advbench.metrics.rows import (
    above,
    by_seed,
    highest_row,
    lead,
    lowest,
    lowest_row,
    of_epochs,
    over_seeds,
    spread,
    where,
)

__all__ = [
    "COLUMNS",
    "Figure",
    "Passes",
    "above",
    "accuracy",
    "attacked",
    "auc",
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
    "highest_row",
    "lead",
    "lowest",
    "lowest_row",
    "mcnemar",
    "mean",
    "median",
    "of_epochs",
    "of_row",
    "over_seeds",
    "paired_difference",
    "percent",
    "proportion",
    "robust_accuracy",
    "share",
    "spread",
    "sr_at",
    "still_correct",
    "true_positive_rate",
    "where",
]
