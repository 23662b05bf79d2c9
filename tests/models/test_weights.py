"""Weights files as people have them: what is one is opened, what is none is called what it is, and nothing is run."""

import collections
import gzip
import os
import pickle
import zipfile
from contextlib import suppress

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from advbench.errors import UsageError
from advbench.models import weights


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


STATE = network().state_dict()


def filled(path):
    """A network of other weights after the file has been put into it, and the notes."""
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    notes = weights.fill(module, weights.read(path), path)
    return module.state_dict(), notes


def is_state(found):
    return all(torch.equal(found[name], value) for name, value in STATE.items())


def under(prefix, state=STATE):
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize("prefix", ["model.module.", "model._orig_mod.", "0.model.", "classifier.backbone.net."])
def test_any_number_of_prefixes_is_taken_off(tmp_path, prefix):
    torch.save(under(prefix), tmp_path / "w.pt")
    found, notes = filled(tmp_path / "w.pt")
    assert is_state(found) and notes == ()


class Inside(nn.Module):
    def __init__(self, name):
        super().__init__()
        setattr(self, name, network())


@pytest.mark.parametrize("name", ["net", "module", "_orig_mod"])
@pytest.mark.parametrize("written", ["", "module.", "model._orig_mod."])
def test_a_prefix_that_the_file_lacks_is_added(tmp_path, name, written):
    torch.save(under(written), tmp_path / "w.pt")
    for model in (Inside(name), nn.Sequential(nn.Sequential(Inside(name)))):
        nn.init.zeros_(next(model.parameters()))
        assert weights.fill(model, weights.read(tmp_path / "w.pt"), tmp_path / "w.pt") == ()
        assert torch.equal(next(model.parameters()), STATE["0.weight"])


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, checkpoint_wrapper])
def test_wrappers_around_a_part_of_the_model_are_taken_off(tmp_path, wrap):
    """As the ImageNet example of PyTorch wraps the features of AlexNet and VGG alone."""
    trained = nn.Sequential(network(), nn.Linear(2, 2))
    state = nn.Sequential(wrap(trained[0]), trained[1]).state_dict()
    torch.save(state, tmp_path / "w.pt")
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), nn.Linear(2, 2))
    weights.fill(model, weights.read(tmp_path / "w.pt"), tmp_path / "w.pt")
    assert state.keys() != model.state_dict().keys() or wrap is checkpoint_wrapper  # whose hooks take it off
    for own, theirs in zip(model.parameters(), trained.parameters(), strict=True):
        assert torch.equal(own, theirs)


