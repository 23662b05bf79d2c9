"""How classifiers are trained."""

from advbench.lazy import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "AlternatingTrainer": "alternating",
        "Schedule": "standard",
        "TRAINERS": "registry",
        "train_classifier": "standard",
        "train_with_adam": "adam",
    },
)
