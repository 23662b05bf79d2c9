"""ART estimators around PyTorch modules: any ``nn.Module`` as a classifier for every ART attack and defence."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
