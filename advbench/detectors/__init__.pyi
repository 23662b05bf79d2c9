from .features import FeatureFiles as FeatureFiles
from .pair import CombinedModel as CombinedModel
from .pair import combined as combined
from .registry import DETECTORS as DETECTORS
from .scored import ScoredDetector as ScoredDetector
from .subnetwork import SubnetworkDetector as SubnetworkDetector
from .subnetwork import threshold_on as threshold_on
