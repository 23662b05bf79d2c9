"""The numbers of report 000 and its claims V-a to V-e."""

from __future__ import annotations

from functools import partial

import pandas as pd

from advbench.metrics import Figure, by_seed, difference, mean, over_seeds, where
from advbench.study import Claim, band

CLEAN = 0.8487
UNDEFENDED = {0.001: 0.7432, 0.005: 0.3701, 0.01: 0.1520, 0.05: 0.0535, 0.1: 0.0891}
DEFENDED = {0.001: 0.7886, 0.005: 0.7559, 0.01: 0.7142, 0.05: 0.4271, 0.1: 0.2813}
"""Accuracy on the FGSM images of the undefended network, by eps."""

STATIC = ("V1", "V2", "V3")
"""The readings of the defence that the report may have run."""

REPORTED: dict[tuple[str, str, float | None, str], float] = {
    ("vgg", "none", None, "accuracy"): CLEAN,
    ("vgg", "none", None, "loss"): 0.7658,
    ("vgg", "none", 0.005, "loss"): 3.771,
    ("vgg", "none", 0.01, "loss"): 6.874,
    **{("vgg", "none", eps, "accuracy"): accuracy for eps, accuracy in UNDEFENDED.items()},
    **{("vgg", name, eps, "accuracy"): accuracy for name in STATIC for eps, accuracy in DEFENDED.items()},
}
"""The report's table by (network, defence, eps, metric), for any reading of its defence."""


def transfer(rows: pd.DataFrame, defence: str, eps: float) -> pd.DataFrame:
    """The accuracies on the images of the undefended network, a row a seed."""
    return where(rows, exhibit="transfer", metric="accuracy", defence=defence, eps=eps)


def _column(rows: pd.DataFrame, defence: str) -> pd.DataFrame:
    """The same by seed (rows) and eps of the report (columns), for each eps that was measured."""
    column = pd.DataFrame({eps: by_seed(transfer(rows, defence, eps)) for eps in DEFENDED}, dtype=float)
    return column.dropna(axis=1, how="all")


def distances(rows: pd.DataFrame) -> pd.Series:
    """Mean absolute difference of each reading's transfer column, mean over the seeds, to the report's; nearest first."""
    gaps = {name: (_column(rows, name).mean() - pd.Series(DEFENDED)).abs().mean() for name in STATIC}
    return pd.Series(gaps).dropna().sort_values(kind="stable")


def best_reading(rows: pd.DataFrame) -> str:
    """The static reading whose transfer column is nearest to the report's; empty where none was trained."""
    return next(iter(distances(rows).index), "")


def clean(rows: pd.DataFrame) -> Figure:
    return over_seeds(where(rows, exhibit="clean", metric="accuracy", model="vgg", defence="none"))


def undefended(eps: float, rows: pd.DataFrame) -> Figure:
    return over_seeds(transfer(rows, "none", eps))


def defended(eps: float, rows: pd.DataFrame) -> Figure:
    return over_seeds(transfer(rows, best_reading(rows), eps))


def above_white_box(eps: float, rows: pd.DataFrame) -> Figure:
    """The transfer column minus the accuracy under PGD on the network itself, in the seeds that have both."""
    own = where(rows, exhibit="strong", attack="pgd", defence=best_reading(rows), eps=eps)
    moved = transfer(rows, best_reading(rows), eps)
    return difference(over_seeds(moved[moved.seed.isin(own.seed)]), over_seeds(own))


def lead(rows: pd.DataFrame) -> Figure:
    leads = _column(rows, best_reading(rows)) - _column(rows, "none")
    return mean(leads.min(axis=1).dropna().to_numpy(), unit="seeds")


def rise(rows: pd.DataFrame) -> Figure:
    steps = _column(rows, best_reading(rows)).diff(axis=1)
    return mean(steps.max(axis=1).dropna().to_numpy(), unit="seeds")


A = "The undefended network classifies 84.87 % of the clean test images correctly."
B = "FGSM lowers this to 74.32, 37.01, 15.20, 5.35 and 8.91 % at eps = 0.001, 0.005, 0.01, 0.05 and 0.1."
C = "The network trained on FGSM images keeps 78.86, 75.59, 71.42, 42.71 and 28.13 % at these eps."
D = "At every eps the defended network is better than the undefended one, and it loses accuracy as eps grows."
E = "Beyond the report: the defended network has far less accuracy under PGD on itself than on images made on another network."

UNDER_FGSM = "accuracy under FGSM-MSE, undefended"
MOVED = "accuracy on the standard network's images, nearest reading"
EXCESS = "transfer column minus accuracy under PGD on the network itself"

_ACCEPTED = {
    0.001: (0.7032, 0.7832),
    0.005: (0.2901, 0.4501),
    0.01: (0.092, 0.212),
    0.05: (None, 0.12),
    0.1: (None, 0.15),
}
_AROUND = {0.001: 0.05, 0.005: 0.05, 0.01: 0.05, 0.05: 0.12, 0.1: 0.12}

CLAIMS = [
    Claim("V-a", A, "clean accuracy, undefended", clean, CLEAN, (0.829, 0.869)),
    *(
        Claim("V-b", B, f"{UNDER_FGSM}, eps = {eps:g}", partial(undefended, eps), reported, _ACCEPTED[eps])
        for eps, reported in UNDEFENDED.items()
    ),
    *(
        Claim("V-c", C, f"{MOVED}, eps = {eps:g}", partial(defended, eps), reported, band(reported, _AROUND[eps]))
        for eps, reported in DEFENDED.items()
    ),
    Claim("V-d", D, "smallest lead of the defended over the undefended", lead, 0.0454, (0, None)),
    Claim("V-d", D, "largest rise of the defended from one eps to the next", rise, -0.0327, (None, 0)),
    *(
        Claim("V-e", E, f"{EXCESS}, eps = {eps:g}", partial(above_white_box, eps), accept=(0.1, None))
        for eps in (0.01, 0.05, 0.1)
    ),
]
