"""Image files as arrays: in every depth that Pillow reads, turned upright, fitted to a size without needless resampling."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from advbench import checks
from advbench.errors import UsageError
from advbench.files import first_line

_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_SPLITS = {"train", "training", "val", "valid", "validation", "test"}
_ORIENTATION, _UPRIGHT = 0x0112, (0, 1)  # of EXIF
_SIXTEEN_BITS = 65535

TURNED = "turned upright, as EXIF says"
DEEP = f"of 16 bits a value: divided by {_SIXTEEN_BITS}"
FRAMES = "of several frames, of which the first is taken"
TRANSPARENT = "with an alpha channel, which is left out: colours are as they are in the file"


def classes_of(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The class folders in order, by number where all are named by numbers, else by name; and notes on that.

    :raises UsageError: if there are none, or they are the splits of a data set, or a link that leads back.
    """
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    by_name = sorted(found, key=lambda path: path.name)
    if not found:
        raise UsageError(f"{folder} must hold one folder of images a class; it has no folder")
    if len(found) > 1 and {path.name.lower() for path in found} <= _SPLITS:
        raise UsageError(f"{folder} holds the splits of a data set; choose one, such as {by_name[-1]}")
    for path in by_name:
        if folder.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"{path} is a link that leads back to {folder}")
    if not all(path.name.isdecimal() for path in found):
        return by_name, ()
    by_number = sorted(by_name, key=lambda path: int(path.name))
    if by_number == by_name:
        return by_name, ()
    names = ", ".join(path.name for path in by_number[:4])
    return by_number, (
        f"the class folders of {folder.name} are taken in numeric order, not alphabetical: {names}, ...",
    )


def files_of(folder: Path) -> list[Path]:
    """The image files of one class, also in folders below it; links to folders are not followed.

    :raises UsageError: if there are none.
    """
    found = [
        Path(parent) / name
        for parent, _, names in sorted(os.walk(folder))
        for name in sorted(names)
        if name.lower().endswith(_ENDINGS) and not name.startswith(".")
    ]
    found = [path for path in found if path.is_file()]  # neither a pipe nor a device, which may never end
    if not found:
        raise UsageError(f"{folder} must hold one class of images: it has no image ({', '.join(_ENDINGS)})")
    return found


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
            file.load()
            done = [TURNED] if file.getexif().get(_ORIENTATION, 1) not in _UPRIGHT else []
            done += [TRANSPARENT] if file.has_transparency_data else []
            done += [FRAMES] if getattr(file, "n_frames", 1) > 1 else []
            upright, kind = ImageOps.exif_transpose(file), file.format
    except Exception as error:  # Pillow's plugins raise errors of any kind on a damaged file
        raise UsageError(f"{path} cannot be read as an image: {first_line(error)}") from error
    if upright.mode.startswith(("I", "F")):
        image = _floats(upright, kind, path)
        done += [] if upright.mode == "F" else [DEEP]
    else:
        image = upright.convert("RGB")
        image = image.convert("L") if shape is not None and shape[0] == 1 else image
    pixels = np.asarray(image if shape is None else _fitted(image, shape[1], shape[2]))
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    channels = 3 if shape is None else shape[0]
    return np.broadcast_to(pixels, (channels, *pixels.shape[1:])), done


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
