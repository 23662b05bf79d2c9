"""The base of our attacks: parameters as the fields of a dataclass, and work on one batch of tensors at a time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from advbench import checks
from advbench.estimators import weights_read_once


class BatchedAttack(EvasionAttack):
    """An ART attack that is a dataclass: its fields with a default are ART's ``attack_params``, unless it lists them.

    A subclass defines ``_perturb``, or its own ``generate``, and ``_check_params``, which runs after each change of a field.
    """

    _estimator_requirements = (PyTorchClassifier,)
    classifier: Any
    batch_size: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "attack_params" not in vars(cls):
            own = [name for name in inspect.get_annotations(cls) if name in vars(cls)]
            cls.attack_params = [*cls.attack_params, *own]

    def __post_init__(self) -> None:
        super().__init__(estimator=self.classifier)
        _unit_range(self)
        self._check_params()

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: object) -> np.ndarray:
        """Adversarial versions of images.

        :param x: float (N, C, H, W) in [0, 1].
        :param y: true labels, indices or one-hot; without them the predicted ones.
        :return: float32 (N, C, H, W) in [0, 1].
        :raises ValueError: for images or labels out of range.
        """
        without_options(self, kwargs)
        x, y = checked(self.estimator, x, y, self.batch_size)
        with weights_read_once(self.estimator.model):
            return in_batches(self._perturb, self.estimator.device, self.batch_size, x, y)

    def _perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """The attack on one batch of tensors on the classifier's device: images (N, C, H, W) and label indices (N,)."""
        raise NotImplementedError


def without_options(attack: EvasionAttack, options: Mapping[str, object]) -> None:
    """:raises ValueError: for an option of ART's ``generate``, such as ``mask``, that this attack would not follow."""
    if given := [name for name, value in options.items() if value is not None]:
        who = "; of our attacks pgd, bim and fgsm do" if given[0] == "mask" else ""
        raise ValueError(f"{type(attack).__name__} takes no {given[0]}{who}")


def mask_alone(attack: EvasionAttack, options: Mapping[str, object], x: np.ndarray) -> np.ndarray | None:
    """The ``mask`` of ART's ``generate``, brought to the shape of the images.

    :raises ValueError: for another option, or a mask of another shape.
    """
    without_options(attack, {name: value for name, value in options.items() if name != "mask"})
    if (given := options.get("mask")) is None:
        return None
    try:
        return np.broadcast_to(np.asarray(given), x.shape)
    except ValueError as error:
        shape = np.shape(np.asarray(given))
        raise ValueError(f"mask must have the shape of the images {x.shape} or of one, not {shape}") from error


def one_logit_a_class(attack: EvasionAttack, outputs: np.ndarray | Tensor) -> None:
    """:raises ValueError: for outputs of a classifier that are not (N, classes)."""
    found, classes = outputs.shape[1], attack.estimator.nb_classes
    if found != classes:
        raise ValueError(
            f"{type(attack).__name__} needs one logit a class: the classifier has {classes} classes and returns {found} "
            "outputs; where z is the only one, let the module return (0, z)"
        )


def _unit_range(attack: EvasionAttack) -> None:
    """:raises ValueError: for a classifier of anything but images in [0, 1], or one whose outputs ART changes afterwards."""
    if defences := attack.estimator.postprocessing_defences:
        raise ValueError(
            f"{type(attack).__name__} follows the model's own logits, and {type(defences[0]).__name__} changes them: make it a "
            "layer of the module, or attack the classifier without it"
        )
    shape, clip = attack.estimator.input_shape, attack.estimator.clip_values
    if len(shape) != 3:
        raise ValueError(f"{type(attack).__name__} is for images (C, H, W), not for inputs of shape {tuple(shape)}")
    if clip is not None and not (np.all(np.asarray(clip[0]) == 0) and np.all(np.asarray(clip[1]) == 1)):
        found = "..".join(f"{np.min(bound):g}" for bound in clip)
        raise ValueError(
            f"{type(attack).__name__} is for images in [0, 1], and clip_values are {found}; scale the images in the module"
        )


def checked(
    estimator: PyTorchClassifier, x: np.ndarray, y: np.ndarray | None, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 (N, C, H, W) in [0, 1] and label indices (N,); without labels the predicted ones.

    :raises ValueError: for images or labels out of range.
    """
    x = checks.images(x, "x", estimator.input_shape)
    if y is None:
        y = estimator.predict(x, batch_size=batch_size).argmax(1)
    return x, checks.labels(y, len(x), estimator.nb_classes)


def in_batches(
    perturb: Callable[..., Tensor], device: torch.device, batch_size: int, x: np.ndarray, *others: np.ndarray
) -> np.ndarray:
    """``perturb(images, ...)`` of one batch after another on a device; returns the adversarial images (N, C, H, W)."""
    adversarial = np.empty_like(x)
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        batch = [torch.from_numpy(array[part]).to(device) for array in (x, *others)]
        adversarial[part] = perturb(*batch).cpu().numpy()
    return adversarial


def images_to_move(
    attack: BatchedAttack, x: np.ndarray, y: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What an attack that seeks the smallest perturbation starts from.

    :param x: float (N, C, H, W) in [0, 1].
    :param y: true labels, indices or one-hot: images that are already misclassified are left out. None leaves out none.
    :return: the images as float32, their predicted classes (N,), and the indices of the images to attack.
    :raises ValueError: for images or labels out of range, or a model without a logit for each class.
    """
    estimator = attack.estimator
    x = checks.images(x, "x", estimator.input_shape)
    outputs = estimator.predict(x, batch_size=attack.batch_size)
    one_logit_a_class(attack, outputs)
    original = outputs.argmax(1)
    if y is None:
        return x, original, np.arange(len(x))
    return x, original, np.flatnonzero(original == checks.labels(y, len(x), estimator.nb_classes))
