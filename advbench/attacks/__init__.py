"""ART evasion attacks that ART lacks or has wrong, and the attacks of the reports by name."""

from advbench.lazy import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "ATTACKS": "registry",
        "AutoAttack": "autoattack",
        "DeepFool": "deepfool",
        "DynamicDetectorAttack": "dynamic",
        "GANAttack": "gan",
        "create": "registry",
    },
)
