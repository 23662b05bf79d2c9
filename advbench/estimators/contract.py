"""The conditions that a model must meet for its figures to mean anything, checked on the images."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch._dynamo.eval_frame import OptimizedModule
from torch.nn.parameter import is_lazy

from advbench import estimators
from advbench.data.find import Images
from advbench.device import images_at_a_time
from advbench.errors import UsageError
from advbench.estimators.adapters import ExportedModel, InteriorModel, PiecewiseModel, RegularModel, ZeroGradientModel
from advbench.estimators.averaged import DRAWS, AveragedModel
from advbench.estimators.backward import check_backward
from advbench.estimators.fast import GradientModel, alike, calling_model, logits, probe_gradient
from advbench.estimators.outputs import AsLogits, Outputs, compare_outputs, is_saturated, last_function
from advbench.files import first_line, place
from advbench.models.tapped import Normalize
from advbench.seeds import own_global_state

_FEW = 8  # images that are predicted again and again
_PIECES = (64, 50, 32, 20, 16, 10, 8, 5, 4, 3, 2, 1)  # numbers of images that a model may have been exported for


def normalised(module: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> nn.Module:
    """The module behind a layer that subtracts the mean and divides by the standard deviation of each channel.

    :raises UsageError: for numbers that do not fit images in [0, 1], or not one a channel.
    """
    for name, values in (("--mean", mean), ("--std", std)):
        if len(values) not in (1, channels):
            raise UsageError(f"{name} must have one number a channel ({channels}), found {len(values)}")
        if name == "--std" and min(values) == 0:
            raise UsageError("--std must be greater than 0")
        if max(values) > 1 or min(values) < 0:
            found = ", ".join(f"{value:g}" for value in values)
            raise UsageError(
                f"{name} is of images in [0, 1], found {found}{'; divide by 255' if max(values) > 1 else ''}"
            )
    return nn.Sequential(Normalize(mean, std), module)


def classifier(
    module: nn.Module, images: Images, device: torch.device, outputs: Outputs | None = None
) -> tuple[estimators.TorchClassifier, list[str]]:
    """The model as an estimator, and notes on what is unusual about it.

    Its gradients are in float32: robust accuracy must not depend on whether the processor has bfloat16.

    :param outputs: what the model returns; by default logits, and what is evidently something else is refused.
    :raises UsageError: for a model that does not take the images, does not return one finite number a class, returns
        something else than ``outputs``, computes on another device, or has other classes than the data.
    """
    first = torch.from_numpy(images.x[: images_at_a_time(images.x.shape[1:], device, most=64)]).to(device)
    if isinstance(module, OptimizedModule):
        module = module._orig_mod  # the same function, which works without a compiler and with hooks
    torch._functorch.config.donated_buffer = False  # or compiled parts refuse several gradients of one pass
    module = ExportedModel(module) if "eval" in vars(module) else module
    notes = _prepare(module, device, first)
    module, more = _of_any_number(module, first)
    notes += more
    raw = _outputs(module, first)
    module, more = _regular(module, first[:1])
    notes += more
    notes += compare_outputs(raw.double().cpu().numpy(), outputs, partial(last_function, module, first[:1]))
    _compare_classes(max(2, raw.shape[1]), images)
    if outputs in ("probabilities", "sigmoid", "log-sigmoid") or raw.shape[1] == 1:
        kind = outputs or "logits"
        module = AsLogits(module, kind, is_wide=_runs(AsLogits(module, kind, is_wide=True), first))
    module, more = _with_gradient_at_the_ends(module, first[:8])
    notes += more
    found = _outputs(module, first)
    classes = found.shape[1]
    if _is_random(module, first, found):
        module = AveragedModel(module)
        notes.append(
            f"two predictions of the same images differ: evaluated, and its gradients taken, as the mean of {DRAWS} draws"
        )
    module, more = _differentiable(module, first[:8])
    notes += more
    estimator = estimators.classifier(module, images.x.shape[1:], classes, device=device)
    broken = saturated = 0
    for part in images.x.parts():
        predicted = estimator.predict(images.x[part])
        broken += int((~np.isfinite(predicted)).any(1).sum())
        saturated += int(is_saturated(predicted, outputs).sum())
    if broken:
        raise UsageError(f"the model returns NaN or infinity for {broken} of {len(images.x)} images")
    if saturated:
        notes.append(
            f"{saturated} of {len(images.x)} images have probabilities of exactly 0 and 1, behind which the gradient is lost: "
            "return the logits before them"
        )
    return estimator, notes


def _is_random(module: nn.Module, x: Tensor, found: Tensor) -> bool:
    """Whether further predictions of images x, or of the first of them, differ from the ones found.

    Several, for a model that draws one of a few transformations for a whole batch may draw the same again.
    """
    if not alike(found, _outputs(module, x), 1e-4).all():
        return True
    first = _outputs(module, x[:_FEW])  # beside all the others they may differ for another reason
    return not all(alike(first, _outputs(module, x[:_FEW]), 1e-4).all() for _ in range(6))


def _of_any_number(module: nn.Module, x: Tensor) -> tuple[nn.Module, list[str]]:
    """The module, or a ``PiecewiseModel`` of one that takes one number of images only; and a note on that."""
    if not (_runs(module, x) and _runs(module, x[:1])):
        for size in _PIECES:
            piecewise = PiecewiseModel(module, size)
            if _runs(piecewise, x) and _answers_in_rows(piecewise, x[:size]):
                images = f"{size} images" if size > 1 else "one image"
                return piecewise, [f"the model takes {images} at a time: evaluated in such pieces"]
    return module, []


def _answers_in_rows(module: nn.Module, x: Tensor) -> bool:
    """Whether a row is that of an image, and not that of a class: the rows of images x in reverse are those of x in reverse."""
    found = _outputs(module, x)
    if not alike(found, _outputs(module, x), 1e-4).all():
        return True  # random: two predictions cannot tell
    return bool(alike(found.flip(0), _outputs(module, x.flip(0)), 1e-4).all())


def _regular(module: nn.Module, x: Tensor) -> tuple[nn.Module, list[str]]:
    """The module, or a ``RegularModel`` of one that returns half precision, more than logits, or no rows for a single image x.

    And a note on the logits that were taken out.
    """
    _outputs(module, x)
    with torch.no_grad(), calling_model():
        outputs = module(x.clone())
    if not isinstance(outputs, Tensor):
        name = type(outputs).__name__
        return RegularModel(module), [f"the model returns more than logits ({name}): its field 'logits' is evaluated"]
    regular = outputs.ndim == 2 and outputs.dtype in (torch.float32, torch.float64)
    return (module if regular else RegularModel(module)), []


def _leave_inference(module: nn.Module) -> None:
    """Put a copy in the place of every tensor that was made in ``torch.inference_mode``."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None and weight.is_inference():
                part._parameters[name] = nn.Parameter(weight.clone(), weight.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_inference():
                part._buffers[name] = buffer.clone()


def _prepare(module: nn.Module, device: torch.device, x: Tensor) -> list[str]:
    """Bring the module to eval mode and the device, and to float32 unless it takes images x as it is.

    Returns notes on what was unusual.
    """
    notes = []
    tensors = list(itertools.chain(module.parameters(), module.buffers()))
    if any(is_lazy(t) for t in tensors):
        raise UsageError(
            "the model has lazy layers without weights: pass images through it once, then train it or load its weights"
        )
    elsewhere = {str(t.device) for t in tensors if t.device.type != device.type}
    if "meta" in elsewhere:
        raise UsageError("the model has weights without values, on the device 'meta': make it on the cpu, and fill it")
    if elsewhere:
        notes.append(f"the model was on {', '.join(sorted(elsewhere))}: moved to {device}")
    if any(t.is_inference() for t in tensors):
        notes.append(
            "the model was made in torch.inference_mode, whose weights let no gradient through: copies are evaluated"
        )
        _leave_inference(module)
    module.to(device)
    if module.training:
        notes.append("the model was in train mode: evaluated in eval mode")
    module.eval()
    if any(part.training for part in module.modules()):
        stuck = next(type(part).__name__ for part in module.modules() if part.training)
        raise UsageError(
            f"the model stays in train mode after eval() ({stuck}): let its train() call super().train(mode)"
        )
    dtypes = {str(t.dtype).removeprefix("torch.") for t in tensors if t.is_floating_point()} - {"float32"}
    if dtypes and not _runs(module, x):
        notes.insert(0, f"the model was in {', '.join(sorted(dtypes))}: evaluated in float32")
        module.float()
    return notes


def _runs(module: nn.Module, x: Tensor) -> bool:
    try:
        _outputs(module, x)
    except UsageError:
        return False
    return True


def _outputs(module: nn.Module, x: Tensor) -> Tensor:
    try:
        with torch.no_grad(), calling_model():
            out = logits(module(x.clone()), len(x))  # a clone: the model may change its input in place
            out = out.detach() if isinstance(out, Tensor) else out  # it may switch gradients on
    except Exception as error:  # a user's model may raise anything
        shape = tuple(x.shape[1:])
        raise UsageError(
            f"the model does not take images of shape {shape} on {x.device} (digits and folders come in that of --shape C,H,W): "
            f"{place(error)}"
        ) from error
    if not isinstance(out, Tensor):
        name, inside = type(out).__name__, f" of {len(out)}" if isinstance(out, (tuple, list, dict)) else ""
        article = "an" if name[0] in "AEIOUaeiou" else "a"
        raise UsageError(f"the model returns {article} {name}{inside}, not logits; wrap it to return the logits alone")
    if out.device.type != x.device.type:
        raise UsageError(
            f"the model was given images on {x.device} and answers on {out.device}; take .to() and .cuda() out of its forward"
        )
    if out.is_complex():
        raise UsageError("the model returns complex numbers, not logits; return their real part or their size")
    if out.shape == (len(x),):
        return out[:, None]
    if out.ndim != 2 or len(out) != len(x):
        raise UsageError(
            f"the model must return logits ({len(x)}, classes) for {len(x)} images, found {tuple(out.shape)}"
        )
    return out


def _compare_classes(classes: int, images: Images) -> None:
    low, high = int(images.y.min()), int(images.y.max())
    if low == 1 and high == classes:
        raise UsageError(
            f"the labels run from 1 to {high} and the model has outputs 0..{classes - 1}; subtract 1 from y"
        )
    if high >= classes:
        raise UsageError(f"the labels go up to {high} and the model has {classes} outputs, 0..{classes - 1}")
    if images.classes is not None and images.classes != classes:
        raise UsageError(
            f"the model has {classes} outputs and {images.name} {images.classes} classes; for a folder, "
            "name the output of each class with --labels"
        )


def _differentiable(module: nn.Module, x: Tensor) -> tuple[nn.Module, list[str]]:
    """The module, or one of the same outputs and the gradient zero where none reaches images x, and a note on that."""
    check_backward(module, x)
    _outputs(module, x)  # a model that refuses so few images is not one without a gradient
    why = "detach, NumPy or no_grad in the model"
    try:
        if _passes_gradient(GradientModel(module), x):
            if isinstance(module, AveragedModel) or _is_the_same_for_gradients(module, x):
                return module, []
            why = "while gradients are computed, the model returns other outputs"
    except Exception as error:  # a user's model may raise anything
        why = first_line(error)
    return ZeroGradientModel(module), [
        f"NO GRADIENT reaches the images ({why}): only attacks without gradients do anything"
    ]


def _is_the_same_for_gradients(module: nn.Module, x: Tensor) -> bool:
    """Whether the outputs for images x, of the same random draws, are those of a call for gradients, up to a rounding."""
    found = []
    for enabled in (False, True):
        with own_global_state(0), torch.set_grad_enabled(enabled), calling_model():
            found.append(logits(module(x.detach().clone().requires_grad_(enabled).clone()), len(x)).detach().double())
    return bool(alike(found[0], found[1], 1e-2).all())


def _with_gradient_at_the_ends(module: nn.Module, x: Tensor) -> tuple[nn.Module, list[str]]:
    """The module, or an ``InteriorModel`` of one whose gradient is lost where images x are 0 or 1; and a note on that."""
    draw = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    # an attack takes pixels to the ends that the images do not have there
    x = torch.where(draw < 0.1, (draw < 0.05).to(x), x)
    found, interior = [], InteriorModel(module)
    try:
        for each in (module, interior):
            with own_global_state(0):  # the same random draws for both
                found.append(probe_gradient(each, x))
        own, inside = found
        if own is None or inside is None:
            return module, []
        hidden = (own == 0) & (inside.abs() > 1e-3 * inside.abs().mean())  # that of a square is nearly 0 inside as well
        is_lost = [hidden[x == end].sum() > (own != 0)[x == end].sum() for end in (0, 1)]
        if not any(is_lost) or not _is_the_same_for_gradients(interior, x):
            return module, []
    except Exception:  # a user's model may raise anything
        return module, []
    return interior, ["the gradient of pixels of exactly 0 or 1 is lost, as in a clamp: it is taken just inside [0, 1]"]


def _passes_gradient(module: nn.Module, x: Tensor) -> bool:
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        outputs = module(x)
        return outputs.requires_grad and torch.autograd.grad(outputs.sum(), x, allow_unused=True)[0] is not None
