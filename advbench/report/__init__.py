"""Charts, tables and the page of a run, from its directory alone."""

from advbench.lazy import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "Attacked": "explorer",
        "bundle": "explorer",
        "show": "terminal",
        "write_docs": "docs",
        "write_report": "page",
    },
)
