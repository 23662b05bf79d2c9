"""The reformer that report 003 names as future work: a variational autoencoder decodes each image before it is classified."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from torch import Tensor, nn

from advbench import checks
from advbench.checkpoint import load_tensors, save_tensors
from advbench.device import resolve_device
from advbench.loop import batches, descend, train_in_epochs
from advbench.preprocessors.network import VAE
from advbench.seeds import derive


class VAEReformer(PreprocessorPyTorch):
    """Replaces an image by the decoding of one draw of its latent Gaussian (after MagNet, Meng & Chen, 2017).

    It is random and differentiable: an adversary who knows it attacks the composition ``in_front_of(module)``, with gradients
    averaged over draws (:class:`advbench.estimators.ExpectationClassifier`). An attack on the classifier alone overstates it.

    :param shape: (C, H, W) of the images, H and W multiples of 4.
    :param latent: dimensions of the latent space.
    :param width: maps of the first convolution.
    :param beta: weight of the divergence from the prior.
    :param device: ``auto``, ``cpu`` or ``cuda``.
    :param seed: of the weights.
    :raises ValueError: for an argument out of range.
    """

    params = ["latent", "width", "beta"]

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent: int = 128,
        width: int = 32,
        beta: float = 1.0,
        device: str = "auto",
        seed: int = 0,
        apply_fit: bool = False,
        apply_predict: bool = True,
    ) -> None:
        super().__init__(device_type="cpu", is_fitted=True, apply_fit=apply_fit, apply_predict=apply_predict)
        self._device = resolve_device(device)  # ART's constructor always takes the current GPU
        self.shape = tuple(shape)
        self.latent = int(checks.positive(latent, "latent"))
        self.width = int(checks.positive(width, "width"))
        self.beta = checks.positive(beta, "beta", zero=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = VAE(shape, self.latent, self.width).to(self._device).eval()

    def fit(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> None:
        """Train on images with the defaults of :meth:`train`; ART's contract."""
        self.train(x, **kwargs)

    def train(
        self,
        x: np.ndarray,
        batch_size: int = 128,
        nb_epochs: int = 20,
        lr: float = 1e-3,
        seed: int = 0,
        checkpoint: Path | None = None,
    ) -> list[dict[str, Any]]:
        """Train the autoencoder in place on clean images with Adam.

        :param x: float (N, C, H, W) in [0, 1].
        :param seed: of the order of the images and of the latent draws.
        :param checkpoint: a file that each epoch is saved to and the training resumes from.
        :return: one dict an epoch: epoch, loss (minus the evidence lower bound, nats an image), seconds.
        :raises ValueError: for images or numbers out of range.
        """
        images = torch.from_numpy(checks.images(x, "x", self.shape))
        network = self.network.to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(network.parameters(), checks.positive(lr, "lr"), fused=True)

        def step(chosen: Tensor) -> dict[str, Tensor]:
            batch = images[chosen].to(self._device).contiguous(memory_format=torch.channels_last)
            return descend(optimizer, network.loss(batch, self.beta))

        return train_in_epochs(
            "reformer",
            network,
            optimizer,
            nb_epochs,
            partial(batches, len(images), batch_size, epoch_images=None, seed=derive(seed, "order")),
            step,
            checkpoint=checkpoint,
            global_seed=partial(derive, seed, "latent"),
        )

    def forward(self, x: Tensor, y: Any | None = None) -> tuple[Tensor, Any | None]:
        """Images (N, C, H, W) in [0, 1] -> decoded draws of the same shape; torch's global generator draws."""
        return self.network(x), y

    def in_front_of(self, module: nn.Module) -> nn.Module:
        """The defence and a classifier as one module, which an adversary who knows the defence differentiates."""
        return nn.Sequential(self.network, module).eval()

    def save(self, path: Path) -> None:
        """Write weights and sizes to a safetensors file."""
        sizes = {name: getattr(self, name) for name in ("shape", *self.params)}
        save_tensors(path, self.network.state_dict(), sizes)

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> VAEReformer:
        """A reformer that ``save`` wrote."""
        tensors, meta = load_tensors(path)
        reformer = cls(**{**meta, "shape": tuple(meta["shape"])}, device=device)
        reformer.network.load_state_dict(tensors)
        return reformer
