"""ART evasion detectors that ART lacks."""

from advbench.lazy import exports

__getattr__, __all__ = exports(__name__, {"DETECTORS": "registry", "SubnetworkDetector": "subnetwork"})
