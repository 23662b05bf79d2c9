"""Rows of an npz file, read as a stream: memory holds the chosen rows only, whatever size a header claims."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, NamedTuple
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

import numpy as np

from advbench.data.pixels import let_go, room
from advbench.errors import UsageError

_CHUNK = 1 << 22  # bytes
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype
    bytes_a_row: int


def read(path: Path, names: tuple[str, ...], choose: Callable[[int], np.ndarray]) -> list[np.ndarray]:
    """Chosen rows of arrays that have one length.

    :param path: an npz file, compressed or not.
    :param names: of the arrays.
    :param choose: from the length of the first array to the ascending indices of the chosen rows; memory holds them
        where they are few, a file otherwise.
    :raises UsageError: if it is no npz file, lacks an array, is damaged, or holds Python objects; nothing is unpickled.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file that holds arrays, but a folder, pipe or device")
    try:
        with ZipFile(path) as archive:
            held = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            if any(name not in held for name in names):
                raise UsageError(f"{path} must hold arrays {' and '.join(names)}, found {', '.join(held) or 'none'}")
            arrays = []
            chosen = None
            for name in names:
                with archive.open(f"{name}.npy") as stream:
                    header = _header(stream, f"{path}: {name}")
                    if prod(header.shape) * header.dtype.itemsize > archive.getinfo(f"{name}.npy").file_size:
                        raise EOFError
                    length = header.shape[0] if header.shape else 0
                    if chosen is None:
                        chosen, total = choose(length), length
                    if length != total:
                        raise UsageError(f"{name} must hold {total} rows like {names[0]}, found shape {header.shape}")
                    arrays.append(_rows(stream, header, chosen))
                    if len(chosen) and stream.read(1):  # only at its end is the checksum of a member compared
                        raise EOFError
            return arrays
    except (OSError, BadZipFile, EOFError, ZlibError, NotImplementedError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "not an npz file, or a damaged one"
        raise UsageError(f"{path} cannot be read: {reason}") from error
    except MemoryError as error:
        raise UsageError(f"{path} holds more than fits into memory; choose fewer images with --n") from error


def _header(stream: IO[bytes], name: str) -> _Header:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a header that Python 2 wrote
            version = np.lib.format.read_magic(stream)
            shape, fortran, dtype = _HEADERS[version](stream)
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, OverflowError, TokenError) as error:
        raise UsageError(f"{name} is not an array that numpy saved") from error
    if not dtype.itemsize or 0 in shape[1:]:
        raise UsageError(f"{name} holds values of no size")
    if any(size < 0 for size in shape):
        raise UsageError(f"{name} is not an array that numpy saved")
    if dtype.hasobject:
        raise UsageError(f"{name} holds Python objects, which only a pickle can read: refused; save plain arrays")
    if fortran and len(shape) > 1:
        raise UsageError(f"{name} is in Fortran order; save np.ascontiguousarray of it")
    return _Header(shape, dtype, dtype.itemsize * prod(shape[1:]))


def _rows(stream: IO[bytes], header: _Header, chosen: np.ndarray) -> np.ndarray:
    try:
        result = room((len(chosen), *header.shape[1:]), header.dtype)
    except ValueError as error:  # more bytes than an address can number
        raise MemoryError from error
    if not result.size:
        return result
    at_once = max(1, _CHUNK // header.bytes_a_row)
    for start in range(0, header.shape[0], at_once):
        count = min(at_once, header.shape[0] - start)
        content = stream.read(count * header.bytes_a_row)
        if len(content) < count * header.bytes_a_row:
            raise EOFError
        low, high = np.searchsorted(chosen, (start, start + count))
        if high > low:
            rows = np.frombuffer(content, header.dtype).reshape(count, *header.shape[1:])
            result[low:high] = rows[chosen[low:high] - start]
            let_go(result)
    return result
