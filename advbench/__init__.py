"""advbench: how robust is this image classifier, really? An extension of the Adversarial Robustness Toolbox."""

from typing import Any

__version__ = "0.1.0"


def _lazy() -> tuple[Any, ...]:
    """The public names of ``__init__.pyi``; their loader is imported with the first of them, so that the package is cheap."""
    import lazy_loader

    return lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    return _lazy()[0](name)


def __dir__() -> list[str]:
    return _lazy()[1]()
