"""ART evasion attacks that ART lacks or has wrong, and the attacks of the reports by name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
