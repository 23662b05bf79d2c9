"""The API reference from the docstrings: ``python docs/api.py FOLDER``. Any warning of pdoc is an error."""

import sys
import warnings
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pdoc

import advbench

warnings.filterwarnings("error", module="pdoc")
warnings.filterwarnings("ignore", message=".*'CLIP_VALUES_TYPE'", module="pdoc")  # an annotation of ART's own
warnings.filterwarnings("ignore", message=".*may refer to either the installed", module="pdoc")  # it is the one
public = [f"advbench.{module.name}" for module in iter_modules(advbench.__path__) if not module.name.startswith("_")]
for name in public:
    module = import_module(name)
    for exported in getattr(module, "__all__", ()):
        setattr(module, exported, getattr(module, exported))  # pdoc looks for names, and ours are imported when used
pdoc.render.configure(docformat="restructuredtext", show_source=True)
pdoc.pdoc("advbench", "!advbench.recipes", output_directory=Path(sys.argv[1]))
