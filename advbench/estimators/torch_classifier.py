"""Any ``nn.Module`` as an ART ``PyTorchClassifier`` whose gradients cost no more than attacks need."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from art.defences.preprocessor.preprocessor import Preprocessor
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import models
from advbench.device import bfloat16, float32, images_at_a_time, resolve_device
from advbench.estimators.fast import GradientModel
from advbench.estimators.whole import RootModule, WholeModel, preprocessing_of
from advbench.models import zoo

Precision = Literal["exact", "fast"]

_ROUNDED = 2**-14  # of the softmax: there float32 still has it to a thousandth


def classifier(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    classes: int,
    precision: Precision = "exact",
    device: str | torch.device = "auto",
    optimizer: torch.optim.Optimizer | None = None,
    clip_values: tuple[float, float] | None = (0.0, 1.0),
    loss: nn.Module | None = None,
) -> TorchClassifier:
    """Wrap a module (images float (N, C, H, W) in [0, 1] -> logits (N, classes)) for every ART attack and defence.

    :param precision: ``exact`` for gradients in float32, equal to the module's own up to rounding; ``fast`` for bfloat16
        where the processor multiplies in it, in the layers of :class:`~advbench.estimators.GradientModel`, and float32
        elsewhere. Predictions are always the module's own in float32.
    :param optimizer: the one that trainers use; attacks need none.
    :param clip_values: the range that attacks keep images in; None for no limit, as in some reports.
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
        clip_values=clip_values,
        preprocessing=None,
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
    estimator._model = RootModule(module)
    module.to(device).eval()
    return estimator


def load(
    run: Path | str, name: str = "classifier", precision: Precision = "exact", device: str = "auto"
) -> TorchClassifier:
    """A trained model as an ART estimator.

    :param run: a run directory, the file of a model, or the name of a network in the zoo, with or without ``zoo:``.
    :param name: of the model in the run.
    :raises UsageError: if there is no such model.
    """
    file = zoo.path(str(run), "classifier") if zoo.is_meant(run) else Path(run)
    if not file.is_file():
        file = file / "models" / f"{name}.safetensors"
    module, spec = models.load(file)
    return classifier(module, spec.input_shape, spec.classes, precision, device)


def gradient_module(estimator: PyTorchClassifier) -> nn.Module:
    """The module that attacks differentiate, in eval mode: images (N, C, H, W) -> logits (N, classes).

    It is the classifier as its ``predict`` computes it, ART preprocessing included, up to rounding: with the
    :class:`GradientModel` of a ``TorchClassifier``, and the model itself of any other.
    """
    if not isinstance(estimator, TorchClassifier):
        return whole_model(estimator)
    gradient_model = estimator.gradient_module
    return WholeModel(estimator, gradient_model) if preprocessing_of(estimator) else gradient_model


def whole_model(estimator: PyTorchClassifier) -> nn.Module:
    """The function that the classifier's ``predict`` computes, as a differentiable module in eval mode, in float32."""
    estimator._model.eval()
    return WholeModel(estimator)


def gradient_autocast(estimator: PyTorchClassifier) -> AbstractContextManager:
    """The context for gradients: bfloat16 in precision ``fast`` on processors that compute in it."""
    return bfloat16(estimator.device, wanted=getattr(estimator, "precision", "exact") == "fast")


