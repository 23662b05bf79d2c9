"""advbench: how robust is this image classifier, really? An extension of the Adversarial Robustness Toolbox."""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
