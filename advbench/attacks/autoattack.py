"""The standard ensemble AutoAttack (Croce & Hein, 2020) as an ART attack; ART's class of that name is another ensemble."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier

from advbench import checks, device
from advbench.attacks.batched import BatchedAttack, checked, without_options
from advbench.estimators import whole_model
from advbench.seeds import own_global_state

_NORMS = {np.inf: "Linf", 2.0: "L2"}


@dataclass(eq=False, repr=False)
class AutoAttack(BatchedAttack):
    """APGD-CE, targeted APGD-DLR, targeted FAB and Square, each on the images that withstood the ones before.

    The authors' own code (package ``pyautoattack``) in version "standard".

    :param classifier: an ART PyTorch classifier that returns logits of at least four classes for images in [0, 1].
    :param norm: ``inf`` or 2.
    :param eps: the bound in that norm, for images in [0, 1].
    :param seed: of the random starts.
    :param batch_size: images at a time, by default :func:`advbench.device.images_at_a_time` with at most 250.
    :raises ValueError: for another norm, a non-positive eps or too few classes.
    """

    classifier: PyTorchClassifier
    norm: float | str = np.inf
    eps: float = 8 / 255
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size is None:
            shape, where = self.classifier.input_shape, self.classifier.device
            self.batch_size = device.images_at_a_time(shape, where, most=250)
        super().__post_init__()

    def _check_params(self) -> None:
        self.norm = float(self.norm)
        if self.norm not in _NORMS:
            raise ValueError(f"norm must be inf or 2, not {self.norm}")
        checks.positive(self.eps, "eps")
        checks.positive(self.batch_size or 0, "batch_size")
        if self.estimator.nb_classes < 4:
            raise ValueError(
                f"classifier must have at least 4 classes for the DLR loss, not {self.estimator.nb_classes}"
            )

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: object) -> np.ndarray:
        """Adversarial versions within eps of the images; an image that withstands every attack is returned unchanged.

        :param x: float (N, C, H, W) in [0, 1].
        :param y: true labels, indices or one-hot; without them the predicted ones.
        :return: float32 (N, C, H, W) in [0, 1].
        :raises ValueError: for images or labels out of range.
        """
        from pyautoattack import AutoAttack as Ensemble

        assert self.batch_size is not None
        without_options(self, kwargs)
        x, y = checked(self.estimator, x, y, self.batch_size)
        n_classes = min(self.estimator.nb_classes - 1, 9)
        module = whole_model(self.estimator)
        with own_global_state(self.seed):
            ensemble = Ensemble(
                module,
                eps=self.eps,
                norm=_NORMS[float(self.norm)],
                seed=self.seed % 2**32,
                device=self.estimator.device,
            )
            ensemble.apgd_targeted.n_target_classes = ensemble.fab.n_target_classes = n_classes
            adversarial, _ = ensemble.run_standard_evaluation(
                torch.from_numpy(x), torch.from_numpy(y), batch_size=self.batch_size
            )
        return adversarial.cpu().numpy()
