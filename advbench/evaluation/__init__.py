"""``advbench evaluate``: how robust somebody's own classifier is, as a study with a run directory and a page."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
