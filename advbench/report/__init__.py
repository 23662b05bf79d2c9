"""Charts, tables and the page of a run, from its directory alone."""

from advbench.lazy import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "Attacked": "explorer",
        "bundle": "explorer",
        "check_tracker": "tracking",
        "compare": "comparison",
        "show": "terminal",
        "show_comparison": "terminal",
        "track": "tracking",
        "write_comparison": "comparison",
        "write_docs": "docs",
        "write_figures": "paper",
        "write_report": "page",
    },
)
