"""How classifiers are trained."""

from advbench.lazy import exports

__getattr__, __all__ = exports(
    __name__, {"Schedule": "standard", "TRAINERS": "registry", "train_classifier": "standard"}
)
