"""The numbers of report 003 and its claims G1 to G6."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

from advbench.metrics import Figure, by_seed, difference, mean, over_seeds, where
from advbench.study import Claim

CLEAN = 0.628

UNDEFENDED = {"fgsm": {0.001: 0.564, 0.01: 0.201, 0.1: 0.001}, "pga": {0.001: 0.564, 0.01: 0.126, 0.1: 0.0}}
"""The accuracy of the undefended network by attack and eps."""

TARGETED = {"fgsm": {0.001: 0.08, 0.01: 0.23, 0.1: 0.59}, "pgd": {0.001: 0.08, 0.01: 0.33, 0.1: 1.0}}
"""The share called deer by attack and eps; the report does not state of which images."""

NATURAL = {0.001: 0.623, 0.01: 0.540, 0.1: 0.249}
PERTURBED = {0.001: 0.601, 0.01: 0.818, 0.1: 0.960}
"""The accuracies of a network trained on FGSM images alone, by the eps of training and attack."""

REPORTED = (pd.Series(NATURAL), pd.Series(PERTURBED))

FIXED = "made on the undefended network"

DEFENCE: dict[tuple[str, float, float, str | None], float] = {
    ("standard", 1, 0.01, None): CLEAN,
    ("standard", 1, 0.01, "true label"): UNDEFENDED["fgsm"][0.01],
    **{(kind, 0, eps, None): accuracy for kind in ("fgsm", "fixed") for eps, accuracy in NATURAL.items()},
    **{("fgsm", 0, eps, "true label"): accuracy for eps, accuracy in PERTURBED.items()},
    **{("fixed", 0, eps, FIXED): accuracy for eps, accuracy in PERTURBED.items()},
}
"""The same, and those of the undefended network, by kind of loss, alpha, eps and the label that FGSM is given.

The report does not state whether the images are made once, on the undefended network, or on the current weights.
"""

Read = Callable[[pd.DataFrame], pd.DataFrame]


def cell(**columns: Any) -> Read:
    """The rows of one figure, a row a seed."""
    return lambda rows: where(rows, **columns)


undefended = partial(cell, exhibit="undefended", variant=None)
targeted = partial(cell, exhibit="targeted", variant="all")

LEAKING = {"fgsm": "true label", "fixed": FIXED}
"""How the training images of each reading of the report's defence are made: the variant of the test images made alike."""


def distances(rows: pd.DataFrame) -> pd.Series:
    """Mean absolute difference of each reading's accuracies, clean and perturbed, to the report's; nearest first."""
    gaps = {}
    for kind, variant in LEAKING.items():
        part = where(rows, exhibit="defence", defence=kind, alpha=0.0)
        ours = [where(part, attack=None), where(part, variant=variant)]
        means = pd.concat([each.groupby("eps").value.mean() - reported for each, reported in zip(ours, REPORTED)])
        gaps[kind] = means.abs().mean()
    return pd.Series(gaps, dtype=float).dropna().sort_values(kind="stable")


def best_reading(rows: pd.DataFrame) -> dict[str, Any]:
    """The columns of the reading that is nearest to the report; by default that of current weights."""
    return {"defence": next(iter(distances(rows).index), "fgsm"), "alpha": 0.0}


def alone(**columns: Any) -> Read:
    """The rows of one figure of the networks trained on FGSM images alone, in the nearest reading."""
    return lambda rows: where(rows, **best_reading(rows), **columns)


def perturbed(eps: float, rows: pd.DataFrame) -> pd.DataFrame:
    """The accuracy on images that were made like the training images, in the nearest reading."""
    return alone(exhibit="defence", eps=eps, variant=LEAKING[best_reading(rows)["defence"]])(rows)


clean_alone = partial(alone, exhibit="defence", attack=None)
strong = partial(alone, exhibit="strong")


def figure(read: Read) -> Callable[[pd.DataFrame], Figure]:
    return lambda rows: over_seeds(read(rows))


def minus(first: Read, second: Read) -> Callable[[pd.DataFrame], Figure]:
    return lambda rows: difference(over_seeds(first(rows)), over_seeds(second(rows)))


def _by_eps(rows: pd.DataFrame, read: Callable[..., Read], **columns: str) -> pd.DataFrame:
    """Values by seed (rows) and eps (columns), NaN where an eps was not measured."""
    return pd.DataFrame({eps: by_seed(read(**columns, eps=eps)(rows)) for eps in NATURAL}, dtype=float)


