"""ART preprocessors: what images pass before they reach a classifier."""

from advbench.lazy import exports

__getattr__, __all__ = exports(__name__, {"VAEReformer": "vae"})
