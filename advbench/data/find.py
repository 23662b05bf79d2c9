"""The images of an evaluation: from a named data set, a folder of class folders or an npz file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from advbench import checks, data
from advbench.data import npz, pictures
from advbench.data.pixels import Pixels, fingerprint, let_go, room
from advbench.errors import UsageError, did_you_mean
from advbench.progress import track
from advbench.seeds import derive

_DIVIDED_TWICE = 1.001 / 255
_TWELVE_BITS = 4095.5 / 65535
_MOST_CLASSES = 2**31


@dataclass(frozen=True)
class Images:
    """The images that an evaluation attacks.

    :param name: of the data set, for the report.
    :param x: (N, C, H, W); a part of it, such as ``x[:100]``, is float32 in [0, 1].
    :param y: int64 (N,): the right output of the model.
    :param classes: how many classes the data have; None where only the labels are known.
    :param notes: how the images were changed, one sentence each.
    """

    name: str
    x: Pixels
    y: np.ndarray
    classes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 over images and labels."""
        return fingerprint(self.x.stored, self.y)


def find(
    source: str,
    shape: tuple[int, int, int] | None = None,
    labels: Sequence[int] = (),
    n: int | None = None,
    seed: int = 0,
    data_dir: Path | None = None,
) -> Images:
    """Images and labels of a data set.

    :param source: a name from ``advbench list data`` (its test split), a folder with one folder a class, or an npz
        file with ``x`` and ``y``.
    :param shape: (C, H, W) of the model: digits are scaled to it, files of a folder are scaled until they cover it and
        cropped to the centre. Other data sets have their own.
    :param labels: the model's output for each class folder, in the order of :func:`advbench.data.pictures.classes_of`;
        by default 0, 1, 2, ...
    :param n: the number of images, chosen at random; all where None.
    :raises UsageError: for anything that is not images and labels; the message names what was found.
    :raises DataUnavailable: where a named set cannot be had.
    """
    path = Path(source)
    is_archive = path.suffix.lower() == ".npz"
    is_folder = source != "" and not is_archive and path.is_dir()
    if labels and not is_folder:
        raise UsageError(f"--labels names the output of each class folder; {source} has labels of its own")
    if data_dir is not None and (is_archive or is_folder):
        raise UsageError(f"--data-dir is the folder of a named data set; {source} is read where it is")
    if is_archive:
        return _npz(path, n, seed)
    if is_folder:
        return _folder(path, shape, labels, n, seed)
    if source in data.DATASETS:
        loaded = data.load(source, "test", data_dir, shape)
        chosen = choice(len(loaded), n, seed)
        notes = (loaded.left_out,) if loaded.left_out else ()
        return Images(source, Pixels(loaded.x[chosen]), loaded.y[chosen], len(loaded.classes), notes)
    known = [*data.DATASETS, "a folder of class folders", "an .npz file"]
    raise did_you_mean("data set, folder or .npz file", source, known)


def choice(total: int, n: int | None, seed: int) -> np.ndarray:
    """The indices of n of so many images, chosen at random and in order; all where n is None."""
    if n is None or n >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(derive(seed, "images")).permutation(total)[:n])


def _npz(path: Path, n: int | None, seed: int) -> Images:
    x, y = npz.read(path, ("x", "y"), lambda total: choice(total, n, seed))
    images, notes = as_images(x, "x")
    classes, more = as_labels(y, len(images), "y")
    return Images(path.stem, images, classes, notes=(*notes, *more))


def as_images(x: np.ndarray, name: str) -> tuple[Pixels, tuple[str, ...]]:
    """The images (N, C, H, W), and notes on changes: NHWC transposed, a missing channel axis added.

    :raises UsageError: for any other shape, type or range.
    """
    notes = []
    if x.ndim == 3:
        x = x[:, None]
        notes.append(f"{name} had no channel axis: taken as grey")
    if x.shape[:1] == (0,):
        raise UsageError(f"{name} holds no image")
    if x.ndim != 4 or 0 in x.shape:
        raise UsageError(f"{name} must be images (N, C, H, W), found shape {x.shape}")
    if x.shape[1] not in pictures.CHANNELS and x.shape[3] in pictures.CHANNELS:
        x = x.transpose(0, 3, 1, 2)
        notes.append(f"{name} was (N, H, W, C): transposed")
    if x.dtype == np.uint8:
        if _range(x)[1] <= 1:
            raise UsageError(f"{name} is uint8 with no value above 1; save 0..255, or floats in [0, 1]")
        return Pixels(x), (*notes,)
    if not np.issubdtype(x.dtype, np.floating):
        raise UsageError(f"{name} is {x.dtype}; save uint8 in 0..255, or floats in [0, 1]")
    if x.dtype != np.float32:
        notes.append(f"{name} was {x.dtype}: taken as float32")
    low, high = _range(x)
    if problem := checks.outside_unit(name, low, high):
        raise UsageError(problem)
    if low < 0 or high > 1:
        notes.append(f"{name} lies in {low:.8g}..{high:.8g}: clipped to [0, 1]")
    if 0 < high <= _DIVIDED_TWICE:
        raise UsageError(f"{name} lies in {low:.3g}..{high:.3g}: images all but black; were they divided by 255 twice?")
    return Pixels(x), (*notes,)


