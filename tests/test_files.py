import os
import random
import re
import signal
import socket
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from advbench import files
from advbench.errors import UsageError


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file"
    files.write_text(path, "old")

    def half(stream):
        stream.write(b"ne")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        files.write(path, half)
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_link_is_replaced_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(outside)
    files.write_text(link, "theirs")
    assert outside.read_text() == "mine" and link.read_text() == "theirs"


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    seen = []

    def look(stream):
        seen.extend(path for path in tmp_path.rglob("*") if path.is_file())

    files.write(tmp_path / "a" / "x.npy", look)
    (left,) = seen
    left.touch()
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "x.npy"]


def test_the_checksum_is_the_published_one(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def tree(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/c/3.png"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "tree"


def test_a_tree_is_every_file_once_and_its_root_may_be_a_link(tree, tmp_path):
    (tmp_path / "link").symlink_to(tree)
    for root in (tree, tmp_path / "link"):
        found = files.check_tree(root)
        assert [path.relative_to(root).as_posix() for path in found] == ["a/1.png", "a/2.png", "b/c/3.png"]


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda path: path.symlink_to(".."), "x.png is a symbolic link"),
        (lambda path: path.symlink_to("../a"), "x.png is a symbolic link"),
        (lambda path: path.symlink_to("../a/1.png"), "x.png is a symbolic link"),
        (lambda path: path.symlink_to("/dev/zero"), "x.png is a symbolic link"),
        (lambda path: path.symlink_to("nowhere"), "x.png is a symbolic link"),
        (os.mkfifo, "x.png is neither a file nor a folder"),
        (lambda path: _bind(path), "x.png is neither a file nor a folder"),
    ],
)
def test_what_is_neither_file_nor_folder_is_refused_by_name(tree, make, said):
    make(tree / "b" / "x.png")
    with pytest.raises(UsageError, match=said) as error:
        files.check_tree(tree)
    assert "\n" not in str(error.value)


def _bind(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))


def test_only_a_regular_file_of_bounded_size_is_read(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("[1]")
    assert files.read_bytes(path, most=3) == b"[1]" and files.read_json(path) == [1]
    with pytest.raises(ValueError, match=r"x.json has 3 bytes, more than the 2"):
        files.read_bytes(path, most=2)
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match="is not a regular file"):
            files.read_json(other)


def written(tmp_path, code):
    path = tmp_path / "own.py"
    path.write_text(code)
    return path


@pytest.mark.parametrize(
    "code, said",
    [
        ("import sys\nsys.exit(0)", r"own.py ends the program: SystemExit: 0 \(own.py, line 2\)"),
        ("raise SystemExit", "own.py ends the program"),
        ("\nexit()", r"own.py ends the program.*line 2"),
        (
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', required=True)\np.parse_args()",
            r"own.py ends the program: SystemExit: 2 \(own.py, line 4\)",
        ),
        ("import torch\ntorch.zeros(2) @ torch.zeros(3)", r"does not import: RuntimeError: .*\(own.py, line 2\)"),
        ("raise GeneratorExit", r"does not import: GeneratorExit \(own.py, line 1\)"),
        ("class Own(BaseException): pass\nraise Own('x')", r"does not import: Own: x \(own.py, line 2\)"),
        ("import json\n\njson.loads('{')", r"does not import: JSONDecodeError: .*\(own.py, line 3\)"),
    ],
)
def test_a_file_that_ends_the_program_or_fails_is_one_line_with_its_own_line(tmp_path, code, said):
    with pytest.raises(UsageError, match=said) as error:
        files.run_file(written(tmp_path, code))
    assert "\n" not in str(error.value)


def test_a_file_does_not_see_our_arguments(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["advbench", "evaluate", "x", "--lr", "7"])
    path = written(
        tmp_path,
        "import argparse, sys\np = argparse.ArgumentParser()\np.add_argument('--lr', default=1)\n"
        "lr, argv = p.parse_args().lr, sys.argv",
    )
    module = files.run_file(path)
    assert (module.lr, module.argv) == (1, [str(path)]) and sys.argv[-1] == "7"


@pytest.mark.parametrize("fails", ["", "\n1 / 0"])
def test_what_a_file_switches_is_switched_back(tmp_path, fails):
    def state():
        switches = torch.is_grad_enabled(), torch.get_default_dtype(), np.geterr(), os.getcwd(), warnings.filters[:]
        return *switches, signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), sys.stdout, sys.stderr

    before = state()
    code = (
        "import os, warnings, numpy, torch\ntorch.set_grad_enabled(False)\ntorch.set_default_dtype(torch.float64)\n"
        "numpy.seterr(all='raise')\nos.chdir('/')\nwarnings.simplefilter('error')\nimport signal, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.signal(signal.SIGINT, print)\nsys.stdout = sys.stderr = None"
    )
    with suppress(UsageError):
        files.run_file(written(tmp_path, code + fails))
    assert state() == before


def test_a_file_draws_the_same_numbers_every_time_and_leaves_the_generators_alone(tmp_path):
    code = "import random, numpy, torch\nx = random.random(), numpy.random.rand(), float(torch.rand(()))"
    first = files.run_file(written(tmp_path, code)).x
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate()
    assert files.run_file(written(tmp_path, code)).x == first
    assert random.getstate() == before and np.random.rand() == np.random.RandomState(1).rand()


@pytest.mark.parametrize(
    ("error", "said"), [(AssertionError(), "AssertionError"), (ValueError("one\ntwo"), "ValueError: one")]
)
def test_an_error_is_named_once(error, said):
    with pytest.raises(type(error)) as raised:
        raise error
    assert files.with_type(raised.value) == said
    assert re.fullmatch(rf"{said} \(test_files.py, line \d+\)", files.place(raised.value))
