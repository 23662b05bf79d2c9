"""Names of the report models, and their weights as safetensors files that hold their specification."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from advbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from advbench.models.tapped import TappedModule


CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
"""Mean and standard deviation of the channels of CIFAR-10's training images."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of the channels that torchvision's ImageNet networks are trained with."""


@dataclass(frozen=True)
class ModelSpec:
    """What it takes to build a model again.

    :param input_shape: (C, H, W).
    :param mean: per-channel mean of the training images, in [0, 1].
    :param std: per-channel standard deviation of the training images, in [0, 1].
    """

    name: str
    input_shape: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10
    mean: tuple[float, ...] = CIFAR10[0]
    std: tuple[float, ...] = CIFAR10[1]


class _Entry(NamedTuple):
    text: str
    kind: str  # module and class, imported when a model is made
    input_shape: tuple[int, int, int] = (3, 32, 32)
    channels: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0,), (1.0,))  # mean and standard deviation


_ENTRIES = {
    "cnn2": _Entry(
        "two 5x5 convolutions of report 004 for 28 x 28 images, with taps AD(0)..AD(2)", "cnn:TwoLayerCNN", (1, 28, 28)
    ),
    "lenet": _Entry("LeNet of report 002, with taps AD(0)..AD(3)", "lenet:LeNet", (1, 28, 28)),
    "lipschitz": _Entry(
        "spectrally normalised CNN with a certified l2 radius, with taps AD(0)..AD(3)", "lipschitz:LipschitzCNN"
    ),
    "resnet32": _Entry(
        "ResNet-32 of Metzen et al. (2017), section 4.1, with taps AD(0)..AD(4)", "resnet:ResNet32", channels=CIFAR10
    ),
    "small-cnn": _Entry(
        "two convolutions and three fully connected layers of report 003, with taps AD(0)..AD(2)", "small_cnn:SmallCNN"
    ),
    "vgg": _Entry("VGG-like network of report 000, max-pooling, with taps AD(0)..AD(3)", "vgg:VGG"),
    "vgg-average": _Entry("the same with average pooling", "vgg:AverageVGG"),
    "vgg16": _Entry(
        "VGG16 as torchvision publishes it (Simonyan & Zisserman, 2015), with taps AD(0)..AD(5)",
        "vgg16:VGG16",
        (3, 224, 224),
        IMAGENET,
    ),
    "vgg16-linear": _Entry(
        "the same with one linear layer on pooled features in place of its three",
        "vgg16:LinearVGG16",
        (3, 224, 224),
        IMAGENET,
    ),
    "vgg16-narrow": _Entry("the same with an eighth of the channels", "vgg16:NarrowVGG16", (3, 224, 224), IMAGENET),
}

MODELS = {name: entry.text for name, entry in _ENTRIES.items()}
"""What each model is, by name."""


def create(name: str | ModelSpec, seed: int = 0) -> TappedModule:
    """A report model with freshly drawn weights, in eval mode; the global random state is left as it was.

    :param name: a registry name (its report's form), or a whole specification.
    :raises UsageError: for an unknown name, or a mean or std of another number of channels than the images.
    """
    import torch

    known = name if isinstance(name, str) else name.name
    if known not in MODELS:
        raise did_you_mean("model", known, list(MODELS))
    entry = _ENTRIES[known]
    spec = ModelSpec(known, entry.input_shape, 10, *entry.channels) if isinstance(name, str) else name
    channels = spec.input_shape[0]
    for field, values in (("mean", spec.mean), ("std", spec.std)):
        if len(values) not in (1, channels):
            raise UsageError(f"{field} of {known} must have one number a channel ({channels}), found {len(values)}")
    module, _, kind = entry.kind.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = getattr(import_module(f"advbench.models.{module}"), kind)
        return network(spec.classes, channels, spec.mean, spec.std).eval()


def save(path: Path, module: TappedModule, spec: ModelSpec) -> None:
    """Write weights and specification to a safetensors file."""
    from advbench.checkpoint import save_tensors

    save_tensors(path, module.state_dict(), asdict(spec))


def load(path: Path) -> tuple[TappedModule, ModelSpec]:
    """A model that ``save`` wrote, in eval mode, and its specification.

    :raises UsageError: if the file is missing or is not one that ``save`` wrote.
    """
    import torch

    from advbench.checkpoint import load_tensors, reading

    with reading(path, "model"):
        tensors, meta = load_tensors(path)
        meta.pop("card", None)  # of the zoo
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in meta.items()}
        spec = ModelSpec(**fields)
        with torch.device("meta"):  # a file from someone else may ask for more weights than it holds
            expected = {name: tensor.shape for name, tensor in create(spec).state_dict().items()}
        if expected != {name: tensor.shape for name, tensor in tensors.items()}:
            raise ValueError(f"its weights are not those of {spec.name} with {spec.classes} classes")
        module = create(spec)
        module.load_state_dict(tensors)
        return module, spec
