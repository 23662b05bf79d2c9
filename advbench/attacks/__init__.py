"""ART evasion attacks that ART lacks or has wrong, and the attacks of the reports by name."""

from advbench.lazy import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "ATTACKS": "registry",
        "AutoAttack": "autoattack",
        "CarliniWagnerL2": "carlini",
        "DeepFool": "deepfool",
        "DynamicDetectorAttack": "dynamic",
        "GANAttack": "gan",
        "OrthogonalPGD": "adaptive",
        "PGD": "pgd",
        "SelectivePGD": "adaptive",
        "create": "registry",
    },
)
