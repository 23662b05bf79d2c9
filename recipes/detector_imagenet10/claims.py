"""The tables of report 001 on ImageNet, and its claim M10."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from advbench.metrics import Figure, lowest, where
from advbench.recipes.detector_cifar.adversaries import Adversary
from advbench.study import Claim, band

ATTACKS = ("fgsm", "bim", "bim-l2", "deepfool-l2", "deepfool-linf")
TRANSFER = pd.DataFrame(
    [
        [0.89, 0.88, 0.63, 0.84, 0.89],
        [0.84, 0.87, 0.61, 0.81, 0.89],
        [0.66, 0.74, 0.90, 0.88, 0.87],
        [0.61, 0.66, 0.78, 0.85, 0.81],
        [0.80, 0.83, 0.69, 0.83, 0.91],
    ],
    index=ATTACKS,
    columns=ATTACKS,
)
"""The report's table; its axis labels are damaged. Read with a row for each adversary met, a column for each trained on."""

CHANCE = Adversary("bim-l2", 400 / 255)
"""Where the report's detector stayed at chance level."""

BETWEEN_EPS = {(CHANCE, CHANCE): 0.5, (Adversary("bim-l2", 1200 / 255), CHANCE): 0.78}
"""By the adversary trained on and the one met: the only two numbers of the report on the transfer between eps."""

TOLERANCE = 0.06


def _diagonal(attack: str) -> Callable[[pd.DataFrame], Figure | None]:
    return lambda rows: lowest(where(rows, exhibit="between adversaries", attack=attack, fit_attack=attack))


CLAIMS = [
    Claim(
        "M10",
        "On ten ImageNet classes the detector of an adversary sees it with 85 to 91 % accuracy.",
        f"detectability of {attack} by the detector trained on it",
        _diagonal(attack),
        reported,
        band(reported, TOLERANCE),
    )
    for attack in ATTACKS
    for reported in [float(TRANSFER.loc[attack, attack])]
]
