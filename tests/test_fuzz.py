"""What a user, a colleague's file or an enemy's may hold: one line each time, no traceback, no code run, no file touched.

``ADVBENCH_FUZZ=100 pytest tests/test_fuzz.py`` tries a hundred times as much.
"""

import json
import os
import pickle
import string
from contextlib import contextmanager

import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from advbench import evaluation, models, study
from advbench.checkpoint import save_tensors
from advbench.cli import main
from advbench.errors import AdvbenchError, UsageError
from advbench.evaluation.options import Options, floors
from advbench.models import weights

MORE = int(os.environ.get("ADVBENCH_FUZZ", "1"))
NASTY = st.sampled_from(
    [
        "",
        "-",
        "--",
        "=",
        "x=",
        "=1",
        "1e999",
        "-1e-999",
        "nan",
        "inf",
        "9" * 5000,
        "0x10",
        "1/0",
        "../x",
        "/dev/null",
        "\0",
    ]
    + [
        "[" * 2000,
        "{" * 2000,
        '{"a":' * 500,
        "null",
        "true",
        "[]",
        "{}",
        '"',
        "[[1,2],[3]]",
        "é\u202e",
        "$(id)",
        "a,,b",
        ",",
    ]
)
TEXT = st.one_of(NASTY, st.text(max_size=20), st.text(string.digits + "-+./e,", max_size=8))


def fuzz(examples):
    return settings(
        deadline=None,
        max_examples=examples * MORE,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@contextmanager
def or_one_line():
    """What is inside holds, or it is refused in one line."""
    try:
        yield
    except UsageError as error:
        if len(str(error).splitlines()) != 1:
            raise AssertionError(f"not one line: {error}") from error


@fuzz(60)
@given(name=st.sampled_from(sorted(study.names())), key=st.integers(0, 200), value=TEXT, whole=st.booleans())
def test_any_setting_is_taken_or_refused_in_one_line(name, key, value, whole):
    found = study.find(name)
    keys = list(found.presets["quick"].model_dump())
    setting = value if whole else f"{keys[key % len(keys)]}={value}"
    with or_one_line():
        config = study.configure(found.preset("quick"), (setting,))
        json.dumps(config.model_dump(mode="json"))


@fuzz(100)
@given(st.dictionaries(st.sampled_from(sorted({*Options.model_fields} - {"model", "data"})), TEXT, max_size=4))
def test_any_option_of_evaluate_is_taken_or_refused_in_one_line(given):
    with or_one_line():
        options = Options.parse(model="m.py:f", data="d.npz", **given)
        assert isinstance(options.command(0), str)


@fuzz(60)
@given(st.lists(TEXT, max_size=3).map(tuple))
def test_any_floor_is_taken_or_refused_in_one_line(given):
    with or_one_line():
        assert all(isinstance(value, float) for value in floors(given).values())


COMMANDS = ["recipe", "show", "report", "compare", "evaluate", "list", "bench", "data", "-h", "--version"]
OPTIONS = [
    "--preset",
    "--dataset",
    "--data",
    "--out",
    "--set",
    "--eps",
    "--n",
    "--seed",
    "--docs",
    "--figures",
    "--json",
]
WORD = TEXT.filter(lambda text: "\0" not in text)  # no operating system hands one over
OPTIONS += ["--weights", "--fail-under", "--device", "--data-dir", "--workers", "--track", "fetch", "verify", "digits"]


@fuzz(150)
@given(words=st.lists(st.one_of(st.sampled_from(OPTIONS), WORD, st.sampled_from(sorted(study.names()))), max_size=6))
@pytest.mark.parametrize("command", COMMANDS)
def test_any_command_line_ends_with_an_exit_code_of_its_own(monkeypatch, tmp_path_factory, command, words):
    """Nothing is computed: a command that would be is stopped where it starts."""

    def started(*_, **__):
        raise AdvbenchError("would be computed")

    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    monkeypatch.setattr(study, "start", started)
    monkeypatch.setattr(evaluation, "start", started)
    monkeypatch.setattr("advbench.data.load", started)
    done = CliRunner().invoke(main, [command, *words])
    assert done.exit_code in (0, 1, 2, 3), done.exception
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert list(here.rglob("*")) == []


STATE = {"layer.weight": torch.arange(12.0).reshape(3, 4), "layer.bias": torch.zeros(3)}


@st.composite
def damaged(draw, content):
    """Some bytes changed, the end perhaps cut off."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(0, 5))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(changed)))] if draw(st.booleans()) else changed)


@fuzz(80)
@given(data=st.data())
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_damaged_weights_are_refused_in_one_line_or_are_tensors(tmp_path, suffix, data):
    path = tmp_path / f"weights{suffix}"
    save_file(STATE, path) if suffix == ".safetensors" else torch.save(STATE, path)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    with or_one_line():
        assert all(isinstance(value, torch.Tensor) for value in weights.read(path).values())


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wrap", [lambda code: code, lambda code: {"state_dict": {"w": code}}, lambda code: [code]])
def test_no_code_of_a_pickle_is_run(tmp_path, protocol, wrap):
    trace = tmp_path / "trace"
    for path, write in (
        (tmp_path / "a.pt", lambda path: path.write_bytes(pickle.dumps(wrap(Payload(str(trace))), protocol))),
        (tmp_path / "b.pt", lambda path: torch.save(wrap(Payload(str(trace))), path, pickle_protocol=max(2, protocol))),
    ):
        write(path)
        with pytest.raises(
            UsageError, match="refused|cannot be read|is text, not weights|is neither a safetensors file"
        ):
            weights.read(path)
    assert not trace.exists()


@fuzz(60)
@given(data=st.data())
def test_a_damaged_model_of_a_run_is_never_used(tmp_path, data):
    """Its checksum covers every weight: what loads is what was saved."""
    path = tmp_path / "model.safetensors"
    spec = models.ModelSpec("cnn2", (1, 28, 28), 10, (0.0,), (1.0,))
    models.save(path, models.create(spec, 0), spec)
    whole = path.read_bytes()
    changed = data.draw(damaged(whole))
    path.write_bytes(changed)
    with or_one_line():
        module, found = models.load(path)
        fresh = models.create(spec, 0).state_dict()
        assert found == spec and all(torch.equal(value, fresh[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    "meta",
    [
        {"name": "cnn2", "classes": 10**9},
        {"name": "cnn2", "classes": -1},
        {"name": "cnn2", "classes": "10"},
        {"name": "os"},
        {"name": ["cnn2"]},
        {"name": "cnn2", "mean": [0.0] * 9},
        {"name": "cnn2", "surprise": 1},
        {},
    ],
)
def test_a_model_file_that_asks_for_something_else_is_refused(tmp_path, meta):
    """A network of 10^9 classes would take 200 GB before its weights were compared."""
    path = tmp_path / "model.safetensors"
    save_tensors(path, STATE, meta)
    with or_one_line():
        models.load(path)
        pytest.fail("it was taken")


def test_metadata_that_nest_without_end_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(save(STATE, {"advbench": "[" * 50_000}))
    with pytest.raises(UsageError):
        models.load(path)
