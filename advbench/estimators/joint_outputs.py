"""A classifier and its detector as one differentiable function, which adaptive attacks follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from art.defences.detector.evasion import BinaryInputDetector
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench.estimators.torch_classifier import gradient_module, whole_model

Joint = Callable[[Tensor], tuple[Tensor, Tensor]]


def detector_module(detector: Any) -> nn.Module:
    """The detector as images (N, C, H, W) in [0, 1] -> logits (N, 2) of clean and adversarial.

    :param detector: an ART detector with such a module in its attribute ``module``, as ours have, or ART's
        ``BinaryInputDetector`` around a PyTorch classifier.
    :raises ValueError: for a detector whose score has no gradient with respect to the images.
    """
    if isinstance(module := getattr(detector, "module", None), nn.Module):
        module.eval()
        return module
    if isinstance(detector, BinaryInputDetector) and isinstance(detector.detector, PyTorchClassifier):
        return whole_model(detector.detector)
    raise ValueError(
        f"{type(detector).__name__} has no gradient from its score to the images (its activations go through NumPy, or "
        "it is no PyTorch module): no adaptive attack by gradients is possible"
    )


def joint(classifier: PyTorchClassifier, detector: Any) -> Joint:
    """Images (N, C, H, W) -> logits (N, classes), and the detector's logit of adversarial less that of clean (N,).

    One pass computes both where the detector reads the classifier's own activations.

    :raises ValueError: as :func:`detector_module` does.
    """
    shared = getattr(detector, "joint", None)
    if shared is not None and detector.classifier is classifier:
        return shared
    module = detector_module(detector)

    def separate(x: Tensor) -> tuple[Tensor, Tensor]:
        clean, adversarial = module(x).unbind(1)
        return gradient_module(classifier)(x), adversarial - clean

    return separate
