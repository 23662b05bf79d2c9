"""Any ``nn.Module`` as an ART ``PyTorchClassifier`` whose gradients cost no more than attacks need."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from art.defences.preprocessor.preprocessor import Preprocessor
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import models
from advbench.device import bfloat16, float32, images_at_a_time, resolve_device
from advbench.estimators.fast import compiled_copy, folded_copy, version

Precision = Literal["exact", "fast"]


def classifier(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    classes: int,
    precision: Precision = "exact",
    device: str | torch.device = "auto",
    optimizer: torch.optim.Optimizer | None = None,
    clip_values: tuple[float, float] | None = (0.0, 1.0),
    compiled: bool = False,
    loss: nn.Module | None = None,
) -> TorchClassifier:
    """Wrap a module (images float (N, C, H, W) in [0, 1] -> logits (N, classes)) for every ART attack and defence.

    :param precision: ``exact`` for gradients in float32, equal to the module's own up to rounding; ``fast`` for bfloat16
        where the processor multiplies in it, and float32 elsewhere. Both come from a copy with batch norm folded and
        channels last. Predictions are always the module's own in float32.
    :param optimizer: the one that trainers use; attacks need none.
    :param clip_values: the range that attacks keep images in; None for no limit, as in some reports.
    :param compiled: whether ``torch.compile`` compiles the copy, which needs a C++ compiler and half a minute. It is hardly
        faster on a CPU, where convolutions take nearly all of the time; on a GPU it has not been measured.
    :param loss: (logits, labels) -> scalar, which attacks raise and trainers lower; by default cross-entropy.
    :raises ValueError: for another precision.
    """
    return TorchClassifier(
        module,
        loss or nn.CrossEntropyLoss(),
        tuple(input_shape),
        classes,
        optimizer,
        precision=precision,
        compiled=compiled,
        clip_values=clip_values,
        device_type="cpu",
    ).to(device)


def stock(
    module: nn.Module,
    input_shape: tuple[int, ...],
    classes: int,
    device: str | torch.device,
    optimizer: torch.optim.Optimizer | None = None,
    loss: nn.Module | None = None,
    preprocessor: Preprocessor | None = None,
    clip_values: tuple[float, float] | None = (0.0, 1.0),
) -> PyTorchClassifier:
    """ART's own estimator around a module, for ART's own trainers, detectors and preprocessors; the module in eval mode.

    The arguments are those of :func:`classifier`, and:

    :param preprocessor: an ART defence that images pass first.
    """
    device = resolve_device(device)
    estimator = PyTorchClassifier(
        module,
        loss or nn.CrossEntropyLoss(),
        tuple(input_shape),
        classes,
        optimizer,
        clip_values=clip_values,
        preprocessing_defences=preprocessor,
        preprocessing=None,
        device_type="cpu" if device.type == "cpu" else "gpu",
    )
    estimator._device = device  # ART's constructor always takes the current GPU
    module.to(device).eval()
    return estimator


def load(
    run: Path | str, name: str = "classifier", precision: Precision = "exact", device: str = "auto"
) -> TorchClassifier:
    """A trained model of a run directory as an ART estimator.

    :raises UsageError: if the run holds no such model.
    """
    module, spec = models.load(Path(run) / "models" / f"{name}.safetensors")
    return classifier(module, spec.input_shape, spec.classes, precision, device)


def gradient_module(estimator: PyTorchClassifier) -> nn.Module:
    """The module to differentiate: the folded copy of a ``TorchClassifier``, the model of any other ART classifier."""
    return estimator.gradient_module if isinstance(estimator, TorchClassifier) else estimator.model


def gradient_autocast(estimator: PyTorchClassifier) -> AbstractContextManager:
    """The context for gradients: bfloat16 in precision ``fast`` on processors that compute in it."""
    return bfloat16(estimator.device, wanted=getattr(estimator, "precision", "exact") == "fast")


class TorchClassifier(PyTorchClassifier):
    """ART's ``PyTorchClassifier`` for images in [0, 1] with a cheaper ``loss_gradient``.

    Stock ART also computes the gradients of the parameters, which no attack reads; here only the input's are computed.
    Training mode, recurrent layers and ART preprocessing take ART's own path.

    :param precision: as of :func:`classifier`, and so is ``compiled``.
    """

    estimator_params = [*PyTorchClassifier.estimator_params, "precision", "compiled"]

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        input_shape: tuple[int, ...],
        nb_classes: int,
        optimizer: torch.optim.Optimizer | None = None,
        precision: Precision = "exact",
        clip_values: tuple[float, float] | None = (0.0, 1.0),
        preprocessing: Any = None,
        compiled: bool = False,
        **kwargs: Any,
    ) -> None:
        if precision not in ("exact", "fast"):
            raise ValueError(f"precision must be 'exact' or 'fast', not {precision!r}")
        options = {"clip_values": clip_values, "preprocessing": preprocessing, **kwargs}
        super().__init__(model, loss, input_shape, nb_classes, optimizer, **options)
        self.precision = precision
        self.compiled = compiled
        self._copy: tuple[tuple, nn.Module] | None = None
        self._model.eval()

    def predict(
        self, x: np.ndarray, batch_size: int | None = None, training_mode: bool = False, **kwargs: Any
    ) -> np.ndarray:
        """The model's own float32 outputs (N, nb_classes) for images x (N, C, H, W), memory-mapped ones included.

        :param batch_size: images at a time, by default :func:`advbench.device.images_at_a_time`.
        """
        if batch_size is None:
            batch_size = images_at_a_time(self.input_shape, self._device)
        with float32():
            return super().predict(np.require(x, requirements="W"), batch_size, training_mode, **kwargs)

    def to(self, device: str | torch.device) -> Self:
        """Move the model to a device, which ART's constructor cannot choose; returns the estimator."""
        self._device = resolve_device(device)
        self._device_type = "cpu" if self._device.type == "cpu" else "gpu"
        self._model.to(self._device)
        self._copy = None
        return self

    @property
    def gradient_module(self) -> nn.Module:
        """The module whose gradients attacks use, in eval mode: a copy of the model with batch norm folded.

        The copy is made again whenever a parameter or buffer of the model has changed, as PyTorch counts it: writing to
        ``parameter.data`` goes unseen.
        """
        self._model.eval()
        current = version(self.model)
        if self._copy is None or self._copy[0] != current:
            copied = folded_copy(self.model, self.input_shape, self._device)
            if self.compiled:
                copied = compiled_copy(copied, self.input_shape, self._device)
            self._copy = (current, copied)
        return self._copy[1]

    def loss_gradient(
        self, x: np.ndarray | Tensor, y: np.ndarray | Tensor, training_mode: bool = False, **kwargs: Any
    ) -> np.ndarray | Tensor:
        """The gradient of the loss at images x (N, C, H, W) for labels y, indices (N,) or one-hot; same type as x."""
        if training_mode or self.is_rnn or self.preprocessing_operations:
            return super().loss_gradient(x, _one_hot(y, self.nb_classes), training_mode, **kwargs)
        module = self.gradient_module
        inputs = torch.as_tensor(x).to(self._device).detach().contiguous(memory_format=torch.channels_last)
        inputs.requires_grad_(True)
        labels = torch.as_tensor(y).to(self._device)
        if labels.ndim > 1:
            labels = self.reduce_labels(labels)
        with torch.enable_grad(), gradient_autocast(self):
            outputs = module(inputs)
            loss = self._loss(outputs.float() if outputs.dtype is torch.bfloat16 else outputs, labels)
        (gradient,) = torch.autograd.grad(loss, inputs)
        return gradient if isinstance(x, Tensor) else gradient.cpu().contiguous().numpy()


def _one_hot(y: np.ndarray | Tensor, classes: int) -> np.ndarray | Tensor:
    if y.ndim > 1:
        return y
    return nn.functional.one_hot(y.long(), classes) if isinstance(y, Tensor) else np.eye(classes, dtype=np.float32)[y]
