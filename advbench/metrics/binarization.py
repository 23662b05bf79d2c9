"""The binarization test of Zimmermann et al. (2022, https://arxiv.org/abs/2206.13991): does the attack find planted adversarial images?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn
from torch._dynamo.eval_frame import OptimizedModule

from advbench.device import images_at_a_time
from advbench.estimators import TorchClassifier, calling_model
from advbench.metrics.figures import proportion
from advbench.metrics.sanity import Check, MakeAttack

_INNER_RADIUS = 0.95  # of eps: eta in the authors' code
_CLOSENESS = 0.999  # how far the boundary is moved from the copies to the planted image
_DRAWS = 3  # of copies and planted image, until a readout separates them


class BinarizedModel(nn.Module):
    """A network with linear readouts of two classes on the input of its last linear layer, or on its logits.

    The readouts are rows (N, D) of ``weight``: one for each image of a batch, or one for all.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.weight, self.bias = torch.empty(0), torch.empty(0)
        self._seen: Tensor | None = None
        parts = list(module.modules())
        linear = [part for part in parts if isinstance(part, nn.Linear)]
        if any(isinstance(part, OptimizedModule) or part._compiled_call_impl for part in parts):
            linear = []  # compiled code skips hooks
        self._hook = linear[-1].register_forward_pre_hook(self._keep) if linear else None

    def unhook_where_it_fails(self, x: Tensor) -> None:
        """Read the logits where the network does not run on images x while it has a hook, as one that scripts a layer."""
        try:
            with torch.no_grad():
                self.features(x)
        except Exception:  # a user's model may raise anything
            self.release()

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen = inputs[0]

    def features(self, x: Tensor) -> Tensor:
        """The input of the readout (N, D) for images (N, C, H, W)."""
        self._seen = None
        with calling_model():
            logits = self.module(x.clone())  # a clone: the model may change its input in place
        seen = logits if self._seen is None or len(self._seen) != len(x) else self._seen
        found = seen.flatten(1).float()
        wide = self.weight.shape[-1]
        if self.weight.ndim == 2 and found.shape[1] != wide:  # other layers answer where a gradient is wanted
            found = logits.flatten(1).float() if logits[0].numel() == wide else found.new_zeros(len(x), wide)
        return found

    def forward(self, x: Tensor) -> Tensor:
        if len(self.weight) not in (1, len(x)):
            raise ValueError(f"{len(self.weight)} readouts do not fit {len(x)} images: attack them in one batch")
        uncut = 0 * x.flatten(1).sum(1)  # a gradient of zero where the network lets none through
        score = (self.features(x) * self.weight).sum(1) + self.bias + uncut
        return torch.stack([-score, score], 1)

    def release(self) -> None:
        """Leave the network as it was."""
        if self._hook is not None:
            self._hook.remove()

    def plant(self, copies: np.ndarray, planted: np.ndarray, device: torch.device) -> bool:
        """Set the readout so that the planted image (C, H, W) is alone in class 1; whether one was found."""
        from sklearn.svm import SVC

        images = torch.from_numpy(np.concatenate([copies, planted[None]]))
        with torch.no_grad():
            batches = images.split(images_at_a_time(planted.shape, device))
            features = torch.cat([self.features(part.to(device)) for part in batches])
        points = features.double().cpu().numpy()
        scale = points.std()
        if not scale > 0:
            return False
        label = np.arange(len(points)) == len(points) - 1
        weight = SVC(kernel="linear", C=1e6).fit(points / scale, label).coef_[0]
        score = points @ weight
        nearest, target = score[:-1].max(), score[-1]
        width = target - score[:-1].min()
        if not target > nearest:
            return False
        bias = -float(nearest + _CLOSENESS * (target - nearest)) / width
        self.weight, self.bias = (
            torch.from_numpy(np.atleast_1d(each)).to(device, torch.float32) for each in (weight[None] / width, bias)
        )
        flagged = (features * self.weight).sum(1) + self.bias > 0  # as the model will compute it, in float32
        return bool((flagged.cpu().numpy() == label).all())


def binarization_test(
    classifier: PyTorchClassifier,
    make: MakeAttack,
    x: np.ndarray,
    eps: float,
    norm: str,
    seed: int,
    copies: int = 199,
    steps: int = 50,
) -> Check | None:
    """The share of images in whose eps ball the attack finds an adversarial region that is known to be there.

    Around each image the last layer is replaced by a linear readout that tells noisy copies within 0.95 eps from one
    image at distance eps (algorithm 1 of the paper, which takes 999 copies), so that an adversarial image exists.

    :param make: the attack under test.
    :param x: float32 (N, C, H, W) in [0, 1].
    :param norm: ``linf`` or ``l2``.
    :param steps: of the attack.
    :return: None where no readout separates the copies from the planted image, for any image.
    """
    generator = np.random.default_rng(seed)
    binarized = BinarizedModel(classifier.model).eval()
    options: dict[str, Any] = {"clip_values": (0.0, 1.0), "preprocessing": None, "device_type": "cpu"}
    attacked = TorchClassifier(binarized, nn.CrossEntropyLoss(), classifier.input_shape, 2, **options)
    attacked.to(classifier.device)
    images: list[np.ndarray] = []
    readouts: list[tuple[Tensor, Tensor]] = []
    try:
        binarized.unhook_where_it_fails(torch.from_numpy(x[:1]).to(classifier.device))
        for image in x:
            for _ in range(_DRAWS):
                around = np.clip(image + _inner(generator, (copies, *image.shape), eps, norm), 0, 1)
                planted = np.clip(image + _boundary(generator, image.shape, eps, norm), 0, 1)
                if binarized.plant(np.concatenate([image[None], around]), planted, classifier.device):
                    images.append(image)
                    readouts.append((binarized.weight, binarized.bias))
                    break
        if len({weight.shape for weight, _ in readouts}) > 1:
            return None  # the model does not always come to its last linear layer
        found, together = 0, images_at_a_time(classifier.input_shape, classifier.device)
        for first in range(0, len(images), together):  # a batch, for the readouts belong to its rows
            part = slice(first, first + together)
            binarized.weight, binarized.bias = (torch.cat(each) for each in zip(*readouts[part], strict=True))
            attacked_images, label = np.stack(images[part]), np.zeros(len(images[part]), np.int64)
            adversarial = make(attacked, eps, steps).generate(attacked_images, label)
            found += int((attacked.predict(adversarial).argmax(1) == 1).sum())
    finally:
        binarized.release()
    return Check("binarization test", proportion(found, len(images))) if images else None


def _inner(generator: np.random.Generator, shape: tuple[int, ...], eps: float, norm: str) -> np.ndarray:
    """Uniform in the ball of radius 0.95 eps, one an image."""
    radius = _INNER_RADIUS * eps
    if norm == "linf":
        return generator.uniform(-radius, radius, shape).astype(np.float32)
    direction = generator.standard_normal(shape)
    size = np.linalg.norm(direction.reshape(shape[0], -1), axis=1)
    length = radius * generator.random(shape[0]) ** (1 / np.prod(shape[1:]))
    return (direction * (length / size).reshape(-1, 1, 1, 1)).astype(np.float32)


def _boundary(generator: np.random.Generator, shape: tuple[int, ...], eps: float, norm: str) -> np.ndarray:
    """A random corner of the l-inf ball, or a random point of the l2 sphere."""
    direction = generator.standard_normal(shape)
    direction = np.sign(direction) if norm == "linf" else direction / np.linalg.norm(direction)
    return (eps * direction).astype(np.float32)
