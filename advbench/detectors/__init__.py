"""ART evasion detectors that ART lacks."""

from advbench.lazy import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "DETECTORS": "registry",
        "CombinedModel": "pair",
        "FeatureFiles": "features",
        "SubnetworkDetector": "subnetwork",
        "combined": "pair",
        "detector_module": "pair",
        "joint": "pair",
        "threshold_on": "subnetwork",
    },
)
