"""FGSM from a random start with aligned gradients (Wong et al., 2020; Andriushchenko & Flammarion, 2020)."""

from __future__ import annotations

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from advbench import checks
from advbench.estimators import clipped
from advbench.trainers.weighted import WeightedAdversarialTrainer


class GradAlignTrainer(WeightedAdversarialTrainer):
    """Minimises J(x') + lambda * mean(1 - cos(grad l(x), grad l(x + eta))), gradients those at the image.

    eta is uniform in [-eps, eps]; x' = x + clamp(eta + step * sgn(grad l(x + eta)), -eps, eps) is one step of FGSM from
    that random start (https://arxiv.org/abs/2001.03994, algorithm 3) and counts as constant. The second term is GradAlign
    (https://arxiv.org/abs/2007.02617, section 4): where the loss is not linear within eps one step misjudges it, and
    training on that step overfits catastrophically.

    Gradients at images are computed in eval mode, so that they differ neither by dropout nor by the statistics of a batch;
    J(x') in train mode. Both gradients are differentiated, as in the formula; the authors' code holds the first constant,
    and starts FGSM at x itself. Images at which a gradient is exactly zero do not count.

    :param classifier: an ART PyTorch classifier for images in [0, 1] that has an optimizer; J is its loss, which must be
        a sum or a mean over images and differentiable twice.
    :param eps: the l-inf bound, for images in [0, 1].
    :param weight: lambda; 0 is FGSM-RS alone. By default the paper's for CIFAR-10, :func:`paper_weight`.
    :param step: of FGSM, in units of eps.
    :raises ValueError: for an eps or a step that is not positive, a negative weight, and as
        :class:`WeightedAdversarialTrainer` does.

    A step costs three forward passes and five backward ones: to x, to x + eta and to the weights at x', and twice more
    through the first two. Without GradAlign it is two of each.
    """

    def __init__(
        self, classifier: PyTorchClassifier, eps: float, weight: float | None = None, step: float = 1.25
    ) -> None:
        super().__init__(classifier, [], (1.0,))
        self.eps = float(checks.positive(eps, "eps"))
        self.weight = paper_weight(self.eps) if weight is None else float(checks.positive(weight, "weight", zero=True))
        self.step = float(checks.positive(step, "step"))

    def _backward(self, x: Tensor, y: Tensor, aims: Tensor) -> Tensor:
        self.classifier.model.eval()
        eta = self.eps * (2 * torch.rand_like(x) - 1)
        started = self._gradient(x + eta, y)
        moved = x + (eta + self.step * self.eps * started.detach().sign()).clamp(-self.eps, self.eps)
        penalty = torch.zeros((), device=x.device)
        if self.weight:
            penalty = self.weight * misalignment(self._gradient(x, y), started)
            weights = [parameter for parameter in self.classifier.model.parameters() if parameter.requires_grad]
            penalty.backward(inputs=weights)
        return self._loss(clipped(self.classifier, moved), y, 1.0) + penalty.detach()

    def _gradient(self, x: Tensor, y: Tensor) -> Tensor:
        inputs = x.detach().requires_grad_(True)
        with sdpa_kernel(SDPBackend.MATH):  # the other ways to compute attention have no second derivative
            loss = self._mean_loss(inputs, y)
        return torch.autograd.grad(loss, inputs, create_graph=self.weight > 0)[0]


def misalignment(first: Tensor, second: Tensor) -> Tensor:
    """1 - cos of two gradients an image, a scalar in [0, 2]: the mean over the images at which neither is zero, or 0.

    :param first: (N, ...); so is ``second``.
    """
    first, second = first.flatten(1), second.flatten(1)
    largest = [gradient.detach().abs().amax(1, keepdim=True) for gradient in (first, second)]
    nonzero = ((largest[0] > 0) & (largest[1] > 0)).squeeze(1)
    # a cosine has no scale: divided by the largest entry, squares of tiny gradients do not underflow
    a, b = first[nonzero] / largest[0][nonzero], second[nonzero] / largest[1][nonzero]
    if not len(a):
        return (first.sum() + second.sum()) * 0
    return 1 - torch.nn.functional.cosine_similarity(a, b, dim=1).mean()


def paper_weight(eps: float) -> float:
    """lambda of the paper for CIFAR-10: 0.02 * 10^(255 eps / 8), so 0.2 at 8/255; at most 2, its value at 16/255."""
    return min(0.02 * 10 ** (255 * eps / 8), 2.0)
