"""Finished stages shared through a folder and through an S3 server on this machine."""

import numpy as np
import pytest

from advbench.errors import AdvbenchError, UsageError
from advbench.study import stages
from advbench.study.run import Run
from advbench.study.store import Store

CONFIG = {"recipe": "r", "dataset": "d", "seed": 0, "note": "", "config": {}}


@pytest.fixture(scope="module")
def s3():
    """The URL of a bucket."""
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "testing")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem().mkdir("studies")
    yield "s3://studies"
    patch.undo()
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def url(request, tmp_path):
    return request.getfixturevalue("s3") + f"/{tmp_path.name}" if request.param == "s3" else str(tmp_path / "store")


@pytest.fixture
def machine(tmp_path, url):
    """A run directory of the one study, by the name of its machine."""
    return lambda name: Run(tmp_path / name, CONFIG, Store(url).of("0123abcd"))


def never():
    raise AssertionError("computed again")


def test_what_one_machine_finished_another_does_not_repeat(machine):
    machine("a").arrays("x", lambda: {"ones": np.ones(3)})
    machine("a").rows("y", lambda: [{"metric": "accuracy", "value": 0.5}])
    assert machine("b").arrays("x", never)["ones"].sum() == 3
    assert machine("b").rows("y", never).value.tolist() == [0.5]
    marker = "stages/x.json"
    assert (machine("a").directory / marker).read_bytes() == (machine("b").directory / marker).read_bytes()


def test_what_a_machine_finished_without_the_store_is_brought_there(machine, tmp_path):
    Run(tmp_path / "a", CONFIG).arrays("x", lambda: {"ones": np.ones(3)})
    machine("a").arrays("x", never)
    assert machine("b").arrays("x", never)["ones"].sum() == 3


@pytest.mark.parametrize("file", ["stages/x.json", "arrays/x/ones.npy"])
def test_what_was_damaged_in_the_store_is_computed_again_and_mended(machine, file):
    first = machine("a")
    first.arrays("x", lambda: {"ones": np.ones(3)})
    files, place = first.store._files, f"{first.store._root}/{file}"
    content = bytearray(files.cat_file(place))
    content[-1] ^= 1
    files.pipe_file(place, bytes(content))
    assert machine("b").arrays("x", lambda: {"ones": 2 * np.ones(3)})["ones"].sum() == 6
    assert machine("c").arrays("x", never)["ones"].sum() == 6


def test_a_stage_whose_machine_died_while_it_was_brought_there_is_not_finished(machine):
    first = machine("a")
    first.arrays("x", lambda: {"ones": np.ones(3)})
    first.store._files.rm_file(f"{first.store._root}/stages/x.json")  # which is written last
    second = machine("b")
    assert not second.store.fetch("x", second.directory) and not (second.directory / "stages").exists()


def test_a_file_outside_of_the_run_is_refused(machine, tmp_path):
    run = machine("a")
    run.store._files.makedirs(f"{run.store._root}/stages", exist_ok=True)
    run.store._files.pipe_file(f"{run.store._root}/stages/x.json", b'{"files": {"../../stolen": "00"}, "seconds": 1}')
    with pytest.raises(UsageError, match="outside of itself"):
        run.arrays("x", never)
    assert not (tmp_path / "stolen").exists()


def test_a_folder_is_the_same_wherever_a_process_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store("store").of("study").url == f"{tmp_path}/store/study"


def test_a_url_of_an_unknown_kind_is_one_line():
    with pytest.raises(UsageError, match="--store gopher://x: "):
        Store("gopher://x")


def test_a_store_that_cannot_be_written_is_one_line_and_nothing_is_lost(tmp_path):
    (tmp_path / "file").touch()
    run = Run(tmp_path / "run", CONFIG, Store(str(tmp_path / "file" / "store")))
    with pytest.raises(AdvbenchError, match="file/store cannot be used"):
        run.arrays("x", lambda: {"ones": np.ones(3)})
    assert stages.finished(run.directory, "x")
