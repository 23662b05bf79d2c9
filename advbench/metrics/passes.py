"""The cost of attacks in passes through a model, which is the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench.estimators import averaged_part


class OutOfPassesError(BaseException):
    """A limit on passes is spent. No ``Exception``: attacks of other libraries catch those."""


@dataclass
class Passes:
    """Images that passed a model.

    :param forward: for outputs, of the model or of the layers that attacks differentiate.
    :param backward: for a gradient with respect to the images; two gradients of one forward pass count twice.
    :param limit: of both together.
    """

    forward: int = 0
    backward: int = 0
    limit: float = inf

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, passes do not count."""
        kept, self.limit = (self.forward, self.backward, self.limit), inf
        yield
        self.forward, self.backward, self.limit = kept

    @property
    def both(self) -> int:
        """Forward and backward passes together."""
        return self.forward + self.backward


@contextmanager
def counted(classifier: PyTorchClassifier, limit: float = inf) -> Iterator[Passes]:
    """Count the passes of a classifier's model within the context, in predictions and in gradients.

    A pass of a random model that is averaged counts once for each draw.

    :param limit: of both kinds together, of all images.
    :raises OutOfPassesError: at the first pass beyond the limit, which counts.
    """
    passes = Passes(limit=limit)
    random = averaged_part(classifier.model)

    def back(gradient: Tensor) -> None:
        passes.backward += len(gradient) * (random.draws if random else 1)

    def count(_module: nn.Module, _inputs: object, outputs: Tensor | list[Tensor]) -> None:
        logits = outputs if isinstance(outputs, Tensor) else outputs[-1]
        passes.forward += len(logits) * (random.draws if random else 1)
        if logits.requires_grad:
            logits.register_hook(back)
        if passes.both > passes.limit:
            raise OutOfPassesError

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
