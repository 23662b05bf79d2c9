import datetime
import os
import re
import sys
from collections import Counter
from pathlib import PurePosixPath
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_small_net
from safetensors.torch import save_file
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
    forget("net", "helper")  # of other tests
    yield written(tmp_path)
    forget("net", "helper")


def written(folder):
    folder.mkdir(exist_ok=True)
    (folder / "helper.py").write_text("from torch import nn\ndef layer(): return nn.Linear(64, 10)\n")
    path = folder / "net.py"
    path.write_text(FILE)
    return path


def forget(*names):
    for name in names:
        sys.modules.pop(name, None)


def test_a_callable_a_module_and_a_package_are_found(file, monkeypatch):
    assert isinstance(network.find(f"{file}:make").module[1], nn.Linear)
    assert isinstance(network.find(f"{file}:ready").module, nn.Sequential)
    monkeypatch.chdir(file.parent)
    assert isinstance(network.find("net:make").module, nn.Sequential)


def test_a_file_imports_what_is_beside_it_and_not_its_namesake(file, tmp_path):
    other = written(tmp_path / "other")
    other.with_name("helper.py").write_text("from torch import nn\ndef layer(): return nn.Linear(64, 7)\n")
    network.find(f"{file}:make")
    with pytest.raises(
        UsageError, match=r"other/helper.py has the name of .*helper.py, which Python would use in its place"
    ):
        network.find(f"{other}:make")
    forget("helper")  # its folder is still known, but comes second now
    assert network.find(f"{other}:make").module[1].out_features == 7


def test_a_namesake_of_what_a_helper_imports_is_found(file, tmp_path):
    network.find(f"{file}:make")
    other = tmp_path / "other"
    (other / "parts").mkdir(parents=True)
    (other / "parts" / "__init__.py").write_text("from . import heads\n")
    (other / "parts" / "heads.py").write_text("def head():\n    from helper import layer\n    return layer()\n")
    (other / "helper.py").write_text("from torch import nn\ndef layer(): return nn.Linear(64, 7)\n")
    (other / "net2.py").write_text("import parts\ndef make(): return parts.heads.head()\n")
    with pytest.raises(UsageError, match=r"other/helper.py has the name of .*helper.py, .* process of its own"):
        network.find(f"{other / 'net2.py'}:make")
    forget("helper")
    assert network.find(f"{other / 'net2.py'}:make").module.out_features == 7
    forget("parts", "parts.heads")


@pytest.mark.parametrize(
    "name, of", [("random", r"/.*random\.py"), ("sys", "a module of its own"), ("click", r"/.*click/__init__\.py")]
)
def test_a_namesake_of_what_is_installed_is_said(name, of, tmp_path, caplog):
    (tmp_path / f"{name}.py").write_text("from torch import nn\nhead = nn.Linear(64, 7)\n")
    (tmp_path / "net.py").write_text(
        f"import {name}\nfrom torch import nn\ndef make(): return getattr({name}, 'head', nn.Flatten())\n"
    )
    assert isinstance(network.find(f"{tmp_path / 'net.py'}:make").module, nn.Flatten)
    assert re.fullmatch(rf"{tmp_path}/{name}.py is not used: Python takes {of} for {name}", caplog.messages[0])


def test_a_file_in_a_checkout_of_advbench_gets_the_one_that_runs(tmp_path):
    (tmp_path / "advbench").mkdir()
    (tmp_path / "advbench" / "__init__.py").write_text("raise ImportError('another one')")
    (tmp_path / "net.py").write_text(
        "from advbench.models.cnn import *\nfrom torch import nn\ndef make(): return nn.Flatten()\n"
    )
    assert type(network.find(f"{tmp_path / 'net.py'}:make").module).__name__ == "Flatten"


def test_a_package_is_that_of_the_working_directory_and_not_its_namesake(file, tmp_path, monkeypatch):
    other = written(tmp_path / "other")
    for found in (file, other):
        monkeypatch.chdir(found.parent)
        network.find("net:make")
        assert sys.modules["net"].__file__ == str(found)
        forget("net", "helper")
    network.find("net:make")
    monkeypatch.chdir(file.parent)
    with pytest.raises(UsageError, match="give each of the two a process of its own, or rename one"):
        network.find("net:make")


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


