"""ART's fast gradient method for one pass an image: projected gradient ascent with one step."""

from __future__ import annotations

from typing import Any

import numpy as np
from art.attacks.evasion import FastGradientMethod
from art.estimators.classification import PyTorchClassifier
from art.utils import check_and_transform_label_format

from advbench import checks
from advbench.attacks.batched import mask_alone
from advbench.attacks.pgd import Ascent
from advbench.estimators import TorchClassifier, predicted


class FGSM(FastGradientMethod):
    """Goodfellow et al. (2015, https://arxiv.org/abs/1412.6572); parameters are ART's, and so are results in l-inf, to the bit.

    Of several random starts each image keeps one that beats it; ART keeps one start for all images. With a mask,
    ``minimal``, a bound for each image, a norm other than 2 and ``inf`` or a TensorBoard writer ART's own code runs.
    """

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        """Perturb images by one step.

        :param x: float (N, C, H, W) in the classifier's range.
        :param y: true labels, or the targets of a targeted attack, indices or one-hot; without them the predicted ones.
        :return: float32 (N, C, H, W).
        :param kwargs: ``mask``, 0 where a pixel must stay: of the shape of the images, or one that is broadcast to it.
        :raises ValueError: for images or labels out of range, another option, or a targeted attack without targets.
        """
        x = checks.in_range(x, "x", self.estimator.clip_values)
        mask = mask_alone(self, kwargs, x)
        estimator = self.estimator
        if y is None and not self.targeted:
            y = predicted(estimator, x, self.batch_size)
        elif y is not None:
            y = checks.arts_labels(y, len(x), estimator.nb_classes)
        tensors = isinstance(estimator, PyTorchClassifier) and (
            isinstance(estimator, TorchClassifier) or estimator.all_framework_preprocessing
        )
        usual = isinstance(self.eps, (int, float)) and not (self.minimal or self.summary_writer)
        if not (tensors and usual) or float(self.norm) not in (2, np.inf) or mask is not None:
            return super().generate(x, y, mask=mask)
        if y is None:
            raise ValueError("Target labels `y` need to be provided for a targeted attack.")
        targets = check_and_transform_label_format(y, nb_classes=estimator.nb_classes)
        if estimator.nb_classes > 2:
            targets = targets / targets.sum(1, keepdims=True)
        norm, eps = float(self.norm), float(self.eps)
        ascent = Ascent(estimator, norm, eps, eps, 1, self.num_random_init, self.targeted)
        return ascent.run(x, targets, self.batch_size, until_beaten=False)[0]
