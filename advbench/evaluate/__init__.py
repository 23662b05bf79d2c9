"""``advbench evaluate``: how robust somebody's own classifier is, as a study with a run directory and a page."""

from advbench.lazy import exports

__getattr__, __all__ = exports(__name__, {"Options": "options", "start": "study"})
