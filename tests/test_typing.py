"""What an editor and a type checker see of advbench in a project of somebody else."""

import ast
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import advbench

ROOT = Path(advbench.__file__).parent
STUBS = sorted(ROOT.rglob("__init__.pyi"))

USER = """
import numpy as np

import advbench
from advbench import SubnetworkDetector, attacks, estimators, metrics
from advbench.study import Config, Study, recipe

reveal_type(advbench.__version__)
reveal_type(SubnetworkDetector)
reveal_type(SubnetworkDetector.load)
reveal_type(advbench.DynamicDetectorAttack)
reveal_type(attacks.AttackSpec)
reveal_type(estimators.classifier)
reveal_type(metrics.accuracy(np.zeros(2), np.zeros(2)))
reveal_type(Study[Config])
reveal_type(recipe)
"""

SEEN = (
    "str",
    "-> advbench.detectors.subnetwork.SubnetworkDetector",
    "-> advbench.detectors.subnetwork.SubnetworkDetector",
    "-> advbench.attacks.dynamic.DynamicDetectorAttack",
    "-> advbench.attacks.registry.AttackSpec",
    "-> advbench.estimators.torch_classifier.TorchClassifier",
    "advbench.metrics.figures.Figure",
    "-> advbench.study.study.Study[advbench.study.config.Config]",
    "-> advbench.study.registry.Recipe[C",
)


def public_names(stub):
    """What a stub exports: ``from .module import Name as Name``."""
    imports = [part for part in ast.parse(stub.read_text()).body if isinstance(part, ast.ImportFrom)]
    return {alias.asname for part in imports for alias in part.names if alias.asname}


def test_a_type_checker_knows_the_public_names_in_a_project_of_somebody_else(tmp_path):
    (tmp_path / "user.py").write_text(USER)
    environment = {key: value for key, value in os.environ.items() if key != "MYPYPATH"}
    if "site-packages" not in ROOT.parts:  # an editable install, which type checkers find by a path only
        environment["MYPYPATH"] = str(ROOT.parent)
    command = [sys.executable, "-m", "mypy", "--ignore-missing-imports", "user.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert len(revealed) == len(SEEN)
    for found, expected in zip(revealed, SEEN, strict=True):
        assert expected in found and found != "Any"


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.parent.name)
def test_every_name_of_a_stub_is_there_and_listed(stub):
    room = import_module(".".join(["advbench", *stub.parent.relative_to(ROOT).parts]))
    names = public_names(stub)
    assert names and names <= set(dir(room))
    assert all(getattr(room, name) is not None for name in names)


def test_import_advbench_imports_nothing_heavy():
    program = (
        "import advbench, sys; print([name for name in ('torch', 'numpy', 'pandas', 'art') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
