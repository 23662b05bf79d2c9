"""Indicators of attack failure (Pintor et al., 2022, https://arxiv.org/abs/2106.09947), measured on any attack while it runs.

An attack is watched at the model: every image that it shows is a step of the clean image that is nearest in the norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench.estimators import averaged_part, gradient_module
from advbench.metrics.figures import proportion
from advbench.metrics.robustness import attacked
from advbench.metrics.sanity import Check

_TAIL = 0.1  # of the steps
_STILL = 0.05  # of the whole rise, within the tail
_FEWEST = 5  # steps of an image whose end means something
_SLACK = 1e-4  # of eps: x + delta is rounded in float32
_ORDER = {"linf": np.inf, "l2": 2.0, "l1": 1.0, "l0": 0.0}


@dataclass
class Path:
    """What an attack has shown the model around each clean image.

    :ivar margins: for each image the margins of its steps, the largest wrong logit less the true one, in their order.
    :ivar beaten: bool (N,): whether a step within the bound was misclassified.
    """

    margins: list[list[float]]
    beaten: np.ndarray
    sizes: list[Any] = field(default_factory=list)


@contextmanager
def watched(classifier: PyTorchClassifier, x: np.ndarray, y: np.ndarray, eps: float, norm: str) -> Iterator[Path]:
    """Keep the path of an attack on images (N, C, H, W) with labels (N,) within the context."""
    path = Path([[] for _ in x], np.zeros(len(x), bool))
    clean = torch.from_numpy(np.array(x, np.float32)).flatten(1).to(classifier.device)
    labels = torch.from_numpy(np.asarray(y)).to(classifier.device)

    def look(_module: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
        logits = (outputs if isinstance(outputs, Tensor) else outputs[-1]).detach().float()
        shown = inputs[0].detach().float().flatten(1)
        if logits.ndim != 2 or shown.shape[1] != clean.shape[1]:
            return
        of = torch.cdist(shown, clean, _ORDER[norm]).argmin(1)
        true = nn.functional.one_hot(labels[of], logits.shape[1]).bool()
        margin = logits.masked_fill(true, -torch.inf).amax(1) - logits[true]
        size = torch.linalg.vector_norm(shown - clean[of], _ORDER[norm], dim=1)
        wrong = (margin > 0) & (size <= eps * (1 + _SLACK) + 1e-6)
        path.beaten[of[wrong].cpu().numpy()] = True
        for image, value in zip(of.tolist(), margin.tolist(), strict=True):
            path.margins[image].append(value)

    root = classifier._model
    wrappers = [root, *filter(None, [getattr(root, "gradient_model", None)])]
    handles = [each.register_forward_hook(look) for each in wrappers]
    try:
        yield path
    finally:
        for handle in handles:
            handle.remove()


def indicators(
    classifier: PyTorchClassifier, attack: Any, x: np.ndarray, y: np.ndarray, eps: float, norm: str
) -> dict[str, np.ndarray]:
    """Which images show an indicator, bool (N,) by its name, for an attack within eps.

    ``silent success``: a step was misclassified, and the image that is returned is not. ``incomplete optimisation``: the
    image is not beaten, and the last tenth of the steps made more than 5 % of the rise of the best margin so far.
    ``transfer failure``: what the attack differentiates calls the returned image beaten, and the model does not.
    Images that are misclassified without the attack show none.
    """
    clean = classifier.predict(x).argmax(1) == y
    with watched(classifier, x, y, eps, norm) as path:
        returned, wrong = attacked(classifier, attack, x, y)
    seen = _as_differentiated(classifier, returned).argmax(1) != y
    still = np.array([_rises(np.array(margins)) for margins in path.margins])
    is_random = averaged_part(classifier.model) is not None  # of which any two answers differ
    return {
        "silent success": clean & path.beaten & ~seen & ~wrong & (not is_random),
        "incomplete optimisation": clean & ~path.beaten & ~wrong & still,
        "transfer failure": clean & seen & ~wrong & (not is_random),
    }


def withstood(classifier: PyTorchClassifier, attack: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which images (N,) an attack without an effective bound does not beat: ``unconstrained failure``."""
    return ~attacked(classifier, attack, x, y)[1]


def worst(found: dict[str, dict[str, np.ndarray]]) -> Iterator[Check]:
    """Of each indicator a check of the attack that shows it most.

    :param found: by the attack and the name of the indicator, which images show it.
    """
    for name in dict.fromkeys(name for shown in found.values() for name in shown):
        of = {attack: shown[name] for attack, shown in found.items() if name in shown}
        attack = max(of, key=lambda each: of[each].mean())
        yield Check(name, proportion(int(of[attack].sum()), len(of[attack])), attack)


def _rises(margins: np.ndarray) -> bool:
    if len(margins) < _FEWEST:
        return False
    best = np.maximum.accumulate(margins)
    tail = max(1, round(_TAIL * len(best)))
    whole = best[-1] - best[0]
    return bool(whole > 1e-6 * np.abs(best).max() and best[-1] - best[-1 - tail] > _STILL * whole)


def _as_differentiated(classifier: PyTorchClassifier, x: np.ndarray) -> np.ndarray:
    """The logits of the pass that a gradient is taken of, (N, classes)."""
    with torch.enable_grad():
        inputs = torch.from_numpy(np.array(x, np.float32)).to(classifier.device).requires_grad_(True)
        return gradient_module(classifier)(inputs).detach().cpu().numpy()