def _range(x: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value, NaN where there is one."""
    ends = []
    for part in Pixels(x).parts():
        ends.append((x[part].min(), x[part].max()))
        let_go(x)
    low, high = np.array(ends, np.float64).T
    return float(low.min()), float(high.max())


def as_labels(y: np.ndarray, n: int, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels as int64 (N,), from indices or one-hot rows, and notes on changes.

    :raises UsageError: for anything else.
    """
    notes: tuple[str, ...] = ()
    if y.ndim == 2 and y.shape[1] > 1 and np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all():
        y = y.argmax(1)
        notes = (f"{name} was one-hot: taken as indices",)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.shape != (n,):
        raise UsageError(f"{name} must hold {n} labels, one an image, found shape {y.shape}")
    if y.dtype.kind not in "iuf" or not (right := (y == np.floor(y)) & (y >= 0) & (y < _MOST_CLASSES)).all():
        wrong = y[0] if y.dtype.kind not in "iuf" else y[~right][0]
        raise UsageError(f"{name} must be class indices from 0, found {y.dtype} such as {wrong!s}")
    return y.astype(np.int64), notes


def _folder(path: Path, shape: tuple[int, int, int] | None, labels: Sequence[int], n: int | None, seed: int) -> Images:
    if shape is not None and shape[0] not in pictures.CHANNELS:
        raise UsageError(f"the images of a folder have 1 channel or 3, and {shape[0]} are wanted; give an .npz")
    classes, notes = pictures.classes_of(path)
    if labels and len(labels) != len(classes):
        raise UsageError(f"--labels must name {len(classes)} outputs, one a folder of {path}, not {len(labels)}")
    listed: list[tuple[Path, int]] = []
    others: Counter[str] = Counter()
    for label, folder in enumerate(classes):
        files, more = pictures.files_of(folder)
        listed += [(file, label) for file in files]
        others += more
    pictures.check_files(file for file, _ in listed)
    chosen = [listed[index] for index in choice(len(listed), n, seed)]
    first, _ = pictures.decode(chosen[0][0], shape)
    x = room((len(chosen), *first.shape), first.dtype)
    done: Counter[str] = Counter()
    for place, (file, _) in enumerate(track(chosen, f"reading {path.name}", len(chosen))):
        image, changes = pictures.decode(file, shape)
        if image.shape != first.shape:
            sizes = " and ".join(f"{width} x {height}" for _, height, width in (first.shape, image.shape))
            raise UsageError(
                f"the images of {path} have several sizes ({sizes}); give the model's with --shape 3,224,224"
            )
        if image.dtype != first.dtype:
            raise UsageError(f"{file} and {chosen[0][0]} differ in their bits a value; save all images alike")
        x[place] = image
        done.update(changes)
        let_go(x)
    _refuse_dark(x, str(path), _TWELVE_BITS if pictures.DEEP in done else _DIVIDED_TWICE)
    notes = (*notes, *(f"{count} of {len(chosen)} images are {change}" for change, count in done.items()))
    if others:
        notes = (*notes, f"left out of {path.name}: {', '.join(f'{n} x {kind}' for kind, n in sorted(others.items()))}")
    y = np.array([label for _, label in chosen], np.int64)
    if twice := [str(label) for label, folders in Counter(labels).items() if folders > 1]:
        notes = (*notes, f"--labels names output {', '.join(twice)} for more than one class folder")
    if labels:
        return Images(path.name, Pixels(x), np.asarray(labels, np.int64)[y], notes=notes)
    return Images(path.name, Pixels(x), y, len(classes), notes)


def _refuse_dark(x: np.ndarray, name: str, least: float) -> None:
    """:raises UsageError: for images whose largest value is not zero and so small that their scale must be another."""
    high = _range(x)[1] / (255 if x.dtype == np.uint8 else 1)
    if 0 < high <= least:
        raise UsageError(
            f"{name} holds images all but black, no value above {high:.3g} of 1: were they divided twice, or do they have "
            "fewer bits a value than their format?"
        )
