"""The subject of an evaluation: a model as an estimator, images, and the options."""

from __future__ import annotations

from dataclasses import dataclass

from advbench.data.find import Images
from advbench.estimators import TorchClassifier
from advbench.evaluation.options import Options


@dataclass(frozen=True)
class Subject:
    """The model, the images and the options of one evaluation.

    :param mean: subtracted from images in [0, 1] in front of the model, a number a channel; empty for nothing.
    :param std: they are then divided by it.
    """

    classifier: TorchClassifier
    images: Images
    options: Options
    seed: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
