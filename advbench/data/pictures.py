"""Image files as arrays: in every depth that Pillow reads, turned upright, fitted to a size without needless resampling."""

from __future__ import annotations

import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from advbench import checks
from advbench.errors import UsageError
from advbench.files import first_line

CHANNELS = (1, 3)
"""Of images that are made from a file, in any number of which it has."""

_ENDINGS = (".jpg", ".jpeg", ".jfif", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
_CLUTTER = {"__MACOSX", "__pycache__", "@eaDir"}  # folders that archives, Python and file servers leave behind
_SPLITS = {"train", "training", "val", "valid", "validation", "test"}
_ORIENTATION, _LYING = 0x0112, range(2, 9)  # of EXIF
_EIGHT_BITS, _SIXTEEN_BITS = 255, 65535
_LUMA = 0.299, 0.587, 0.114  # of red, green and blue, as Pillow makes them grey

TURNED = "turned upright, as EXIF says"
DEEP = f"of 16 bits a value: divided by {_SIXTEEN_BITS}"
FRAMES = "of several frames, of which the first is taken"
TRANSPARENT = "with an alpha channel, which is left out: colours are as they are in the file"
FITTED = "of another size than {} x {}: scaled until they cover it, and cropped to its middle"


def classes_of(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The class folders in order, by number where all are named by numbers, else by name; and notes on that.

    :raises UsageError: if there are none, or they are the splits of a data set, or a link that leads back, or the classes
        lie one level deeper.
    """
    found = [path for path in folder.iterdir() if path.is_dir() and not is_clutter(path.name)]
    by_name = sorted(found, key=lambda path: path.name)
    if not found:
        raise UsageError(f"{folder} must hold one folder of images a class; it has no folder")
    if len(found) > 1 and {path.name.lower() for path in found} <= _SPLITS:
        raise UsageError(f"{folder} holds the splits of a data set; choose one, such as {by_name[-1]}")
    for path in by_name:
        if folder.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"{path} is a link that leads back to {folder}")
    if len(inner := _classes_inside(found)) > 1:
        named = ", ".join(sorted(inner)[:3])
        raise UsageError(
            f"{folder}: the classes ({named}, ...) lie one level deeper; give {by_name[-1]}, or move the images up where "
            "they are no classes"
        )
    if not all(path.name.isdecimal() for path in found):
        return by_name, ()
    by_number = sorted(by_name, key=lambda path: int(path.name))
    if by_number == by_name:
        return by_name, ()
    names = ", ".join(path.name for path in by_number[:4])
    return by_number, (
        f"the class folders of {folder.name} are taken in numeric order, not alphabetical: {names}, ...",
    )


def _classes_inside(folders: Sequence[Path]) -> set[str]:
    """The names of the folders that each of the folders holds, where all hold the same, no image and no splits."""
    inside = []
    for folder in folders:
        paths = [path for path in folder.iterdir() if not is_clutter(path.name)]
        if any(path.name.lower().endswith(_ENDINGS) for path in paths):
            return set()
        inside.append({path.name for path in paths if path.is_dir()})
    is_same = all(names == inside[0] for names in inside) and not {name.lower() for name in inside[0]} <= _SPLITS
    return inside[0] if is_same else set()


def is_clutter(folder: str) -> bool:
    """Whether a folder of this name is no part of a data set: hidden, or left behind by a tool."""
    return folder.startswith(".") or folder in _CLUTTER


def files_of(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The image files of one class, also in folders below it; and what else is there, counted by its kind.

    Links to folders are not followed; :func:`is_clutter` says which folders are left out without a word.

    :raises UsageError: if there are none.
    """
    found: list[Path] = []
    others: Counter[str] = Counter()
    for parent, folders, names in sorted(os.walk(folder)):
        if any(is_clutter(part) for part in Path(parent).relative_to(folder).parts):
            continue
        others["link to a folder"] += sum(os.path.islink(os.path.join(parent, name)) for name in folders)
        for path in (Path(parent) / name for name in sorted(names) if not name.startswith(".")):
            if path.name.lower().endswith(_ENDINGS):
                found.append(path)
            else:
                others[path.suffix or path.name] += 1
    if not found:
        raise UsageError(f"{folder} must hold one class of images: it has no image ({', '.join(_ENDINGS)})")
    return found, +others


def check_files(files: Iterable[Path]) -> None:
    """Check that all are regular files, and none of them is another one by a link.

    :raises UsageError: otherwise; the line names the first that is not.
    """
    known: dict[tuple[int, int], Path] = {}
    for path in files:
        try:
            about = path.stat()
        except OSError as error:  # a link that leads nowhere, or to itself
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(about.st_mode):  # a pipe or a device may never end
            raise UsageError(f"{path} is a pipe, socket or device, not an image")
        first = known.setdefault((about.st_dev, about.st_ino), path) if about.st_ino else path
        if first is not path:
            raise UsageError(f"{first} and {path} are one file, which would count twice; leave out one of them")


def decode(path: Path, shape: tuple[int, int, int] | None = None) -> tuple[np.ndarray, Sequence[str]]:
    """An image as (C, H, W), uint8, or float32 in [0, 1] where its file has more than 8 bits a value; and what was done.

    :param shape: (C, H, W) to which it is scaled, until it covers them, and cropped to the centre; by default RGB in its
        own size.
    :raises UsageError: if it cannot be read; the message names the file.
    """
    try:
        with Image.open(path) as file:
            file.verify()  # checksums, which loading alone does not compare
        with Image.open(path) as file:
            is_deep = _has_deep_colours(file)
            file.load()
            orientation = file.getexif().get(_ORIENTATION, 1)
            done = [TURNED] if orientation in _LYING else []
            done += [TRANSPARENT] if file.has_transparency_data else []
            done += [FRAMES] if getattr(file, "n_frames", 1) > 1 else []
            upright, kind = ImageOps.exif_transpose(file), file.format
    except Exception as error:  # Pillow's plugins raise errors of any kind on a damaged file
        raise UsageError(f"{path} cannot be read as an image: {first_line(error)}") from error
    if shape is not None and (upright.height, upright.width) != shape[1:]:
        done.append(FITTED.format(*shape[1:]))
    is_grey = shape is not None and shape[0] == 1
    if is_deep:
        images, done = _deep_colours(path, kind, is_grey, orientation), [*done, DEEP]
    elif upright.mode.startswith(("I", "F")):
        images = [_floats(upright, kind, path)]
        done += [] if upright.mode == "F" else [DEEP]
    else:
        image = upright.convert("RGB")
        images = [image.convert("L") if is_grey else image]
    parts = [np.asarray(image if shape is None else _fitted(image, shape[1], shape[2])) for image in images]
    pixels = np.stack(parts) if parts[0].ndim == 2 else parts[0].transpose(2, 0, 1)
    channels = 3 if shape is None else shape[0]
    return np.broadcast_to(pixels, (channels, *pixels.shape[1:])), done


def _has_deep_colours(file: Image.Image) -> bool:
    """Whether a file that is not loaded yet has 16 bits a value in several channels, of which Pillow reads 8."""
    tiles: Any = getattr(file, "tile", ())
    if file.mode not in ("LA", "RGB", "RGBA") or not tiles:
        return False
    stored = tiles[0].args  # what Pillow's decoder is told of the file
    return ";16" in str(stored) or (file.format == "PPM" and isinstance(stored, tuple) and stored[-1] > _EIGHT_BITS)


def _deep_colours(path: Path, kind: str | None, is_grey: bool, orientation: int) -> list[Image.Image]:
    """The colours of a PNG of 16 bits a value, an image of floats in [0, 1] a channel."""
    try:
        from torchvision.io import ImageReadMode, read_image
    except ImportError:  # of a torchvision without decoders
        kind = None
    if kind != "PNG":
        raise UsageError(f"{path} has colours of 16 bits a value, which cannot be read; save 8 bits a value")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        values = read_image(str(path), ImageReadMode.UNCHANGED).numpy().astype(np.float32) / _SIXTEEN_BITS
    colours = values[:3] if len(values) > 2 else values[:1]  # or grey and alpha
    if is_grey and len(colours) == 3:
        colours = np.tensordot(np.array(_LUMA, np.float32), colours, 1)[None]
    images = [Image.fromarray(colour) for colour in colours]
    for image in images:
        image.getexif()[_ORIENTATION] = orientation
    return [ImageOps.exif_transpose(image) for image in images]


def _floats(image: Image.Image, kind: str | None, path: Path) -> Image.Image:
    """An image of more than 8 bits a value as one of floats in [0, 1]."""
    values = np.asarray(image)
    if image.mode == "I" and kind not in ("PNG", "PPM"):  # in these two, 16 bits that Pillow hands out as 32
        raise UsageError(f"{path} holds integers of 32 bits, whose range is not known; save 8 or 16 bits a value")
    scaled = values.astype(np.float32) if image.mode == "F" else values.astype(np.float32) / _SIXTEEN_BITS
    if problem := checks.outside_unit(str(path), float(scaled.min()), float(scaled.max())):
        raise UsageError(problem)
    return Image.fromarray(scaled.clip(0, 1))


def _fitted(image: Image.Image, height: int, width: int) -> Image.Image:
    if (image.height, image.width) == (height, width):
        return image
    if height * image.width >= width * image.height:
        size = max(width, int(height * image.width / image.height)), height
    else:
        size = width, max(height, int(width * image.height / image.width))
    scaled = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((scaled.width - width) / 2), round((scaled.height - height) / 2)
    return scaled.crop((left, top, left + width, top + height))
