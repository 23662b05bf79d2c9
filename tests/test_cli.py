import json
import os
import signal
import subprocess
import sys
import time
import weakref

import pytest
from click.testing import CliRunner

from advbench import study
from advbench.cli import main
from advbench.data import store


def call(*arguments):
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("ADVBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def refuse(*_):
        raise OSError("no route to host")

    monkeypatch.setattr(store, "_official", refuse)
    monkeypatch.setattr(store, "_npm", refuse)


def test_help_imports_nothing_heavy(tmp_path):
    """What makes --help slow is imports; counted, not timed."""
    program = "import sys; from advbench.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not loaded & {"torch", "art", "pandas", "numpy", "sklearn", "pydantic", "altair", "rich"}
    assert "Usage:" in done.stdout


def test_help_of_evaluate_imports_what_checks_its_options_and_no_more(tmp_path):
    program = "import sys; from advbench.cli import main; main(['evaluate', '--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = done.stdout.splitlines()[-1].split()
    assert not {name.split(".")[0] for name in loaded} & {
        "torch",
        "art",
        "pandas",
        "numpy",
        "sklearn",
        "scipy",
        "altair",
        "rich",
    }
    assert len(loaded) < 330 and "--workers" in done.stdout  # 270, of which click and Python have 134


@pytest.mark.parametrize("kind", ["recipes", "models", "attacks", "detectors", "trainers", "data"])
def test_list_names_things_and_their_meaning(kind):
    entries = json.loads(call("list", kind, "--json").stdout)
    assert entries and all(entries.values())
    assert all(name in call("list", kind).stdout for name in entries)


def test_list_claims_is_what_the_recipes_claim():
    entries = json.loads(call("list", "claims", "--json").stdout)
    assert {claim["recipe"] for claim in entries} == {recipe.name for recipe in study.every() if recipe.claims}
    fooled = next(claim for claim in entries if claim["id"] == "L2")
    assert (fooled["report"], fooled["recipe"], fooled["reported"]) == ("002", "training-mnist", 0.9664)
    said = call("list", "claims").stdout
    assert f"L2: {fooled['says']} (report 002, recipe training-mnist)\n    0.9664  {fooled['measured']}\n" in said
    assert all(claim["says"] in said and claim["measured"] in said for claim in entries)


def test_every_command_has_an_example_in_its_help():
    for command in ("recipe", "show", "report", "compare", "list"):
        assert "advbench " + command in call(command, "--help").stdout


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("recipe", "training-mnits"), "did you mean 'training-mnist'"),
        (("recipe", "training-mnist", "--preset", "tiny"), "Known: paper, small, full, quick"),
        (("recipe", "training-mnist", "--set", "epoch=1"), "did you mean 'epochs'"),
        (("recipe", "training-mnist", "--set", "epochs=-1"), "--set epochs"),
        (("recipe", "training-mnist", "--dataset", "digit"), "did you mean 'digits'"),
        (("recipe", "training-mnist", "--dataset", "digits", "--device", "cuda:77"), "device 'cuda:77'"),
        (("recipe", "training-mnist", "--dataset", "digits", "--out", "/dev/null/x"), "cannot be used"),
        (("list", "attack"), "did you mean 'attacks'"),
        (("show", "nowhere"), "not a run directory"),
        (("report", "nowhere"), "not a run directory"),
        (("report", "nowhere", "--figures", "f", "--format", "jpg"), "choose one of svg, pdf, png"),
        (("report", "nowhere", "--track", "wandb"), "choose one of tensorboard, mlflow"),
        (("compare", "nowhere"), "two runs or more"),
        (("compare", "nowhere", "elsewhere"), "not a run directory"),
        (("data", "verify", "mnist"), "advbench data fetch mnist"),
        (("data", "fetch", "cifar"), "did you mean 'cifar10'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(offline, arguments, said):
    result = call(*arguments)
    assert result.exit_code == 2
    assert said in result.output and "Traceback" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [("reci",), ("recipe", "training-mnist", "--seed", "-1"), ("data", "lst")])
def test_a_wrong_command_or_option_is_exit_code_2(arguments):
    assert call(*arguments).exit_code == 2


@pytest.mark.parametrize("command", [("evaluate", "net.py:make", "--data", "digits"), ("recipe", "training-mnist")])
def test_an_option_with_two_values_is_refused(offline, command):
    result = call(*command, "--seed", "1", "--out", "r", "--seed", "2")
    assert result.exit_code == 2 and "--seed is given twice" in result.stderr


def test_a_pipe_in_place_of_a_config_does_not_wait(offline, tmp_path):
    os.mkfifo(tmp_path / "f.toml")
    result = call("evaluate", "--config", str(tmp_path / "f.toml"))
    assert result.exit_code == 2 and "is not a regular file" in result.stderr


def test_missing_data_is_exit_code_3_with_both_ways_out(offline):
    for preset, dataset in (("quick", "cifar10"), ("paper", "auto")):
        result = call("recipe", "training-mnist", "--preset", preset, "--dataset", dataset)
        assert result.exit_code == 3
        assert "official download: no route to host" in result.stderr
        assert "--data-dir" in result.stderr and "--dataset digits" in result.stderr