def gradient_and_outputs(estimator: PyTorchClassifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
    """The direction of the estimator's ``loss_gradient`` at images (N, C, H, W), and the outputs (N, classes) of the same pass.

    It is that gradient up to a positive factor an image: cross-entropy is differentiated where float32 rounds it to zero.
    The outputs are None where the estimator has a loss gradient of its own kind, such as a mean over draws.

    :param y: labels in a form that ``loss_gradient`` takes.
    """
    usual = getattr(estimator.loss_gradient, "__func__", None) is TorchClassifier.loss_gradient
    if usual and not (estimator.is_rnn or estimator._use_amp):
        try:
            return estimator._pass(x, y, is_direction=True)
        except _NoInputGradient:
            pass
    return estimator.loss_gradient(x=x, y=y), None


def loss_of(estimator: PyTorchClassifier, outputs: Tensor, y: Tensor) -> Tensor:
    """The classifier's loss of outputs (N, classes), with labels in the form in which ART passes them to that loss.

    :param y: indices (N,), one-hot rows or, for cross-entropy, probabilities (N, classes).
    """
    if y.ndim == 1 and not estimator._int_labels:
        y = F.one_hot(y.long(), estimator.nb_classes).float()
    labels = y.long() if y.ndim == 1 else estimator.reduce_labels(y)
    assert isinstance(labels, Tensor)
    if labels.is_floating_point() and labels.numel() == outputs.numel():
        labels = labels.view_as(outputs)  # one output for two classes
    return estimator.loss(outputs, labels)


def clipped(estimator: PyTorchClassifier, x: Tensor) -> Tensor:
    """Images (N, C, H, W) within the classifier's clip values, numbers or arrays; without any, as they are."""
    if estimator.clip_values is None:
        return x
    low, high = (torch.as_tensor(bound, dtype=x.dtype, device=x.device) for bound in estimator.clip_values)
    return x.clamp(low, high)


def predicted(estimator: PyTorchClassifier, x: np.ndarray, batch_size: int | None = None) -> np.ndarray:
    """The classes (N,) that a classifier predicts for inputs (N, ...).

    One output for two classes is of class 1 above 0 with a ``BCEWithLogitsLoss`` and above 0.5 with another loss.
    """
    outputs = estimator.predict(x) if batch_size is None else estimator.predict(x, batch_size=batch_size)
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        return outputs.argmax(1)
    limit = 0.0 if isinstance(getattr(estimator, "loss", None), nn.BCEWithLogitsLoss) else 0.5
    return (outputs.reshape(len(x)) > limit).astype(int)


class _NoInputGradient(RuntimeError):
    """``torch.autograd.grad`` fails: checkpoints of other libraries than PyTorch need ``backward()``, which ART calls."""


class TorchClassifier(PyTorchClassifier):
    """ART's ``PyTorchClassifier`` with a cheaper ``loss_gradient``; arguments and defaults are ART's.

    Stock ART also computes the gradients of the parameters, which no attack reads; here only the input's are computed.
    Training mode, recurrent layers and mixed precision take ART's own path. A module is always called by its own
    ``forward``; ART calls the children of a subclass of ``nn.Sequential``.

    :param precision: as of :func:`classifier`.
    """

    estimator_params = [*PyTorchClassifier.estimator_params, "precision"]

    def __init__(self, *args: Any, precision: Precision = "exact", **kwargs: Any) -> None:
        if precision not in ("exact", "fast"):
            raise ValueError(f"precision must be 'exact' or 'fast', not {precision!r}")
        super().__init__(*args, **kwargs)
        self.precision = precision
        self._model.eval()

    def _make_model_wrapper(self, model: nn.Module) -> nn.Module:
        self._model_wrapper = RootModule  # ART's pickling expects it
        return RootModule(model)

    def predict(
        self, x: np.ndarray, batch_size: int | None = None, training_mode: bool = False, **kwargs: Any
    ) -> np.ndarray:
        """The model's own float32 outputs (N, nb_classes) for images x (N, C, H, W), memory-mapped ones included.

        :param batch_size: images at a time, by default :func:`advbench.device.images_at_a_time`.
        """
        if batch_size is None:
            batch_size = images_at_a_time(self.input_shape, self._device)
        with float32():
            return super().predict(np.require(x, self._dtype(x), "W"), batch_size, training_mode, **kwargs)

    def to(self, device: str | torch.device) -> Self:
        """Move the model to a device, which ART's constructor cannot choose; returns the estimator."""
        self._device = resolve_device(device)
        self._device_type = "cpu" if self._device.type == "cpu" else "gpu"
        self._model.to(self._device)
        return self

    @property
    def gradient_module(self) -> GradientModel:
        """The model as attacks differentiate it, in eval mode, without ART preprocessing."""
        self._model.eval()
        return self._model.gradient_model

    def loss_gradient(
        self, x: np.ndarray | Tensor, y: np.ndarray | Tensor, training_mode: bool = False, **kwargs: Any
    ) -> np.ndarray | Tensor:
        """The gradient of the loss at images x (N, C, H, W) for labels y, indices (N,) or one-hot; same type as x."""
        if training_mode or self.is_rnn or self._use_amp:
            return super().loss_gradient(x, _one_hot(y, self.nb_classes), training_mode, **kwargs)
        inputs = torch.as_tensor(x if isinstance(x, Tensor) else np.require(x, self._dtype(x), "W")).to(self._device)
        try:
            gradient, _ = self._pass(inputs, torch.as_tensor(y).to(self._device))
        except _NoInputGradient:
            return super().loss_gradient(x, _one_hot(y, self.nb_classes), training_mode, **kwargs)
        return gradient if isinstance(x, Tensor) else gradient.cpu().contiguous().numpy()

    def _pass(self, x: Tensor, y: Tensor, is_direction: bool = False) -> tuple[Tensor, Tensor]:
        """The gradient of the loss and the outputs, of one forward and one backward pass.

        :param is_direction: whether only the direction of the gradient of each image matters.
        """
        inputs = x.detach().requires_grad_(True)
        with torch.enable_grad(), gradient_autocast(self):
            outputs = gradient_module(self)(inputs)
        leaf = outputs.detach().requires_grad_(True)
        with torch.enable_grad():
            loss = loss_of(self, leaf, y)
        try:
            (of_outputs,) = torch.autograd.grad(loss, leaf)
            if is_direction and type(self.loss) is nn.CrossEntropyLoss and not self.loss.label_smoothing:
                of_outputs = _unrounded(of_outputs, leaf.detach(), y)
            (gradient,) = torch.autograd.grad(outputs, inputs, of_outputs)
        except RuntimeError as error:
            raise _NoInputGradient from error
        return gradient, outputs.detach()

    def _apply_preprocessing(self, x: Any, y: Any, fit: bool = False, no_grad: bool = True) -> tuple[Any, Any]:
        """ART's, in the type that the model takes: some of its defences return float64."""
        x, y = super()._apply_preprocessing(x, y, fit=fit, no_grad=no_grad)
        return x.astype(self._dtype(x), copy=False) if isinstance(x, np.ndarray) else x, y

    def _dtype(self, x: np.ndarray) -> np.dtype:
        """The type in which the model takes images: float32, or float64 if it has such parameters."""
        double = x.dtype == np.float64 and any(p.dtype is torch.float64 for p in self.model.parameters())
        return x.dtype if double or x.dtype == object else np.dtype(np.float32)


def _unrounded(gradient: Tensor, logits: Tensor, y: Tensor) -> Tensor:
    """The gradient of cross-entropy at logits (N, classes), where float32 rounds it divided by the share of the other classes.

    That gradient is the softmax less the label. Where the softmax is 1 up to a rounding, the label's own logit drops out of
    the gradient, and then all of it.

    :param y: indices (N,), or rows (N, classes); those that are not one-hot keep their gradient.
    """
    label = (F.one_hot(y.long(), logits.shape[1]) if y.ndim == 1 else y).to(logits.dtype)
    if label.shape != logits.shape:
        return gradient
    others = logits.masked_fill(label > 0, -torch.inf)
    share = (others.logsumexp(1) - logits.logsumexp(1)).exp()  # of the other classes, the rest of 1
    is_rounded = (share < _ROUNDED) & (label.amax(1) == 1) & ((label > 0).sum(1) == 1) & others.amax(1).isfinite()
    return torch.where(is_rounded[:, None], others.softmax(1) - label, gradient)


def ascent(logits: Tensor, y: Tensor) -> Tensor:
    """The direction (N, classes) in which the cross-entropy of each image rises at logits, for labels (N,).

    It is the gradient, the softmax less the label. Where float32 rounds that away, it is the gradient divided by the share
    of the other classes.
    """
    leaf = logits.detach().requires_grad_(True)
    with torch.enable_grad():
        F.cross_entropy(leaf, y, reduction="sum").backward()
    assert leaf.grad is not None
    return _unrounded(leaf.grad, leaf.detach(), y)


def ordered_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Numbers (N,) in the order of the cross-entropy of logits (N, classes) and labels (N,).

    They are the cross-entropy itself; where float32 rounds it, its logarithm, which is negative then.
    """
    own = logits.gather(1, y[:, None])[:, 0]
    odds = logits.scatter(1, y[:, None], -torch.inf).logsumexp(1) - own  # log of the others' share over the label's
    return torch.where(odds.sigmoid() < _ROUNDED, odds, F.cross_entropy(logits, y, reduction="none"))


def _one_hot(y: np.ndarray | Tensor, classes: int) -> np.ndarray | Tensor:
    if y.ndim > 1:
        return y
    return F.one_hot(y.long(), classes) if isinstance(y, Tensor) else np.eye(classes, dtype=np.float32)[y]