def _pga_lead(rows: pd.DataFrame) -> Figure:
    leads = _by_eps(rows, undefended, attack="pga") - _by_eps(rows, undefended, attack="fgsm")
    return mean(leads.max(axis=1, skipna=False).to_numpy(), unit="seeds")


def _targeted_lead(rows: pd.DataFrame) -> Figure:
    leads = _by_eps(rows, targeted, attack="pgd") - _by_eps(rows, targeted, attack="fgsm")
    return mean(leads.min(axis=1, skipna=False).to_numpy(), unit="seeds")


def _rise(rows: pd.DataFrame) -> Figure:
    steps = _by_eps(rows, clean_alone).diff(axis=1).iloc[:, 1:]
    return mean(steps.max(axis=1, skipna=False).to_numpy(), unit="seeds")


G1 = "The network classifies 62.8 % of the clean test images correctly."
G2 = "FGSM lowers the accuracy to 56.4 % at eps = 0.001, to 20.1 % at 0.01 and to 0.1 % at 0.1."
G3 = "PGA lowers the accuracy to 56.4, 12.6 and 0 % at these eps: at each at least as far as FGSM."
G4 = "Towards deer, PGD moves 100 % of the images at eps = 0.1 and FGSM 59 %; at no eps does FGSM move more than PGD."
G5 = "Trained on FGSM images alone, the network loses clean accuracy as eps grows: 62.3 %, 54.0 % and 24.9 %."
G6 = "Trained on FGSM images alone, the network is right more often under FGSM (81.8 % at eps = 0.01, 96.0 % at 0.1) than on clean images (54.0 and 24.9 %); if the label leaks, the gain is gone under PGD."

ALONE_TEXT = "trained on FGSM alone, nearest reading"

CLAIMS = [
    Claim("G1", G1, "clean accuracy, undefended", figure(undefended(attack=None)), CLEAN, (0.608, 0.648)),
    *(
        Claim(claim, says, f"accuracy under {attack.upper()}, eps = {eps:g}", read, reported, accept)
        for claim, says, attack, accepted in (
            ("G2", G2, "fgsm", ((0.534, 0.594), (0.141, 0.261), (None, 0.02))),
            ("G3", G3, "pga", ((0.534, 0.594), (0.066, 0.186), (None, 0.01))),
        )
        for (eps, reported), accept in zip(UNDEFENDED[attack].items(), accepted, strict=True)
        for read in [figure(undefended(attack=attack, eps=eps))]
    ),
    Claim("G3", G3, "largest lead of accuracy under PGA over that under FGSM, at any eps", _pga_lead, 0, (None, 0)),
    Claim("G4", G4, "smallest lead of targeted PGD over targeted FGSM, at any eps", _targeted_lead, 0, (0, None)),
    *(
        Claim("G4", G4, f"share called deer under targeted {attack.upper()}, eps = 0.1", read, reported, accept)
        for attack, reported, accept in (("pgd", 1.0, (0.97, None)), ("fgsm", 0.59, (0.45, 0.75)))
        for read in [figure(targeted(attack=attack, eps=0.1))]
    ),
    *(
        Claim("G5", G5, f"clean accuracy, {ALONE_TEXT}, eps = {eps:g}", read, NATURAL[eps], accept)
        for eps, accept in ((0.001, (0.593, 0.653)), (0.01, (0.49, 0.59)), (0.1, (0.149, 0.349)))
        for read in [figure(clean_alone(eps=eps))]
    ),
    Claim("G5", G5, "largest rise of clean accuracy from one eps of training to the next", _rise, -0.083, (None, 0)),
    *(
        Claim(
            "G6", G6, f"accuracy under {name} minus clean accuracy, {ALONE_TEXT}, eps = {eps:g}", read, reported, accept
        )
        for eps, gain in ((0.01, 0.278), (0.1, 0.711))
        for name, read, reported, accept in (
            ("true-label FGSM", minus(partial(perturbed, eps), clean_alone(eps=eps)), gain, (0, None)),
            ("PGD", minus(strong(eps=eps, attack="pgd"), strong(eps=eps, attack=None)), None, (None, 0)),
        )
    ),
]
