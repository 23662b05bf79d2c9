"""A run is that of the model's code: what is seen in files, and what only shows in the outputs."""

import sys

import numpy as np
import pytest
import torch

from advbench.data.find import Images
from advbench.data.pixels import Pixels
from advbench.errors import UsageError
from advbench.estimators import contract
from advbench.evaluation import identity
from advbench.models import find as network
from advbench.study.run import Run

CPU = torch.device("cpu")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A model file, a module beside it, and a package that this imports; forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "parts_x").mkdir()
    (tmp_path / "parts_x" / "__init__.py").write_text("from parts_x.scale import SCALE\n")
    (tmp_path / "parts_x" / "scale.py").write_text("SCALE = 1.0\n")
    (tmp_path / "layers_x.py").write_text(
        "import torch\nfrom parts_x import scale\nclass Net(torch.nn.Linear):\n"
        "    def forward(self, x): return super().forward(scale.SCALE * x.flatten(1))\n"
    )
    (tmp_path / "net.py").write_text("import numpy\nfrom layers_x import Net\ndef make(): return Net(4, 3)\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        if "_x" in name or name.startswith("advbench_file_"):
            del sys.modules[name]


def code(project):
    name = f"{project}/net.py:make"
    return identity.code(identity.own_modules(name, network.find(name).module))


def test_the_code_is_that_of_the_users_own_files(project):
    assert set(code(project)) == {"net.py", "layers_x", "parts_x", "parts_x.scale"}


@pytest.mark.parametrize("file", ["net.py", "layers_x.py", "parts_x/scale.py"])
def test_a_change_of_any_of_them_is_another_identity(project, file):
    before = code(project)
    with open(project / file, "a") as stream:
        stream.write("\nCHANGED = 1\n")
    after = code(project)
    assert sum(before[name] != after[name] for name in before) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from constants_x import SCALE",
        "import constants_x as c",
        "def later():\n    from constants_x import SCALE",
        "if True:\n    import constants_x",
        "from helper_x import *",
    ],
)
def test_a_file_that_gives_nothing_but_a_number_is_part_of_the_code(project, line):
    (project / "constants_x.py").write_text("SCALE = 1.0\n")
    (project / "helper_x.py").write_text("from constants_x import SCALE\n")
    (project / "net.py").write_text(
        f"{line}\nfrom layers_x import Net\nimport constants_x; del constants_x\ndef make(): return Net(4, 3)\n"
    )
    assert "constants_x" in code(project)


def test_a_module_beside_it_in_a_package_is_part_of_the_code(project):
    (project / "parts_x" / "numbers_x.py").write_text("SCALE = 1.0\n")
    (project / "parts_x" / "scale.py").write_text("from .numbers_x import SCALE\n")
    assert "parts_x.numbers_x" in code(project)


def test_a_model_of_a_library_has_no_code_of_its_own():
    assert identity.own_modules("torchvision:resnet18", torch.nn.Linear(2, 2)) == {}


@pytest.mark.parametrize("change", ["attribute", "list", "file"])
def test_what_no_fingerprint_sees_shows_in_the_outputs(tmp_path, change):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.hidden = 1.0, [torch.nn.Linear(4, 3)]
            torch.nn.init.eye_(self.hidden[0].weight)

        def forward(self, x):
            path = tmp_path / "factor.txt"
            factor = float(path.read_text()) if path.is_file() else 1.0
            return self.hidden[0](factor * self.scale * x.flatten(1)) - 0.1

    torch.manual_seed(0)
    x = np.random.default_rng(0).random((5, 1, 2, 2), np.float32)
    pictures, net = Images("p", Pixels(x), np.arange(5) % 3), Net()
    run = Run(tmp_path / "run", {"recipe": "evaluate", "dataset": "p", "seed": 0})

    def probe():
        identity.probe(run, contract.classifier(net, pictures, CPU)[0], pictures, 0)

    probe()
    probe()
    if change == "attribute":
        net.scale = 1.1
    elif change == "list":
        net.hidden[0].bias.data += 0.1
    else:
        (tmp_path / "factor.txt").write_text("0.9")
    with pytest.raises(UsageError, match="gave other outputs, although .*choose another --out"):
        probe()


def test_a_random_model_may_answer_otherwise(tmp_path):
    class Noisy(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1)) + 0.1 * float(np.random.default_rng().normal())

    torch.manual_seed(0)
    x = np.random.default_rng(0).random((5, 1, 2, 2), np.float32)
    pictures = Images("p", Pixels(x), np.arange(5) % 3)
    run = Run(tmp_path / "run", {"recipe": "evaluate", "dataset": "p", "seed": 0})
    estimator, _ = contract.classifier(Noisy(4, 3), pictures, CPU)
    for _ in range(2):
        identity.probe(run, estimator, pictures, 0)
    assert (run.directory / "arrays" / "probe" / "outputs.npy").is_file()
