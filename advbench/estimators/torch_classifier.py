"""Any ``nn.Module`` as an ART ``PyTorchClassifier``, with a gradient path that does no more than it must."""

from __future__ import annotations

import copy
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.fx.experimental.optimization import fuse
from torch.optim.optimizer import register_optimizer_step_post_hook

from advbench import models
from advbench.device import bfloat16, float32, images_at_a_time, resolve_device
from advbench.models.tapped import TappedModule
from advbench.seeds import own_global_state

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

    :param precision: ``exact`` for float32 gradients, the module's own up to rounding; ``fast`` for bfloat16 ones
        where the processor multiplies in it, and the same elsewhere. Both are those of a copy with batch norm folded
        and channels last. Predictions are the module's own in float32 either way.
    :param optimizer: what trainers step; attacks need none.
    :param clip_values: to what attacks confine images; None where a report did not.
    :param compiled: whether gradients come from ``torch.compile``, which needs a C++ compiler and half a minute. On a CPU it
        is hardly faster, since convolutions are nearly all of the time; on a GPU it has not been measured.
    :param loss: (logits, labels) -> scalar, which attacks climb and trainers descend; by default cross-entropy.
    :raises ValueError: for another precision.
    """
    wrapped = TorchClassifier(
        module,
        loss or nn.CrossEntropyLoss(),
        tuple(input_shape),
        classes,
        optimizer,
        precision=precision,
        compiled=compiled,
        clip_values=clip_values,
        device_type="cpu",
    )
    wrapped.to(resolve_device(device) if isinstance(device, str) else device)
    return wrapped


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

    Stock ART fills the parameter gradients that no attack reads; here only the input's are computed. Training
    mode, recurrent layers and ART preprocessing take ART's own path.

    :param precision: see :func:`classifier`.
    :param compiled: likewise.
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
        super().__init__(
            model,
            loss,
            input_shape,
            nb_classes,
            optimizer,
            clip_values=clip_values,
            preprocessing=preprocessing,
            **kwargs,
        )
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

    def to(self, device: torch.device) -> TorchClassifier:
        """Move the model to a device; ART's constructor only knows "the" GPU."""
        self._device = device
        self._device_type = "cpu" if device.type == "cpu" else "gpu"
        self._model.to(device)
        self._copy = None
        return self

    @property
    def gradient_module(self) -> nn.Module:
        """The module whose gradients attacks use, in eval mode: a copy of the model with batch norm folded.

        The copy is made again whenever a parameter or buffer of the model has changed, as PyTorch counts it: writing to
        ``parameter.data`` goes unseen.
        """
        self._model.eval()
        state = tuple((id(t), t._version) for t in (*self.model.parameters(), *self.model.buffers()))
        if self._copy is None or self._copy[0] != state:
            copied = _folded_copy(self.model, self.input_shape, self._device)
            if self.compiled:
                copied = _compiled(copied, self.input_shape, self._device)
            self._copy = (state, copied)
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


def _count_fused_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """A fused optimizer changes parameters without counting the change, by which attacks would go on with old weights."""
    for group in optimizer.param_groups:
        if group.get("fused"):
            for parameter in group["params"]:
                increment_version(parameter)


register_optimizer_step_post_hook(_count_fused_step)


def _one_hot(y: np.ndarray | Tensor, classes: int) -> np.ndarray | Tensor:
    if y.ndim > 1:
        return y
    return nn.functional.one_hot(y.long(), classes) if isinstance(y, Tensor) else np.eye(classes, dtype=np.float32)[y]


def _folded_copy(module: nn.Module, input_shape: tuple[int, ...], device: torch.device) -> nn.Module:
    """The module with batch norm folded and channels last, or only the latter where folding cannot be trusted."""
    plain = copy.deepcopy(module).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    if not any(isinstance(part, nn.BatchNorm2d) for part in plain.modules()):
        return plain
    try:
        folded = _folded(plain)
        _check_equal(folded, plain, input_shape, device)
    except Exception as error:  # torch.fx refuses some models in many ways; none of them may change a result
        warnings.warn(f"batch norm is not folded, gradients will be slower: {_first_line(error)}", stacklevel=3)
        return plain
    return folded.to(memory_format=torch.channels_last)


def _compiled(module: nn.Module, input_shape: tuple[int, ...], device: torch.device) -> nn.Module:
    """The module with its forward compiled in place, or as it was where that fails or changes a result."""
    fast = copy.deepcopy(module)
    try:
        fast.compile()
        _check_equal(fast, module, input_shape, device)
    except Exception as error:  # no compiler, or a model that it refuses
        warnings.warn(f"the model is not compiled, gradients will be slower: {_first_line(error)}", stacklevel=3)
        return module
    return fast


def _check_equal(fast: nn.Module, plain: nn.Module, input_shape: tuple[int, ...], device: torch.device) -> None:
    """:raises AssertionError: if logits or gradients differ by more than a thousandth of the largest."""
    probe = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    for found, wanted in zip(_logits_and_gradient(fast, probe), _logits_and_gradient(plain, probe), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3 * float(wanted.abs().max()))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _logits_and_gradient(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_(True)
    with torch.enable_grad(), float32(), own_global_state():  # a random module draws the same for both
        logits = module(x)
        (gradient,) = torch.autograd.grad(logits.square().sum(), x)
    return logits.detach(), gradient


def _folded(module: nn.Module) -> nn.Module:
    if not isinstance(module, TappedModule):
        return fuse(module)
    folded = copy.deepcopy(module)  # stage by stage, so that the taps stay
    folded.stages = nn.ModuleList([fuse(stage) for stage in module.stages])
    folded.head = fuse(module.head)
    return folded
