"""An npz file may be damaged, or made to harm: nothing is unpickled, and no more is held than was asked for."""

import io
import tracemalloc
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from advbench.data import npz
from advbench.errors import UsageError

DTYPES = st.sampled_from(["u1", "<f4", ">f8", "<i8", "<U3", "?"])


def everything(total):
    return np.arange(total)


def saved(path, compressed=True, **arrays):
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=DTYPES.flatmap(lambda dtype: npst.arrays(dtype, npst.array_shapes(max_dims=4, max_side=6))),
    compressed=st.booleans(),
    chunk=st.sampled_from([1, 7, 1 << 22]),
    data=st.data(),
)
def test_chosen_rows_are_those_that_numpy_reads(tmp_path, array, compressed, chunk, data):
    array = np.ascontiguousarray(array)
    chosen = np.array(sorted(data.draw(st.sets(st.integers(0, len(array) - 1)))), int)
    path = saved(tmp_path / "set.npz", compressed, x=array, y=np.arange(len(array)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(npz, "_CHUNK", chunk)
        x, y = npz.read(path, ("x", "y"), lambda total: chosen)
    np.testing.assert_array_equal(x, np.load(path)["x"][chosen])
    np.testing.assert_array_equal(y, chosen)
    assert x.dtype == array.dtype


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_one_line_or_its_true_content(tmp_path, data):
    """Every member of a zip file has a CRC-32: what is read in spite of the damage is what was written."""
    x = np.arange(60, dtype=np.uint8).reshape(5, 3, 2, 2)
    path = saved(tmp_path / "set.npz", data.draw(st.booleans()), x=x, y=np.arange(5))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        found, labels = npz.read(path, ("x", "y"), everything)
    except UsageError as error:
        said = str(error)
        assert (
            (len(said.splitlines()) == 1 and "cannot be read" in said) or "must hold" in said or "not an array" in said
        )
    else:
        np.testing.assert_array_equal(found, x)
        np.testing.assert_array_equal(labels, np.arange(5))


def member(header, content=b""):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (1,), **header})
    return stream.getvalue() + content


@pytest.mark.parametrize(
    "header, said",
    [
        ({"shape": (10**9, 3, 32, 32)}, "damaged|fits into memory"),
        ({"shape": (10**30,)}, "not an array|damaged|memory"),
        ({"shape": (5, 10**9, 10**9)}, "damaged|memory"),
        ({"descr": "|O"}, "only a pickle can read: refused"),
        ({"shape": (2, 2), "fortran_order": True}, "Fortran order"),
    ],
)
def test_a_header_that_claims_too_much_costs_no_memory(tmp_path, header, said):
    path = tmp_path / "set.npz"
    with ZipFile(path, "w") as written:
        written.writestr("x.npy", member(header, b"\0" * 100))
        written.writestr("y.npy", member({"shape": (10**9,)}))
    tracemalloc.start()
    with pytest.raises(UsageError, match=said):
        npz.read(path, ("x", "y"), lambda total: np.arange(10))
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_a_decompression_bomb_is_read_in_pieces(tmp_path):
    rows = 300_000
    path = tmp_path / "bomb.npz"
    with ZipFile(path, "w", ZIP_DEFLATED) as written:
        for name, shape in (("x", (rows, 1, 32, 32)), ("y", (rows,))):
            with written.open(f"{name}.npy", "w", force_zip64=True) as stream:
                stream.write(member({"shape": shape}))
                for _ in range(shape[0] // 1000):
                    stream.write(bytes(int(np.prod(shape[1:])) * 1000))
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    x, y = npz.read(path, ("x", "y"), lambda total: np.array([0, total - 1]))
    assert x.shape == (2, 1, 32, 32) and y.shape == (2,)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20 < rows * 1024
    tracemalloc.stop()


def test_arrays_of_other_lengths_and_missing_ones_are_named(tmp_path):
    with pytest.raises(UsageError, match="y must hold 3 rows like x, found shape"):
        npz.read(saved(tmp_path / "a.npz", x=np.ones((3, 2)), y=np.ones(4)), ("x", "y"), everything)
    with pytest.raises(UsageError, match="must hold arrays x and y, found x, z"):
        npz.read(saved(tmp_path / "b.npz", x=np.ones(3), z=np.ones(3)), ("x", "y"), everything)


@pytest.mark.parametrize("header", [b"{'descr': '|u1', 'shape': (3,", b"{'descr': \x00", b"x" * 20, b"{[(", b"'" * 3])
def test_a_header_that_is_no_literal_is_one_line(tmp_path, header):
    path = tmp_path / "set.npz"
    with ZipFile(path, "w") as written:
        written.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        written.writestr("y.npy", b"")
    with pytest.raises(UsageError, match="x is not an array that numpy saved"):
        npz.read(path, ("x", "y"), everything)


@pytest.mark.parametrize("shape", [(10**23, 1), (10**15,), (-1, 4), (3, 0)])
def test_a_header_that_claims_more_rows_than_there_can_be_is_one_line(tmp_path, shape):
    path = tmp_path / "set.npz"
    with ZipFile(path, "w") as written:
        for name in ("x", "y"):
            written.writestr(f"{name}.npy", member({"shape": shape}, bytes(4)))
    with pytest.raises(UsageError, match="damaged|not an array|no size"):
        npz.read(path, ("x", "y"), everything)


def test_a_header_that_claims_less_than_is_there_is_a_damaged_file(tmp_path):
    path = tmp_path / "set.npz"
    with ZipFile(path, "w") as written:
        for name in ("x", "y"):
            written.writestr(f"{name}.npy", member({"shape": (4,)}, bytes(range(5))))
    with pytest.raises(UsageError, match="damaged"):
        npz.read(path, ("x", "y"), everything)
