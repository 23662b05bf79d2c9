"""The defences that stand before the undefended network."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from art.defences.preprocessor import FeatureSqueezing, JpegCompression, SpatialSmoothing
from art.defences.preprocessor.preprocessor import Preprocessor
from torch import nn

from advbench.estimators import expectation
from advbench.preprocessors import VAEReformer
from advbench.recipes.compare_defences import against
from advbench.recipes.compare_defences.materials import Comparison, Defence, Defended
from advbench.study import History


class ArtPreprocessor(Defence):
    """One of ART's preprocessors in the chain of the undefended network's estimator."""

    kind, library = "preprocessor", "art"
    adaptive = against.bpda

    @abstractmethod
    def preprocessor(self, made: Comparison) -> Preprocessor: ...

    def defend(self, made: Comparison, module: None) -> Defended:
        return Defended(made.stock(made.baseline.model, preprocessor=self.preprocessor(made)), made.baseline)


class Jpeg(ArtPreprocessor):
    name = "jpeg-compression"
    text = "JpegCompression: every image is stored as a JPEG first"

    def preprocessor(self, made: Comparison) -> Preprocessor:
        return JpegCompression((0.0, 1.0), made.config.jpeg_quality, channels_first=True)


class Squeezing(ArtPreprocessor):
    name = "feature-squeezing"
    text = "FeatureSqueezing: fewer bits a pixel"
    note = "ART's returns float64 under NumPy 2, which a float32 network refuses: its result is cast to float32 here"

    def preprocessor(self, made: Comparison) -> Preprocessor:
        return FeatureSqueezing32((0.0, 1.0), made.bounds.bit_depth)


class FeatureSqueezing32(FeatureSqueezing):
    """ART's, with its result in float32: under NumPy 2 it is float64, which the network refuses."""

    def __call__(self, x: np.ndarray, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        squeezed, y = super().__call__(x, y)
        return squeezed.astype(np.float32), y


class Smoothing(ArtPreprocessor):
    name = "spatial-smoothing"
    text = "SpatialSmoothing: the median of each pixel's neighbours"

    def preprocessor(self, made: Comparison) -> Preprocessor:
        return SpatialSmoothing(made.config.smoothing_window, channels_first=True, clip_values=(0.0, 1.0))


class Reformer(Defence):
    """Our VAE before the undefended network; gradients are means over draws of its latent space."""

    name, kind, library, trained = "vae-reformer", "preprocessor", "advbench", True
    text = "VAEReformer: a variational autoencoder's decoding of one random draw"
    adaptive = against.end_to_end

    def network(self, made: Comparison) -> nn.Module:
        return self._reformer(made).network

    def train(self, made: Comparison, module: Any, checkpoint: Path) -> History:
        reformer, seed = self._reformer(made), made.study.seed_of("reformer order")
        reformer.network = module
        sizes = made.config.batch, made.config.epochs, made.config.lr
        return reformer.train(made.train.x, *sizes, seed=seed, checkpoint=checkpoint)

    def defend(self, made: Comparison, module: nn.Module) -> Defended:
        whole, spec = nn.Sequential(module, made.baseline.model).eval(), made.spec
        classifier = expectation(whole, spec.input_shape, spec.classes, made.config.draws, made.study.device)
        return Defended(classifier, made.baseline)

    def _reformer(self, made: Comparison) -> VAEReformer:
        return VAEReformer(made.spec.input_shape, device=str(made.study.device), seed=made.study.seed_of("reformer"))


PREPROCESSORS = (Jpeg(), Squeezing(), Smoothing(), Reformer())
