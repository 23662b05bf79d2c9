"""How classifiers are trained."""

from advbench.lazy import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "AlternatingTrainer": "alternating",
        "GradAlignTrainer": "gradalign",
        "MixedAdversarialTrainer": "mixed",
        "Schedule": "standard",
        "StaticAdversarialTrainer": "static",
        "TRAINERS": "registry",
        "WeightedAdversarialTrainer": "weighted",
        "train_classifier": "standard",
        "train_with_adam": "adam",
    },
)
