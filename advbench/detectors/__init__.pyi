from .features import FeatureFiles as FeatureFiles
from .pair import (
    CombinedModel as CombinedModel,
)
from .pair import (
    combined as combined,
)
from .pair import (
    detector_module as detector_module,
)
from .pair import (
    joint as joint,
)
from .registry import DETECTORS as DETECTORS
from .subnetwork import SubnetworkDetector as SubnetworkDetector
from .subnetwork import threshold_on as threshold_on
