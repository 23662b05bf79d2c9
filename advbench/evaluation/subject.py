"""The subject of an evaluation: a model and images, by name or in memory, as an estimator and arrays; and the options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader

from advbench.data import find as images
from advbench.data.find import Images
from advbench.errors import UsageError
from advbench.estimators import BackwardModel, TorchClassifier, identity, preprocessing_of, whole_model
from advbench.evaluation.options import Norm, Options, name_of
from advbench.files import first_line
from advbench.models import find as network
from advbench.models.find import Network

_FORMS = "images and labels (x, y), a data set of (image, label), a DataLoader of (images, labels), a name, a folder or an .npz"


@dataclass(frozen=True)
class Subject:
    """The model, the images and the options of one evaluation.

    :param norm: of the perturbations, one of those of the options.
    :param mean: subtracted from images in [0, 1] in front of the model, a number a channel; empty for nothing.
    :param std: they are then divided by it.
    """

    classifier: TorchClassifier
    images: Images
    options: Options
    seed: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    norm: Norm = "linf"

    @property
    def eps(self) -> tuple[float, ...]:
        """The bounds in the norm."""
        return self.options.eps[self.norm]

    def within(self, norm: Norm) -> Subject:
        """The same in another norm of the options."""
        return replace(self, norm=norm)


def find_model(model: Any, weights: Path | None = None) -> Network:
    """The network of a model: an ``nn.Module``, an ART classifier of PyTorch, or any name of :func:`advbench.models.find.find`.

    :raises UsageError: for anything else, weights beside a model that has its own, or an ART classifier of images that are
        not in [0, 1].
    """
    if isinstance(model, (str, Path)):
        return network.find(str(model), weights)
    if weights is not None:
        raise UsageError(f"--weights belongs to a model that is given by name; {name_of(model)} has its own")
    if isinstance(model, PyTorchClassifier):
        clip = model.clip_values
        if clip is not None and not (np.all(clip[0] == 0) and np.all(clip[1] == 1)):
            found = "..".join(f"{np.min(bound):g}" for bound in clip)
            raise UsageError(
                f"the classifier is of images in {found}, needed are images in [0, 1]; scale them in its module"
            )
        module = whole_model(model) if preprocessing_of(model) else model.model
        return Network(module, tuple(model.input_shape) if len(model.input_shape) == 3 else None)
    if isinstance(model, nn.Module):
        return Network(model)
    raise UsageError(
        f"model must be an nn.Module, an ART PyTorchClassifier or a name ({network.FORMS}), not {name_of(model)}"
    )


def with_backward(module: nn.Module, given: Any) -> nn.Module:
    """The module with the gradient of a stand-in: ``identity``, a name ``file.py:function`` or a function; None for none.

    :raises UsageError: for a name of no function.
    """
    if given is None:
        return module
    function = identity if given == "identity" else network.member(given) if isinstance(given, str) else given
    if not callable(function):
        raise UsageError(f"--backward {name_of(given)} is no function (model, images) -> logits")
    return BackwardModel(module, function, name_of(given))


def find_images(options: Options, shape: tuple[int, int, int] | None, seed: int, data_dir: Path | None) -> Images:
    """The images of an evaluation: in memory, or by any name of :func:`advbench.data.find.find`.

    :param shape: (C, H, W) of the model.
    :raises UsageError: for anything that is not images with labels.
    :raises DataUnavailable: where a named data set cannot be had.
    """
    source, n = options.data, options.n
    if isinstance(source, (str, Path)):
        return images.find(str(source), shape, options.labels, n, seed, data_dir)
    if options.labels:
        raise UsageError("--labels names the output of each class folder; the data have labels of their own")
    if data_dir is not None:
        raise UsageError("--data-dir is the folder of a named data set; the data are given")
    x, y = _pair(source, n, seed)
    pixels, notes = images.as_images(x, "x")
    labels, more = images.as_labels(y, len(pixels), "y")
    known = getattr(source, "classes", None)  # of our data sets and torchvision's
    classes = len(known) or None if isinstance(known, (tuple, list)) else None
    return Images(name_of(source), pixels, labels, classes, (*notes, *more))


def _pair(source: Any, n: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n images and their labels as arrays."""
    if isinstance(source, tuple) and len(source) == 2:
        x, y = map(_array, source)
    elif isinstance(source, tuple) and any(isinstance(part, (np.ndarray, Tensor)) for part in source):
        raise UsageError(f"data must be (images, labels), found {name_of(source)}")
    elif hasattr(source, "x") and hasattr(source, "y"):  # our data sets
        x, y = _array(source.x), _array(source.y)
    elif isinstance(source, DataLoader):
        x, y = (np.concatenate(parts) for parts in _transposed(source))
    elif (
        hasattr(source, "__getitem__")
        and hasattr(source, "__len__")
        and not isinstance(source, (np.ndarray, Tensor, Mapping))
    ):
        chosen = images.choice(len(source), n, seed).tolist()
        x, y = (np.stack(parts) for parts in _transposed(source[i] for i in chosen))
    else:
        raise UsageError(f"data must be {_FORMS}, not {name_of(source)}")
    if x.ndim and y.ndim and len(x) != len(y):
        raise UsageError(f"data hold {len(x)} images and {len(y)} labels")
    if x.ndim and y.ndim and n is not None and n < len(x):
        chosen = images.choice(len(x), n, seed)
        x, y = x[chosen], y[chosen]
    return x, y


def _transposed(pairs: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images and labels from pairs of one image and its label, or of one batch."""
    xs: list[np.ndarray] = []
    ys: list[np.ndarray] = []
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise UsageError(f"data must give pairs (image, label), found {name_of(pair)}")
        xs.append(_array(pair[0]))
        ys.append(_array(pair[1]))
        if xs[0].shape[-3:] != xs[-1].shape[-3:]:
            raise UsageError(
                f"the images of data have several sizes ({xs[0].shape[-3:]} and {xs[-1].shape[-3:]}); give all the model's"
            )
    if not xs:
        raise UsageError("data hold no image")
    return xs, ys


def _array(value: Any) -> np.ndarray:
    """A tensor, a picture or numbers as an array."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise UsageError("data hold masked values: fill them, or leave those images out")
    if not isinstance(value, Tensor):
        return np.asarray(value)
    if value.is_floating_point() and value.dtype not in (torch.float16, torch.float32, torch.float64):
        value = value.float()  # NumPy has no bfloat16
    try:
        return value.numpy(force=True)
    except (TypeError, RuntimeError) as error:
        raise UsageError(f"data hold a tensor that is no array ({first_line(error)}): give a dense one") from error


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Give a module back as it was: in its mode, on its device, in its precision, with its tensors."""
    parts = list(module.modules())
    modes = [part.training for part in parts]
    tensors: list[tuple[dict[str, Any], str, Tensor, torch.device, torch.dtype]] = [
        (own, name, tensor, tensor.device, tensor.dtype)
        for part in parts
        for own in (part._parameters, part._buffers)
        for name, tensor in own.items()
        if tensor is not None and not is_lazy(tensor)
    ]
    try:
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
        for own, name, before, device, dtype in tensors:
            if before.is_inference():  # a copy is in its place, for no gradient passes it
                own[name] = before
            tensor = own[name]
            if tensor is not None and (tensor.device, tensor.dtype) != (device, dtype):
                tensor.data = tensor.data.to(device, dtype)
