"""A small convolutional variational autoencoder (Kingma & Welling, 2014, https://arxiv.org/abs/1312.6114)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VAE(nn.Module):
    """Two convolutions with stride 2 to a Gaussian over the latent space, and the way back.

    :param shape: (C, H, W) of the images; H and W multiples of 4.
    :param latent: dimensions of the latent space.
    :param width: maps of the first convolution; the second has twice as many.
    :raises ValueError: for another shape.

    ``forward`` takes images (N, C, H, W) in [0, 1] to decoded draws of their latent Gaussian, in (0, 1). There is no
    batch norm, so that an image does not depend on its batch.
    """

    def __init__(self, shape: tuple[int, int, int], latent: int = 128, width: int = 32) -> None:
        super().__init__()
        channels, height, width_of_image = shape
        if height % 4 or width_of_image % 4:
            raise ValueError(f"shape must have a height and a width that are multiples of 4, not {tuple(shape)}")
        small = (2 * width, height // 4, width_of_image // 4)
        size = small[0] * small[1] * small[2]
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(size, 2 * latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, size),
            nn.ReLU(),
            nn.Unflatten(1, small),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
        )

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latent Gaussian, (N, latent) each."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance

    def forward(self, x: Tensor) -> Tensor:
        return self._decoded(*self.posterior(x)).sigmoid()

    def loss(self, x: Tensor, beta: float) -> Tensor:
        """Minus the evidence lower bound in nats an image, the divergence from the prior times beta (Higgins et al., 2017)."""
        mean, log_variance = self.posterior(x)
        error = F.binary_cross_entropy_with_logits(self._decoded(mean, log_variance), x, reduction="sum")
        return (error + beta * divergence(mean, log_variance).sum()) / len(x)

    def _decoded(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        return self.decoder(mean + (log_variance / 2).exp() * torch.randn_like(mean))


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence (N,) of a diagonal Gaussian from the standard one, in nats."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
