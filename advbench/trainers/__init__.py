"""How classifiers are trained."""

from advbench.lazy import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "MixedAdversarialTrainer": "mixed",
        "Schedule": "standard",
        "TRAINERS": "registry",
        "WeightedAdversarialTrainer": "weighted",
        "train_classifier": "standard",
    },
)