def test_a_module_without_hash_is_one_line(file):
    file.write_text(
        FILE + "class Layer(nn.Module):\n    def __eq__(self, other): return True\nlast = nn.Sequential(Layer())\n"
    )
    with pytest.raises(
        UsageError, match="list the parts.*unhashable type: 'Layer'; .* needs __hash__ = nn.Module.__ha"
    ):
        network.find(f"{file}:last")


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
    (tmp_path / "noise.safetensors").write_bytes(bytes(range(256)))
    with pytest.raises(UsageError, match="neither a safetensors file nor"):
        weights.read(tmp_path / "noise.safetensors")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(UsageError, match="holds a list, not a state dict"):
        weights.read(tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(UsageError, match="holds no state dict"):
        weights.read(tmp_path / "empty.pt")
    with pytest.raises(UsageError, match="no weights at"):
        weights.read(tmp_path / "nothing.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content, said",
    [
        ("\ufeff\n <html>Sign in</html>", "is a web page, not weights"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "pointer of Git LFS.*git lfs pull"),
        ('{"message": "Not Found"}', r"""is text, not weights; it begins with '{"message": "Not Found"}'"""),
        ("", "is empty"),
    ],
)
def test_a_file_that_is_no_weights_is_called_what_it_is(tmp_path, suffix, content, said):
    path = tmp_path / f"w{suffix}"
    path.write_text(content)
    with pytest.raises(UsageError, match=said):
        weights.read(path)


class Settings:
    """What a training script pickles beside the weights; it must never be made."""

    made = 0

    def __init__(self, **fields):
        type(self).made += 1
        vars(self).update(fields)

    def __setstate__(self, state):
        type(self).made += 1


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "beside",
    [
        {"best": np.float32(0.9), "epoch": np.int64(3)},
        {"losses": np.arange(4.0), "when": datetime.date(2020, 1, 2)},
        {"path": PurePosixPath("a/b"), "options": SimpleNamespace(lr=0.1, layers=[1, 2])},
        {"options": Settings(lr=0.1), "count": Counter("ab"), "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
    ],
)
def test_objects_beside_the_weights_are_ignored_and_not_made(tmp_path, beside, zipped):
    net, made = make_small_net(), Settings.made
    content = {"net": net.state_dict(), **beside}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    state = weights.read(tmp_path / "w.pt")
    other = make_small_net(seed=1)
    weights.fill(other, state, tmp_path / "w.pt")
    assert fingerprint(other) == fingerprint(net) and Settings.made == made
    assert state.notes == ("the weights are 'net' of w.pt",)


def test_a_checkpoint_that_would_run_a_command_runs_none(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    class Sly:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    net = make_small_net()
    torch.save({"net": net.state_dict(), "x": Evil()}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match="would run code from the file, which is refused"):
        weights.read(tmp_path / "w.pt")
    torch.save({"net": net.state_dict(), "x": Sly()}, tmp_path / "w.pt")
    assert weights.read(tmp_path / "w.pt").keys() == net.state_dict().keys()
    assert not (tmp_path / "ran").exists()


def test_averaged_weights_are_taken_where_nothing_else_is_there_and_offered_by_name_otherwise(tmp_path):
    plain, mean = make_small_net(), make_small_net(seed=1)
    averaged = {**{f"module.{name}": value for name, value in mean.state_dict().items()}, "n_averaged": torch.tensor(3)}
    path = tmp_path / "w.pt"
    for content, name, wanted in (
        ({"model_ema": averaged, "epoch": 1}, "", mean),
        (averaged, "", mean),
        ({"model_ema": averaged, "model": plain.state_dict()}, "", plain),
        ({"model_ema": averaged, "model": plain.state_dict()}, ":model_ema", mean),
        ({"student": {"ema": averaged, "weights": plain.state_dict()}}, "", plain),
    ):
        torch.save(content, path)
        state, net = weights.read(tmp_path / f"w.pt{name}"), make_small_net(seed=2)
        weights.fill(net, state, path)
        assert fingerprint(net) == fingerprint(wanted)
        several = "student" in content or "model" in content
        assert any(":NAME takes another" in note for note in state.notes) == several
    with pytest.raises(UsageError, match="has no state dict 'swa'; it has student.ema, student.weights"):
        torch.save({"student": {"ema": averaged, "weights": plain.state_dict()}}, path)
        weights.read(tmp_path / "w.pt:swa")


class Versioned(nn.Linear):
    """A layer that changed the unit of its weight in version 2, as layers of torchvision did."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if metadata.get("version", 1) < 2:
            state[f"{prefix}weight"] = 2 * state[f"{prefix}weight"]
        super()._load_from_state_dict(state, prefix, metadata, *rest)


@pytest.mark.parametrize("prefix", ["", "module.", "encoder."])
def test_versions_of_layers_in_a_file_are_kept(tmp_path, prefix):
    net = nn.Sequential(Versioned(3, 2), nn.BatchNorm1d(2))
    state = net.state_dict(prefix=prefix)
    torch.save(state, tmp_path / "w.pt")
    other = nn.Sequential(Versioned(3, 2), nn.BatchNorm1d(2))
    weights.fill(other, weights.read(tmp_path / "w.pt"), tmp_path / "w.pt")
    assert fingerprint(other) == fingerprint(net)


def test_what_plain_pytorch_accepts_is_accepted(tmp_path):
    """Batch norm from before it counted batches, the old names of weight norm, a state of one's own beside tensors."""

    class WithState(nn.Linear):
        def get_extra_state(self):
            return {"scale": 3}

        def set_extra_state(self, state):
            self.scale = state["scale"]

    norm = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    old = {name: value for name, value in norm.state_dict().items() if "num_batches" not in name}
    weight_norm = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    former = weight_norm.state_dict()
    former["weight_g"], former["weight_v"] = (former.pop(f"parametrizations.weight.original{i}") for i in (0, 1))
    for net, state in ((norm, old), (weight_norm, former), (module := WithState(2, 2), module.state_dict())):
        torch.save(dict(state), tmp_path / "w.pt")
        before = [p.clone() for p in net.parameters()]
        with torch.no_grad():
            [p.zero_() for p in net.parameters()]
        weights.fill(net, weights.read(tmp_path / "w.pt"), tmp_path / "w.pt")
        for now, wanted in zip(net.parameters(), before, strict=True):
            torch.testing.assert_close(now.detach(), wanted)


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_0", "efficientnet_b0", "resnet18"])
def test_the_number_of_classes_is_that_of_the_head_in_any_order_of_a_file(tmp_path, name, ending):
    from torchvision.models import get_model

    state = {f"backbone.{key}": value for key, value in sorted(get_model(name, num_classes=7).state_dict().items())}
    path = tmp_path / f"w.{ending}"
    (save_file if ending == "safetensors" else torch.save)(state, path)
    found = network.find(f"torchvision:{name}", path)
    assert found.module(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    del state[next(reversed([key for key in state if state[key].shape[:1] == (7,)]))]
    torch.save({key: value for key, value in state.items() if value.shape[:1] != (7,)}, path.with_suffix(".pt"))
    with pytest.raises(UsageError, match="another network than torchvision:.*has no head"):
        network.find(f"torchvision:{name}", path.with_suffix(".pt"))


def test_names_with_a_number_apart_are_those_of_today(tmp_path):
    net = nn.Sequential()
    net.add_module("block", nn.ModuleDict({"norm1": nn.Linear(2, 2), "norm11": nn.Linear(2, 2)}))
    state = {re.sub(r"norm(\d)", r"norm.\1", name): value for name, value in net.state_dict().items()}
    assert weights.renamed(state, net.state_dict()).keys() == net.state_dict().keys()
    found = weights.renamed({"layer.1.1.weight": 0, "head": 1}, {"layer.11.weight": 0, "head": 1})
    assert found.keys() == {"layer.1.1.weight", "head"}


def test_the_published_transform_is_that_of_the_default_weights(monkeypatch):
    from torchvision.models import ViT_B_16_Weights, get_model_weights

    assert list(get_model_weights("vit_b_16"))[-1] is not ViT_B_16_Weights.DEFAULT
    asked = []
    monkeypatch.setattr("torchvision.models.get_model", lambda name, **options: asked.append(options) or nn.Identity())
    found = network.find("torchvision:vit_b_16")
    assert asked == [{"weights": ViT_B_16_Weights.DEFAULT}] and found.shape == (3, 224, 224)
