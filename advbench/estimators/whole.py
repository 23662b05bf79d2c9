"""A classifier as the one differentiable function that its ``predict`` computes: ART preprocessing, then the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.defences.preprocessor.preprocessor import Preprocessor
from art.estimators.classification import PyTorchClassifier
from art.preprocessing.standardisation_mean_std.numpy import StandardisationMeanStd
from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch
from torch import Tensor, nn

from advbench.estimators.fast import GradientModel, calling_model, logits


class RootModule(nn.Module):
    """What a classifier calls: the user's module, in ART's form of a list of outputs.

    ART's own calls the children of an ``nn.Sequential`` one by one, past the forward of a subclass and past hooks.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model
        self.__dict__["gradient_model"] = GradientModel(model)  # the same module: not a part of this one

    def forward(self, x: Tensor) -> list[Tensor]:
        with calling_model():
            return [logits(self._model(x), len(x))]

    @property
    def get_layers(self) -> list[str]:
        """The names of the layers, as ART reads them."""
        return [name for name, _ in self._model._modules.items()]  # TorchScript's own dict cannot be iterated


class WholeModel(nn.Module):
    """ART preprocessing and the model of a classifier: images (N, C, H, W) -> logits (N, classes).

    The gradient passes PyTorch preprocessing as it is, and other preprocessing by its ``estimate_gradient``, as in ART.

    :param model: computes the logits of preprocessed images; by default the classifier's model.
    """

    def __init__(self, estimator: PyTorchClassifier, model: nn.Module | None = None) -> None:
        super().__init__()
        self.root = estimator._model
        self.model = model
        self._estimator = estimator

    def forward(self, x: Tensor) -> Tensor:
        x = preprocessed(self._estimator, x)
        if self.model is not None:
            return self.model(x)
        with calling_model():  # a clone: the model may change its input in place
            return logits(self.root(x.clone(memory_format=torch.contiguous_format))[-1], len(x))


def preprocessing_of(estimator: PyTorchClassifier) -> list[Preprocessor]:
    """The ART preprocessing that changes images: without ART's default, which subtracts 0 and divides by 1."""
    return [each for each in estimator.preprocessing_operations if not _is_identity(each)]


def preprocessed(estimator: PyTorchClassifier, x: Tensor) -> Tensor:
    """Images (N, C, H, W) after the classifier's ART preprocessing."""
    if not preprocessing_of(estimator):
        return x
    if estimator.all_framework_preprocessing:
        return estimator._apply_preprocessing(x, y=None, fit=False, no_grad=False)[0]
    return _EstimatedGradient.apply(x, estimator)


def refuse_preprocessing(estimator: PyTorchClassifier, what: str) -> None:
    """:raises ValueError: if the classifier has ART preprocessing, which ``what`` would leave out."""
    if operations := preprocessing_of(estimator):
        name = type(operations[0]).__name__
        raise ValueError(f"{what} needs a classifier without ART preprocessing ({name}); make it a layer of the module")


def _is_identity(operation: Preprocessor) -> bool:
    standardisation = isinstance(operation, (StandardisationMeanStd, StandardisationMeanStdPyTorch))
    return standardisation and bool(np.all(operation.mean == 0) and np.all(operation.std == 1))


class _EstimatedGradient(torch.autograd.Function):
    """Preprocessing in NumPy, with the gradient that ART estimates for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, estimator: PyTorchClassifier) -> Tensor:
        ctx.estimator, ctx.images = estimator, x.detach().cpu().numpy()
        changed = estimator._apply_preprocessing(ctx.images, y=None, fit=False)[0]
        return torch.from_numpy(np.asarray(changed, np.float32)).to(x.device)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        with torch.enable_grad():
            estimated = ctx.estimator._apply_preprocessing_gradient(ctx.images, gradient.cpu().numpy())
        return torch.from_numpy(np.asarray(estimated, np.float32)).to(gradient.device), None