def shared():
    """A network that has one layer under three names, and a weight in two layers."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    model.head = model.last = model[2]
    model[1].weight = model[0].weight
    return model


def test_a_tensor_under_several_names_may_be_in_a_file_once(tmp_path):
    torch.manual_seed(0)
    trained = shared()
    save_model(trained, str(tmp_path / "w.safetensors"))
    torch.save(dict(trained.named_parameters()), tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        model = shared()
        weights.fill(model, weights.read(tmp_path / name), tmp_path / name)
        for own, theirs in zip(model.parameters(), trained.parameters(), strict=True):
            assert torch.equal(own, theirs)


class Lenient(nn.Module):
    """Has one layer twice, a sparse buffer and state of its own, and loads only what it likes."""

    def __init__(self):
        super().__init__()
        self.head = self.last = nn.Linear(3, 2)
        self.register_buffer("graph", torch.eye(3).to_sparse())

    def get_extra_state(self):
        return {"epoch": 1}

    def set_extra_state(self, state):
        pass

    def load_state_dict(self, state, strict=True, assign=False):
        self.head.weight.data.copy_(state["weight"])


def test_a_module_that_loads_its_own_way_is_filled_its_own_way(tmp_path):
    torch.save({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, tmp_path / "w.pt")
    model = Lenient()
    assert weights.fill(model, weights.read(tmp_path / "w.pt"), tmp_path / "w.pt") == ()
    assert (model.head.weight == 1).all()


@pytest.mark.parametrize("kind", ["meta", "sparse"])
def test_weights_that_fit_but_cannot_be_copied_are_not_called_another_networks(tmp_path, kind):
    state = nn.Linear(3, 2).state_dict()
    state["weight"] = state["weight"].to("meta") if kind == "meta" else state["weight"].to_sparse()
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"w\.pt does not load into Linear: .*weight") as caught:
        weights.fill(nn.Linear(3, 2), weights.read(tmp_path / "w.pt"), tmp_path / "w.pt")
    assert "another network" not in str(caught.value)


def test_two_values_of_one_tensor_are_said_in_capitals(tmp_path):
    state = shared().state_dict()
    torch.save(state, tmp_path / "w.pt")
    assert weights.fill(shared(), weights.read(tmp_path / "w.pt"), tmp_path / "w.pt") == ()
    torch.save({**state, "1.weight": state["1.weight"].half() + 1}, tmp_path / "w.pt")
    (said,) = weights.fill(shared(), weights.read(tmp_path / "w.pt"), tmp_path / "w.pt")
    assert said == "w.pt HOLDS DIFFERENT VALUES OF 0.weight AND 1.weight, one tensor of the model: the last counts"


@pytest.mark.parametrize("other", ["loss.weight", "accuracy.total", "ema_model.0.weight"])
def test_what_a_training_saves_beside_the_model_is_left_out_and_said(tmp_path, other):
    torch.save({"state_dict": {other: torch.ones(2), **under("model.")}}, tmp_path / "w.pt")
    found, notes = filled(tmp_path / "w.pt")
    assert is_state(found)
    assert notes[1] == f"taken is what begins with 'model.'; left out: 1 ({other})"


def test_of_two_networks_in_one_state_dict_the_average_is_taken_last(tmp_path):
    other = {name: value + 1 for name, value in STATE.items()}
    torch.save({**under("ema_model.", other), **under("model.")}, tmp_path / "w.pt")
    found, notes = filled(tmp_path / "w.pt")
    assert is_state(found) and "left out: 4 (ema_model.0.weight, ema_model.0.bias)" in notes[0]


@pytest.mark.parametrize(
    "beside",
    [
        collections.defaultdict(list, a=[1]),
        collections.deque([1, 2]),
        collections.Counter("aab"),
        collections.ChainMap({}),
    ],
)
def test_containers_of_python_beside_the_weights_are_ignored(tmp_path, beside):
    torch.save({"state_dict": STATE, "beside": beside}, tmp_path / "w.pt")
    assert is_state(filled(tmp_path / "w.pt")[0])


def test_safetensors_are_known_by_their_content(tmp_path):
    for name in ("w.bin", "W.SAFETENSORS", "w"):
        save_file(STATE, tmp_path / name)
        assert is_state(filled(tmp_path / name)[0])


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.float8_e5m2, torch.bool])
def test_weights_that_may_be_quantised_are_said_in_capitals(tmp_path, kind):
    torch.save({name: value.to(kind) for name, value in STATE.items()}, tmp_path / "w.pt")
    assert "w.pt HOLDS WEIGHTS OF" in filled(tmp_path / "w.pt")[1][0]
    torch.save({name: value.half() for name, value in STATE.items()}, tmp_path / "w.pt")
    assert filled(tmp_path / "w.pt")[1] == ()


def test_a_wrong_checksum_is_said_in_capitals(tmp_path):
    torch.save({"net": {"0.weight": torch.zeros(5000)}}, tmp_path / "w.pt")
    content = bytearray((tmp_path / "w.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "w.pt").write_bytes(content)
    assert "w.pt IS DAMAGED: the checksum of w/data/0 in it is wrong" in weights.read(tmp_path / "w.pt").notes


def test_the_old_weight_norm_goes_into_the_new_one(tmp_path):
    with pytest.warns(FutureWarning):
        old = nn.utils.weight_norm(nn.Linear(3, 2))
    new = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    torch.save(old.state_dict(), tmp_path / "w.pt")
    weights.fill(new, weights.read(tmp_path / "w.pt"), tmp_path / "w.pt")
    torch.testing.assert_close(new.weight, old.weight)


def test_an_error_says_which_part_of_the_file_was_taken(tmp_path):
    torch.save({"generator": {"w": torch.ones(1)}, "critic": STATE}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"another network .*the weights are 'generator' .* takes another: 'critic'"):
        filled(tmp_path / "w.pt")
    torch.save({name: value.to("meta") for name, value in STATE.items()}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match="While copying the parameter"):
        filled(tmp_path / "w.pt")


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as written:
        for name, content in members.items():
            written.writestr(name.replace("__", "/"), content)


def saved(path):
    torch.save(STATE, path)
    return path.read_bytes()


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda path: path.write_bytes(gzip.compress(saved(path))), "neither a safetensors .* wrote: it is gzip"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90)), "it is HDF5"),
        (lambda path: path.write_bytes(bytes(5000)), "neither a safetensors file nor one that torch.save wrote$"),
        (lambda path: path.write_bytes(saved(path)[:-1]), "is cut short; fetch the weights again"),
        (lambda path: path.write_bytes("<html>".encode("utf-16")), "is a web page"),
        (lambda path: path.write_text('{"weight_map": {}}'), "an index of weights in several files"),
        (lambda path: archive(path, **{"a.npy": b""}), "archive that torch.save did not write; it holds a.npy"),
        (lambda path: archive(path, w__code__a=b"", w__constants=b""), "archive that torch.save did not write"),
        (lambda path: path.write_bytes(pickle.dumps(STATE, 4)), "not a plain state dict as torch.save writes it"),
    ],
)
def test_what_is_no_weights_is_called_what_it_is(tmp_path, make, said):
    path = tmp_path / "w.index.json"
    make(path)
    with pytest.raises(UsageError, match=said) as error:
        weights.read(path)
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:.*jit:")
def test_a_program_of_torchscript_is_no_weights(tmp_path):
    torch.jit.trace(network(), torch.zeros(1, 3)).save(tmp_path / "w.pt")
    with pytest.raises(UsageError, match="is a TorchScript program; as MODEL, name a function"):
        weights.read(tmp_path / "w.pt")


class Code:
    def __init__(self, call, *arguments):
        self.made = call, arguments

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("call", [eval, exec, os.system])
def test_no_code_of_a_file_is_run(tmp_path, monkeypatch, call, is_zip):
    monkeypatch.chdir(tmp_path)
    text = "touch ran" if call is os.system else "open('ran', 'w')"
    torch.save({"net": STATE, "x": Code(call, text)}, "w.pt", _use_new_zipfile_serialization=is_zip)
    with suppress(UsageError):
        filled(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()
