"""The numbers of report 002 and its claims L1 to L7."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from advbench.metrics import Figure, by_seed, lead, mean, over_seeds, where
from advbench.study import Claim, band

NAMES = ("standard", "mixed", "adversarial")
DEFENDED = ("mixed", "adversarial")
METRICS = ("accuracy", "error", "confidence", "confidence_correct", "confidence_wrong")

_CONFIDENCE = {
    ("standard", None): (98.47, 1.53, 98.59, 99.04, 69.95),
    ("standard", "fgsm"): (3.36, 96.64, 93.82, 91.67, 93.89),
    ("mixed", None): (98.21, 1.79, 97.29, 97.85, 66.91),
    ("mixed", "fgsm"): (85.28, 14.72, 86.30, 89.07, 70.22),
    ("adversarial", None): (97.97, 2.03, 96.03, 96.69, 64.23),
    ("adversarial", "fgsm"): (77.80, 22.20, 79.05, 82.55, 66.79),
}
_TRANSFER = {
    ("standard", "standard"): (96.64, 93.89),
    ("standard", "adversarial"): (34.78, 75.79),
    ("standard", "mixed"): (19.75, 75.26),
    ("adversarial", "standard"): (8.85, 65.19),
    ("adversarial", "adversarial"): (22.20, 66.79),
    ("adversarial", "mixed"): (9.49, 64.49),
    ("mixed", "standard"): (7.71, 69.70),
    ("mixed", "adversarial"): (10.57, 68.05),
    ("mixed", "mixed"): (14.72, 70.22),
}

CONFIDENCE = {
    (*cell, metric): percent / 100
    for cell, percents in _CONFIDENCE.items()
    for metric, percent in zip(METRICS, percents, strict=True)
}
"""The five-row table by (network, attack, metric); 97.29 % as the author corrected it."""

TRANSFER = {
    (*cell, metric): percent / 100
    for cell, percents in _TRANSFER.items()
    for metric, percent in zip(("error", "confidence_wrong"), percents, strict=True)
}
"""The transfer tables by (network, network that the images were made on, metric), as the author corrected them."""

_PAIRS = [(name, source) for name in DEFENDED for source in NAMES if name != source]
"""A defended network, and another one on which the images were made."""

Read = Callable[[pd.DataFrame], pd.DataFrame]


def own(name: str, attack: str | None, metric: str) -> Read:
    """The rows of a network on clean images, or on the FGSM images made on itself."""
    return lambda rows: where(rows, exhibit="confidence", defence=name, attack=attack, metric=metric)


def moved(name: str, source: str) -> Read:
    """The errors of a network on the FGSM images made on another."""
    return lambda rows: where(rows, exhibit="transfer", defence=name, source=source, metric="error")


def figure(read: Read) -> Callable[[pd.DataFrame], Figure]:
    return lambda rows: over_seeds(read(rows))


def minus(first: Read, second: Read) -> Callable[[pd.DataFrame], Figure]:
    return lambda rows: lead(first(rows), second(rows))


def transferred(column: str) -> Callable[[pd.DataFrame], Figure]:
    """Of the errors of the defended networks on the images of others the ``lowest`` or the ``highest``, or the largest
    ``excess`` over their own; mean over the seeds, of one seed with the interval of its images."""

    def read(rows: pd.DataFrame) -> Figure:
        found = _errors(rows)[column]
        if len(found) != 1:
            return mean(found.to_numpy(), unit="seeds")
        errors = [(moved(*pair)(rows), moved(pair[0], pair[0])(rows)) for pair in _PAIRS]
        figures = [lead(*each) if column == "excess" else over_seeds(each[0]) for each in errors]
        return (min if column == "lowest" else max)(figures, key=lambda figure: figure.value)

    return read


def _errors(rows: pd.DataFrame) -> pd.DataFrame:
    """By seed."""
    errors = pd.DataFrame({pair: by_seed(moved(*pair)(rows)) for pair in _PAIRS})
    excess = pd.DataFrame({pair: errors[pair] - by_seed(moved(pair[0], pair[0])(rows)) for pair in _PAIRS})
    return pd.DataFrame({"lowest": errors.min(axis=1), "highest": errors.max(axis=1), "excess": excess.max(axis=1)})


def _surer(rows: pd.DataFrame) -> Figure:
    """Confidence on errors under FGSM: standard less the surer of the defended networks."""
    of = {name: own(name, "fgsm", "confidence_wrong")(rows) for name in NAMES}
    if all(len(table) == 1 for table in of.values()):
        return lead(of["standard"], max((of[name] for name in DEFENDED), key=lambda table: table.value.item()))
    sure = {name: by_seed(table) for name, table in of.items()}
    return mean((sure["standard"] - np.maximum(sure["mixed"], sure["adversarial"])).to_numpy(), unit="seeds")


L1 = "The networks err in 1.53 % (standard), 1.79 % (mixed) and 2.03 % (adversarial) of the clean test images."
L3 = "Training on FGSM images lowers the error under FGSM from 96.64 % to 14.72 % (mixed) and 22.20 % (adversarial)."
L4 = "Mixed training withstands FGSM best, then adversarial, then standard training; on clean images the order is reversed."
L5 = "A defended network errs in 7 to 11 % of the images made on another network, which is less than on its own."
L6 = "The images made on the adversarial network fool the standard one more often (34.78 %) than those of the mixed (19.75 %)."
UNDER, CLEAN = "accuracy under FGSM", "clean accuracy"

CLAIMS = [
    *(
        Claim("L1", L1, f"clean error, {name}", figure(own(name, None, "error")), reported, band(reported, 0.006))
        for name in NAMES
        for reported in [CONFIDENCE[name, None, "error"]]
    ),
    Claim(
        "L2",
        "FGSM at eps = 0.1 fools the standard network on 96.64 % of the test images.",
        "error under FGSM, standard",
        figure(own("standard", "fgsm", "error")),
        0.9664,
        (0.9, None),
    ),
    *(
        Claim("L3", L3, f"error under FGSM, {name}", figure(own(name, "fgsm", "error")), reported, band(reported, 0.05))
        for name in DEFENDED
        for reported in [CONFIDENCE[name, "fgsm", "error"]]
    ),
    # the clean order may be lost by two standard errors of a difference: of 1.5 % errors on 10,000 images
    *(
        Claim(
            "L4",
            L4,
            f"{metric}, {first} minus {second}",
            minus(own(first, attack, "accuracy"), own(second, attack, "accuracy")),
            round(CONFIDENCE[first, attack, "accuracy"] - CONFIDENCE[second, attack, "accuracy"], 4),
            (low, None),
        )
        for metric, attack, first, second, low in (
            (UNDER, "fgsm", "mixed", "adversarial", 0.0),
            (UNDER, "fgsm", "adversarial", "standard", 0.3),
            (CLEAN, None, "standard", "mixed", -0.003),
            (CLEAN, None, "mixed", "adversarial", -0.003),
        )
    ),
    *(
        Claim("L5", L5, measured, transferred(column), reported, accept)
        for measured, column, reported, accept in (
            ("lowest error of a defended network on another's FGSM images", "lowest", 0.0771, (0.04, None)),
            ("highest of these", "highest", 0.1057, (None, 0.15)),
            ("largest excess of these over the network's own white-box error", "excess", -0.0415, (None, 0.0)),
        )
    ),
    *(
        Claim(
            "L6",
            L6,
            f"error of standard on images from {name}",
            figure(moved("standard", name)),
            reported,
            band(reported, 0.1),
        )
        for name in DEFENDED
        for reported in [TRANSFER["standard", name, "error"]]
    ),
    Claim(
        "L6",
        L6,
        "error of standard, images from adversarial minus from mixed",
        minus(moved("standard", "adversarial"), moved("standard", "mixed")),
        0.1503,
        (0.0, None),
    ),
    Claim(
        "L7",
        "The standard network is surer of its errors under FGSM (93.89 %) than the defended ones (70.22 and 66.79 %).",
        "confidence on errors under FGSM, standard minus the surer of the defended",
        _surer,
        0.2367,
        (0.15, None),
    ),
]
