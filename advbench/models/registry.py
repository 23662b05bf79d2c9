"""Names of the report models, and their weights as safetensors files that say what they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from advbench.models.tapped import TappedModule

MODELS = {
    "cnn2": "two 5x5 convolutions of report 004 for 28 x 28 images, with taps AD(0)..AD(2)",
    "lenet": "LeNet of report 002, with taps AD(0)..AD(3)",
    "lipschitz": "spectrally normalised CNN with a certified l2 radius, with taps AD(0)..AD(3)",
    "resnet32": "ResNet-32 of Metzen et al. (2017), section 4.1, with taps AD(0)..AD(4)",
    "small-cnn": "two convolutions and three fully connected layers of report 003, with taps AD(0)..AD(2)",
    "vgg": "VGG-like network of report 000, max-pooling, with taps AD(0)..AD(3)",
    "vgg-average": "the same with average pooling",
    "vgg16": "VGG16 as torchvision publishes it (Simonyan & Zisserman, 2015), with taps AD(0)..AD(5)",
    "vgg16-linear": "the same with one linear layer on pooled features in place of its three",
    "vgg16-narrow": "the same with an eighth of the channels",
}
_CLASSES = {
    "cnn2": "advbench.models.cnn:TwoLayerCNN",
    "lenet": "advbench.models.lenet:LeNet",
    "lipschitz": "advbench.models.lipschitz:LipschitzCNN",
    "resnet32": "advbench.models.resnet:ResNet32",
    "small-cnn": "advbench.models.small_cnn:SmallCNN",
    "vgg": "advbench.models.vgg:VGG",
    "vgg-average": "advbench.models.vgg:AverageVGG",
    "vgg16": "advbench.models.vgg16:VGG16",
    "vgg16-linear": "advbench.models.vgg16:LinearVGG16",
    "vgg16-narrow": "advbench.models.vgg16:NarrowVGG16",
}


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
    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2470, 0.2435, 0.2616)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of the channels that torchvision's ImageNet networks are trained with."""

_SPECS = {
    "cnn2": ModelSpec("cnn2", (1, 28, 28), mean=(0.0,), std=(1.0,)),
    "lenet": ModelSpec("lenet", (1, 28, 28), mean=(0.0,), std=(1.0,)),
    "lipschitz": ModelSpec("lipschitz", mean=(0.0,), std=(1.0,)),
    "resnet32": ModelSpec("resnet32"),
    "small-cnn": ModelSpec("small-cnn", mean=(0.0,), std=(1.0,)),
    "vgg": ModelSpec("vgg", mean=(0.0,), std=(1.0,)),
    "vgg-average": ModelSpec("vgg-average", mean=(0.0,), std=(1.0,)),
    **{name: ModelSpec(name, (3, 224, 224), 10, *IMAGENET) for name in ("vgg16", "vgg16-linear", "vgg16-narrow")},
}


def create(name: str | ModelSpec, seed: int = 0) -> TappedModule:
    """A report model with freshly drawn weights, in eval mode; the global random state is left as it was.

    :param name: a registry name (its report's form), or a whole specification.
    :raises UsageError: for an unknown name.
    """
    import torch

    known = name if isinstance(name, str) else name.name
    if known not in MODELS:
        raise did_you_mean("model", known, list(MODELS))
    spec = _SPECS[name] if isinstance(name, str) else name
    module_name, class_name = _CLASSES[spec.name].split(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = getattr(import_module(module_name), class_name)(
            spec.classes, spec.input_shape[0], spec.mean, spec.std
        )
    return network.eval()


def save(path: Path, module: TappedModule, spec: ModelSpec) -> None:
    """Write weights and specification to a safetensors file."""
    from advbench.checkpoint import save_tensors

    save_tensors(path, module.state_dict(), asdict(spec))


def load(path: Path) -> tuple[TappedModule, ModelSpec]:
    """A model that ``save`` wrote, in eval mode, and its specification.

    :raises UsageError: if the file is missing or is not one that ``save`` wrote.
    """
    import torch

    from advbench.checkpoint import load_tensors

    if not path.is_file():
        raise UsageError(f"no model at {path}")
    try:
        tensors, meta = load_tensors(path)
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in meta.items()
        }
        spec = ModelSpec(**fields)
        with torch.device("meta"):  # a file from someone else may ask for more weights than it holds
            wanted = {name: tensor.shape for name, tensor in create(spec).state_dict().items()}
        if wanted != {name: tensor.shape for name, tensor in tensors.items()}:
            raise ValueError(f"its weights are not those of {spec.name} with {spec.classes} classes")
        module = create(spec)
        module.load_state_dict(tensors)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{path} is not a model of advbench: {(str(error).splitlines() or ['unreadable'])[0]}"
        ) from error
    return module, spec
