import pytest
import torch
from conftest import make_small_net
from torch import nn

from advbench import models
from advbench.checkpoint import fingerprint
from advbench.errors import UsageError
from advbench.models import find as network
from advbench.models import weights

FILE = """
from helper import layer
from torch import nn
number = 3
def make(): return nn.Sequential(nn.Flatten(), layer())
def deep(depth, width=1, *rest): return make()
def broken(): return 1 / 0
def text(): return "a model"
ready = make()
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "helper.py").write_text("from torch import nn\ndef layer(): return nn.Linear(64, 10)\n")
    path = tmp_path / "net.py"
    path.write_text(FILE)
    return path


def test_a_callable_a_module_and_a_package_are_found(file, monkeypatch):
    assert isinstance(network.find(f"{file}:make").module[1], nn.Linear)
    assert isinstance(network.find(f"{file}:ready").module, nn.Sequential)
    monkeypatch.chdir(file.parent)
    assert isinstance(network.find("net:make").module, nn.Sequential)


@pytest.mark.parametrize(
    "name, said",
    [
        ("{}:mak", "did you mean 'make'"),
        ("{}:deep", r"needs arguments \(depth\); name a function that needs none"),
        ("{}:broken", r"fails: ZeroDivisionError: division by zero \(net.py, line 7\)"),
        ("{}:text", "is a str, not an nn.Module"),
        ("{}:number", "is a int, not an nn.Module"),
        ("nowhere.py:make", "no file nowhere.py"),
        ("no_such_package:make", "does not import: ModuleNotFoundError"),
        ("resnet18", "MODEL must be file.py:callable"),
        ("torchvision:resnet81", "did you mean 'resnet18'"),
    ],
)
def test_a_wrong_name_is_one_line_that_says_what_to_do(file, name, said):
    with pytest.raises(UsageError, match=said) as error:
        network.find(name.format(file))
    assert "\n" not in str(error.value)


def test_a_file_that_does_not_import_is_named_with_its_line(tmp_path):
    (tmp_path / "net.py").write_text("import os\nimport no_such_thing\n")
    with pytest.raises(UsageError, match=r"ModuleNotFoundError: No module named 'no_such_thing' \(net.py, line 2\)"):
        network.find(f"{tmp_path}/net.py:make")


def test_a_torchvision_network_takes_the_classes_of_the_weights_and_its_published_preprocessing(tmp_path):
    from torchvision.models import get_model

    state = get_model("squeezenet1_1", num_classes=7).state_dict()
    torch.save(state, tmp_path / "w.pt")
    found = network.find("torchvision:squeezenet1_1", tmp_path / "w.pt")
    assert found.shape == (3, 224, 224) and found.mean == (0.485, 0.456, 0.406)
    assert found.module(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_a_model_of_a_run_is_found_by_its_name(tmp_path):
    spec = models.ModelSpec("lenet", (1, 28, 28), 10, (0.0,), (1.0,))
    models.save(tmp_path / "models" / "classifier.safetensors", models.create(spec), spec)
    models.save(tmp_path / "models" / "mixed.safetensors", models.create(spec), spec)
    assert network.find(str(tmp_path)).shape == network.find(f"{tmp_path}:mixed").shape == (1, 28, 28)
    with pytest.raises(UsageError, match="did you mean 'mixed'"):
        network.find(f"{tmp_path}:mixd")
    with pytest.raises(UsageError, match="not a run directory with models"):
        network.find(str(tmp_path / "models"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
        lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
    ],
)
def test_weights_are_found_in_the_usual_containers_and_prefixes(tmp_path, wrap):
    net, other = make_small_net(), make_small_net(seed=1)
    torch.save(wrap(net.state_dict()), tmp_path / "w.pt")
    weights.fill(other, weights.read(tmp_path / "w.pt"), tmp_path / "w.pt")
    assert fingerprint(other) == fingerprint(net)


def test_weights_of_another_network_say_what_differs(tmp_path):
    torch.save({"0.weight": torch.zeros(3, 4), "1.bias": torch.zeros(3)}, tmp_path / "w.pt")
    with pytest.raises(UsageError) as error:
        weights.fill(nn.Sequential(nn.Linear(5, 3)), weights.read(tmp_path / "w.pt"), tmp_path / "w.pt")
    for part in ("1 missing (0.bias)", "1 unknown (1.bias)", "1 of another shape (0.weight (3, 4) instead of (3, 5))"):
        assert part in str(error.value)


def test_no_pickle_is_run(tmp_path):
    torch.save(make_small_net(), tmp_path / "whole.pt")
    with pytest.raises(UsageError, match="would run code from the file, which is refused"):
        weights.read(tmp_path / "whole.pt")
    (tmp_path / "page.safetensors").write_text("<html></html>")
    with pytest.raises(UsageError, match="not a safetensors file"):
        weights.read(tmp_path / "page.safetensors")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(UsageError, match="holds a list, not a state dict"):
        weights.read(tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(UsageError, match="holds no state dict"):
        weights.read(tmp_path / "empty.pt")
    with pytest.raises(UsageError, match="no weights at"):
        weights.read(tmp_path / "nothing.pt")
