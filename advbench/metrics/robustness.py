"""The worst case per image over several attacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from advbench import checks
from advbench.estimators import predicted
from advbench.metrics.figures import Figure, proportion

if TYPE_CHECKING:
    from art.attacks.attack import EvasionAttack
    from art.estimators.classification import PyTorchClassifier


def still_correct(
    classifier: PyTorchClassifier, attacks: Iterable[EvasionAttack], x: np.ndarray, y: np.ndarray
) -> Iterator[np.ndarray]:
    """Which images are classified right under no attack, under the first, under the first two, and so on.

    :param classifier: judges every adversarial image.
    :param attacks: each is run only on the images that all attacks before it left correct.
    :param x: float (N, C, H, W) in [0, 1].
    :param y: true labels, indices or one-hot.
    :return: a bool array (N,) before the first attack and one after each.
    :raises ValueError: for images outside of the classifier's range, or labels outside of its classes.
    """
    x = checks.in_range(x, "x", getattr(classifier, "clip_values", (0.0, 1.0)))
    y = checks.labels(y, len(x), classifier.nb_classes)
    correct = predicted(classifier, x) == y
    yield correct.copy()
    for attack in attacks:
        left = np.flatnonzero(correct)
        if len(left):
            correct[left] = ~attacked(classifier, attack, x[left], y[left])[1]
        yield correct.copy()


def attacked(
    classifier: PyTorchClassifier, attack: EvasionAttack, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The images (N, C, H, W) after an attack, and which the classifier no longer takes for their labels, bool (N,).

    An attack on the classifier itself that has a method ``beat`` stops at each image as soon as the classifier is wrong.
    """
    if hasattr(attack, "beat") and attack.estimator is classifier and not attack.targeted:
        return attack.beat(x, y)
    adversarial = attack.generate(x, y)
    return adversarial, predicted(classifier, adversarial) != y


def robust_accuracy(
    classifier: PyTorchClassifier, attacks: Mapping[str, Sequence[EvasionAttack]], x: np.ndarray, y: np.ndarray
) -> dict[str, Figure]:
    """The accuracy on clean images, and after each group of attacks and all groups before it.

    :param attacks: by name, such as ``pgd`` for several restarts.
    :return: under ``clean`` and the names; the parameters are those of :func:`still_correct`.
    """
    masks = list(still_correct(classifier, [attack for group in attacks.values() for attack in group], x, y))
    after, figures = 0, {"clean": proportion(int(masks[0].sum()), len(y))}
    for name, group in attacks.items():
        after += len(group)
        figures[name] = proportion(int(masks[after].sum()), len(y))
    return figures
