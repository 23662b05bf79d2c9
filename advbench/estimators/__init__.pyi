from .averaged import ExpectationClassifier as ExpectationClassifier
from .averaged import expectation as expectation
from .torch_classifier import (
    Precision as Precision,
)
from .torch_classifier import (
    TorchClassifier as TorchClassifier,
)
from .torch_classifier import (
    classifier as classifier,
)
from .torch_classifier import (
    gradient_autocast as gradient_autocast,
)
from .torch_classifier import (
    gradient_module as gradient_module,
)
from .torch_classifier import (
    load as load,
)
