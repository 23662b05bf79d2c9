"""A classifier and its detector as the one network that Carlini & Wagner attack."""

from __future__ import annotations

import math
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench.estimators import joint, stock


class CombinedModel(nn.Module):
    """G of Carlini & Wagner (2017, https://arxiv.org/abs/1705.07263): flagged images are one more class.

    G_i = F_i for the N classes and G_{N+1} = (D + 1) max_j F_j, where D > 0 flags. Only with max_j F_j > 0 is argmax G
    equal to N + 1 exactly for flagged images, so the smallest logit is subtracted from all: no softmax notices.

    :param classifier: its logits are F.
    :param detector: any that :func:`advbench.estimators.detector_module` accepts.
    :param threshold: p_adv above which the detector flags, in (0, 1).
    :raises ValueError: for a threshold out of range, or a detector without gradients.

    Images (N, C, H, W) -> (N, classes + 1).
    """

    def __init__(self, classifier: PyTorchClassifier, detector: Any, threshold: float = 0.5) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be in (0, 1), not {threshold}")
        self._joint = joint(classifier, detector)
        self._score_threshold = math.log(threshold / (1 - threshold))

    def forward(self, x: Tensor) -> Tensor:
        logits, score = self._joint(x)
        f = logits - logits.amin(1, keepdim=True)
        flagged = (score - self._score_threshold + 1) * f.amax(1)
        return torch.cat([f, flagged[:, None]], 1)


def combined(classifier: PyTorchClassifier, detector: Any, threshold: float = 0.5) -> PyTorchClassifier:
    """The :class:`CombinedModel` as an ART classifier with one class more, for every ART attack by gradients.

    :raises ValueError: as :class:`CombinedModel` does.
    """
    module = CombinedModel(classifier, detector, threshold)
    return stock(module, classifier.input_shape, classifier.nb_classes + 1, classifier.device)