def test_auto_takes_the_embedded_data_in_quick_and_small_only(offline):
    from advbench.errors import DataUnavailable
    from advbench.study import find
    from advbench.study.execution import datasets

    found = find("training-mnist")
    for preset in ("quick", "small"):
        train, test, note = datasets(found, found.presets[preset], preset, "auto", None)
        assert train.name == test.name == "digits" and "in its place" in note
    with pytest.raises(DataUnavailable):
        datasets(found, found.presets["paper"], "paper", "auto", None)


def test_data_list_and_verify(offline):
    assert json.loads(call("data", "list", "--json").stdout)["digits"]["kept"]
    assert "digits test: 359 images" in call("data", "verify").stdout


@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_says_how_to_go_on(offline, monkeypatch, sent, code):
    def interrupted(*_, **__):
        os.kill(os.getpid(), sent)
        time.sleep(5)

    monkeypatch.setattr(study, "start", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    result = call("recipe", "training-mnist", "--dataset", "digits")
    assert result.exit_code == code and "goes on from here" in result.stderr
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    "raised, code, said",
    [
        (SystemExit(0), 2, "SystemExit: 0"),
        (SystemExit("enough"), 2, "must not end the program"),
        (ZeroDivisionError("nothing\nmore"), 1, "ZeroDivisionError: nothing (test_cli.py, line"),
        (RecursionError(), 1, "RecursionError"),
        (GeneratorExit(), 1, "GeneratorExit"),
        (type("Own", (BaseException,), {})("x"), 1, "Own: x"),
        (FileNotFoundError(2, "No such file", "x.pt"), 1, "x.pt"),
    ],
)
def test_whatever_stops_a_command_is_one_line_and_never_exit_code_0(offline, monkeypatch, raised, code, said):
    def fails(*_, **__):
        raise raised

    monkeypatch.setattr(study, "start", fails)
    result = call("recipe", "training-mnist", "--dataset", "digits")
    assert result.exit_code == code and said in result.stderr and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and isinstance(result.exception, SystemExit)


def test_an_exit_that_python_cannot_catch_is_one_line_and_a_child_may_end_so(offline, monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", kept := ended.append)
    monkeypatch.setattr(study, "start", lambda *_, **__: os._exit(0))
    result = call("recipe", "training-mnist", "--dataset", "digits")
    assert result.exit_code == 2 and "must not end the program" in result.stderr
    assert os._exit is kept and ended == []

    def in_a_child(*_, **__):
        monkeypatch.setattr(os, "getpid", lambda: -1)
        os._exit(7)

    monkeypatch.setattr(study, "start", in_a_child)
    call("recipe", "training-mnist", "--dataset", "digits")
    assert ended == [7]


class Interrupted:
    """Sends a signal where Python drops every exception."""

    def __init__(self, sent):
        self.sent = sent

    def __del__(self):
        os.kill(os.getpid(), self.sent)
        _ = [0 for _ in range(1000)]


def in_a_destructor(sent):
    Interrupted(sent)
    time.sleep(20)


def in_a_weak_reference(sent):
    thing = Interrupted(0)
    _ = weakref.ref(thing, lambda _: os.kill(os.getpid(), sent))
    del thing
    time.sleep(20)


def in_code_that_excepts_everything(sent):
    try:
        os.kill(os.getpid(), sent)
        time.sleep(20)
    except BaseException:
        pass


def in_code_that_makes_another_error_of_it(sent):
    try:
        os.kill(os.getpid(), sent)
        time.sleep(20)
    except BaseException as error:
        raise ValueError from error


@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    "place",
    [in_a_destructor, in_a_weak_reference, in_code_that_excepts_everything, in_code_that_makes_another_error_of_it],
)
def test_no_signal_is_lost(offline, monkeypatch, sent, code, place):
    monkeypatch.setattr(study, "start", lambda *_, **__: place(sent))
    began = time.monotonic()
    result = call("recipe", "training-mnist", "--dataset", "digits")
    assert result.exit_code == code and "goes on from here" in result.stderr
    assert time.monotonic() - began < 15


PRINTS = """
import atexit, os, subprocess, sys
from advbench.cli.terminal import result_alone
print("before", flush=True)
with result_alone() as out:
    print("a model")
    sys.__stdout__.write("past us")
    os.write(1, b"from C")
    subprocess.run(["echo", "a child"], check=True)
    atexit.register(print, "at the end")
    print("the result", file=out)
    print("and more")
"""


def test_standard_output_holds_the_result_alone(tmp_path):
    done = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "before\nthe result\n"
    assert all(text in done.stderr for text in ("a model", "past us", "from C", "a child", "at the end", "and more"))


def test_a_line_of_the_log_comes_once_though_a_library_logs_too():
    run = (
        "import logging; from advbench.cli.terminal import log_to_terminal; from advbench.progress import log; "
        "log_to_terminal(); logging.basicConfig(); log.info('one'); log.warning('two')"
    )
    found = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in found.stderr.splitlines()] == ["one", "two"]
