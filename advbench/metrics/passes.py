"""The cost of attacks in passes through a model, which is the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn


@dataclass
class Passes:
    """Images that passed a model.

    :param forward: for outputs, of the model or of the layers that attacks differentiate.
    :param backward: for a gradient with respect to the images; two gradients of one forward pass count twice.
    """

    forward: int = 0
    backward: int = 0

    @property
    def both(self) -> int:
        """Forward and backward passes together."""
        return self.forward + self.backward


@contextmanager
def counted(classifier: PyTorchClassifier) -> Iterator[Passes]:
    """Count the passes of a classifier's model within the context, in predictions and in gradients."""
    passes = Passes()

    def back(gradient: Tensor) -> None:
        passes.backward += len(gradient)

    def count(_module: nn.Module, _inputs: object, outputs: Tensor | list[Tensor]) -> None:
        logits = outputs if isinstance(outputs, Tensor) else outputs[-1]
        passes.forward += len(logits)
        if logits.requires_grad:
            logits.register_hook(back)

    root = classifier._model
    wrappers = [root, *filter(None, [getattr(root, "gradient_model", None)])]
    handles = [
        each.register_forward_hook(count) for each in wrappers
    ]  # of ours: a hook on the model would slow it down
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()
