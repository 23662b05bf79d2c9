"""Every defence by its name."""

from __future__ import annotations

from advbench.recipes.compare_defences.detectors import DETECTORS
from advbench.recipes.compare_defences.materials import Comparison
from advbench.recipes.compare_defences.preprocessors import PREPROCESSORS
from advbench.recipes.compare_defences.trainings import TRAININGS, Undefended

DEFENCES = {defence.name: defence for defence in (Undefended(), *PREPROCESSORS, *TRAININGS, *DETECTORS)}
"""In the order of the page; no defence first."""


class AllDefences(Comparison):
    """All of them around a network of the study's own."""

    defences = DEFENCES
