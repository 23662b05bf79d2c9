"""The classifier of ``detector_imagenet10``: VGG16 with published weights, as much of it as can be had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advbench import models
from advbench.data import Dataset
from advbench.data.imagenet import logits
from advbench.errors import DataUnavailable, UsageError
from advbench.files import first_line
from advbench.models.registry import IMAGENET
from advbench.models.vgg16 import VGG16, LinearVGG16
from advbench.models.weights import fill, read

CALLED = {
    "vgg16": "vgg16, ten logits selected",
    "vgg16-linear": "vgg16, new head",
    "vgg16-narrow": "vgg16 with an eighth of the channels, drawn convolutions, new head",
}
"""What the rows call each model of the registry."""


def published(weights: str | None, data: Dataset, seed: int) -> tuple[VGG16, models.ModelSpec]:
    """VGG16 for the classes of a data set.

    With the whole network in the file, or from torchvision where no file is given, the ten logits are selected and nothing
    is trained (section 4.2). With its convolutions alone, a linear head takes the place of its three linear layers, still
    to be fitted. Nothing is published for other data than ImageNet's: without a file, the weights are drawn there.

    :raises UsageError: if the file is missing, unreadable or holds the weights of another network.
    :raises DataUnavailable: if torchvision's weights cannot be downloaded.
    """
    shape, classes = data.x.shape[1:], len(data.classes)
    if weights is None and not data.ids:
        drawn = models.ModelSpec("vgg16-narrow", shape, classes, *IMAGENET)
        return _created(drawn, seed), drawn
    state = _torchvisions() if weights is None else read(Path(weights))
    whole = bool(data.ids) and any(name.startswith("classifier.") for name in state)
    spec = models.ModelSpec("vgg16" if whole else "vgg16-linear", shape, classes, *IMAGENET)
    network = _created(spec, seed)
    if whole:
        last = {
            name: tensor for name, tensor in state.items() if name.startswith("classifier.6.") and len(tensor) == 1000
        }
        state |= {name: tensor[logits(data.ids)] for name, tensor in last.items()}
    else:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("classifier.")}
    fill(network.published(head=whole), state, Path(weights or "torchvision's VGG16"))
    return network, spec


def fit_head(network: LinearVGG16, pooled: np.ndarray, y: np.ndarray, classes: int) -> float:
    """Multinomial logistic regression on the frozen, standardised features; returns its accuracy on them.

    :param pooled: float32 (N, channels).
    :param y: (N,).
    :raises UsageError: if a class has no image.
    """
    from sklearn.linear_model import LogisticRegression

    missing = set(range(classes)) - set(y.tolist())
    if missing:
        raise UsageError(f"class {min(missing)} of {classes} has no image left to train a head on; give it more")
    mean, std = pooled.mean(0), pooled.std(0) + 1e-6
    found = LogisticRegression(max_iter=1000).fit((pooled - mean) / std, y)
    network.set_linear(*(torch.from_numpy(a.astype(np.float32)) for a in (found.coef_, found.intercept_, mean, std)))
    return float(found.score((pooled - mean) / std, y))


def _created(spec: models.ModelSpec, seed: int) -> VGG16:
    network = models.create(spec, seed)
    assert isinstance(network, VGG16)
    return network


def _torchvisions() -> dict[str, Tensor]:
    from torchvision.models import VGG16_Weights

    try:
        return VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # the network has errors of many kinds
        raise DataUnavailable(
            f"torchvision's weights of VGG16 could not be had ({first_line(error)}); give a file with --weights, all of them or its "
            "convolutions (features.*)"
        ) from error
