"""A classifier and its detector as one differentiable function, and as the one network of Carlini & Wagner."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from art.defences.detector.evasion import BinaryInputDetector
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench.estimators import gradient_module

Joint = Callable[[Tensor], tuple[Tensor, Tensor]]


def detector_module(detector: Any) -> nn.Module:
    """The detector as images (N, C, H, W) in [0, 1] -> logits (N, 2) of clean and adversarial.

    :param detector: an ART detector with an attribute ``module`` of that kind, as ours have, or ART's
        ``BinaryInputDetector`` around a PyTorch classifier.
    :raises ValueError: for a detector whose score has no gradient with respect to the images.
    """
    if isinstance(module := getattr(detector, "module", None), nn.Module):
        return module.eval()
    if isinstance(detector, BinaryInputDetector) and isinstance(detector.detector, PyTorchClassifier):
        return detector.detector.model.eval()
    raise ValueError(
        f"{type(detector).__name__} has no gradient from its score to the images (its activations go through NumPy, or "
        "it is no PyTorch module): no adaptive attack by gradients is possible"
    )


def joint(classifier: PyTorchClassifier, detector: Any) -> Joint:
    """Images (N, C, H, W) -> logits (N, classes), and the detector's logit of adversarial less that of clean (N,).

    In one pass where the detector reads the classifier's own activations.

    :raises ValueError: as :func:`detector_module` does.
    """
    shared = getattr(detector, "joint", None)
    if shared is not None and detector.classifier is classifier:
        return shared
    module = detector_module(detector)

    def apart(x: Tensor) -> tuple[Tensor, Tensor]:
        clean, adversarial = module(x).unbind(1)
        return gradient_module(classifier)(x), adversarial - clean

    return apart


class CombinedModel(nn.Module):
    """G of Carlini & Wagner (2017, https://arxiv.org/abs/1705.07263): flagged images are a class of their own.

    G_i = F_i for the N classes and G_{N+1} = (D + 1) max_j F_j, where D > 0 flags. That argmax G = N + 1 just for
    flagged images needs max_j F_j > 0; the logits F are therefore taken less their smallest, which no softmax sees.

    :param classifier: whose logits are F.
    :param detector: any that :func:`detector_module` knows.
    :param threshold: p_adv above which the detector flags, in (0, 1).
    :raises ValueError: for a threshold out of range, or a detector without gradients.

    Images (N, C, H, W) -> (N, classes + 1).
    """

    def __init__(self, classifier: PyTorchClassifier, detector: Any, threshold: float = 0.5) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be in (0, 1), not {threshold}")
        self._joint = joint(classifier, detector)
        self._flagged_from = math.log(threshold / (1 - threshold))

    def forward(self, x: Tensor) -> Tensor:
        logits, score = self._joint(x)
        f = logits - logits.amin(1, keepdim=True)
        flagged = (score - self._flagged_from + 1) * f.amax(1)
        return torch.cat([f, flagged[:, None]], 1)


def combined(classifier: PyTorchClassifier, detector: Any, threshold: float = 0.5) -> PyTorchClassifier:
    """The :class:`CombinedModel` as an ART classifier of one class more, for every ART attack by gradients.

    :raises ValueError: as :class:`CombinedModel` does.
    """
    device = classifier.device
    whole = PyTorchClassifier(
        CombinedModel(classifier, detector, threshold).eval(),
        nn.CrossEntropyLoss(),
        classifier.input_shape,
        classifier.nb_classes + 1,
        clip_values=(0.0, 1.0),
        device_type="cpu" if device.type == "cpu" else "gpu",
    )
    whole._device = device  # ART's constructor only knows "the" GPU
    return whole
