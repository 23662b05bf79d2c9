"""Images as the world changes them, and no attacker: the corruptions of ImageNet-C, and rotations with shifts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np
import torch

from advbench import metrics
from advbench.errors import UsageError, missing
from advbench.evaluation.subject import Subject
from advbench.files import first_line
from advbench.metrics import Figure
from advbench.progress import track
from advbench.seeds import derive, own_global_state
from advbench.study.run import Run

KINDS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
"""The corruptions of ImageNet-C by their kind, as Hendrycks & Dietterich (2019) have them."""

NAMES = tuple(name for names in KINDS.values() for name in names)
SEVERITIES = (1, 2, 3, 4, 5)
ALL_MOVES = "rotations and shifts"

_SEEDED = ("impulse_noise", "glass_blur")  # the others draw from NumPy's global generator
_LEAST = 32  # pixels, of the package
_ANGLES = np.linspace(-30, 30, 31)  # degrees
_SHARE, _SHIFTS = 0.1, 5  # of a shift at most, of the height and width, and the number of shifts each way


def check(subject: Subject) -> None:
    """Whether the corruptions can be had, before anything slow.

    :raises UsageError: without the package, or for images that are neither grey nor in colours.
    """
    if "corruptions" not in subject.options.battery:
        return
    if (channels := subject.images.x.shape[1]) not in (1, 3):
        raise UsageError(f"--battery corruptions is for images of one or three channels, not of {channels}")
    try:
        import imagecorruptions  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing("--battery corruptions needs a package that is not installed", "corruptions") from error
    except ImportError as error:  # OpenCV without a library of the system
        raise UsageError(
            f"--battery corruptions: {first_line(error)}; pip install opencv-python-headless needs no such library"
        ) from error


def corrupted(x: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Images (N, C, H, W) in [0, 1] under a corruption of ImageNet-C, float32, in 8 bits as there.

    An image of less than 32 pixels is mirrored at its edges to that size, and cut out again. A grey image is corrupted as a
    colour image and its green is taken: the mean of three would have less noise, and frost is about as bright as its green.

    :param severity: 1 to 5, with the parameters of ImageNet-C, which are those of images of 224 pixels.

    Random numbers come from NumPy's global generator.
    """
    from imagecorruptions import corrupt

    height, width = x.shape[2:]
    top, left = (max(0, _LEAST - size + 1) // 2 for size in (height, width))
    inside = (slice(top, top + height), slice(left, left + width))
    around = [
        (0, 0),
        *((first, max(0, _LEAST - size - first)) for first, size in ((top, height), (left, width))),
        (0, 0),
    ]
    pixels = np.pad(np.rint(x * 255).astype(np.uint8).transpose(0, 2, 3, 1), around, "symmetric")
    changed = np.empty_like(x)
    for i, image in enumerate(pixels):
        options = {"seed": np.random.randint(2**31)} if name in _SEEDED else {}
        made = corrupt(image, severity, name, **options)[inside].transpose(2, 0, 1)
        changed[i] = (made if x.shape[1] == 3 else made[1:2]) / np.float32(255)
    return changed


def corruption_rows(run: Run, subject: Subject) -> Iterator[dict[str, object]]:
    """The accuracy under each corruption at each severity, of each kind, and the mean of all, as rows of results.csv.

    The interval of a mean is over images, each with the share of corruptions under which it is right.
    """
    right = {}
    for name in NAMES:
        right[name] = run.arrays(f"corruption-{name}", partial(_under, subject, name))["right"]
        for severity, hits in zip(SEVERITIES, right[name], strict=True):
            share = metrics.proportion(int(hits.sum()), len(hits))
            yield share.row("corruption_accuracy", exhibit="corruptions", attack=name, severity=severity)
    for kind, names in KINDS.items():
        of_kind = np.mean([right[name] for name in names], axis=0)
        for severity, shares in zip(SEVERITIES, of_kind, strict=True):
            yield _mean(shares).row("kind_accuracy", exhibit="corruptions", variant=kind, severity=severity)
    whole = np.mean(list(right.values()), axis=(0, 1))
    yield _mean(whole).row("mean_corruption_accuracy", exhibit="corruptions", attack="corruptions, mean")


def _under(subject: Subject, name: str) -> dict[str, np.ndarray]:
    """Which images are right under a corruption, bool (severities, N)."""
    x, y = subject.images.x, subject.images.y
    right = np.zeros((len(SEVERITIES), len(x)), bool)
    for i, severity in track(enumerate(SEVERITIES), name, len(SEVERITIES)):
        with own_global_state(derive(subject.seed, "corruption", name, severity)):
            for part in x.parts():
                right[i, part] = subject.classifier.predict(corrupted(x[part], name, severity)).argmax(1) == y[part]
    return {"right": right}


def _mean(shares: np.ndarray) -> Figure:
    """The mean of a share of each image (N,), whose interval is within 0..1."""
    found = metrics.mean(shares)
    return Figure(found.value, found.n, max(0, found.ci_low), min(1, found.ci_high))


def moved(x: np.ndarray, angle: float, shift: tuple[int, int]) -> np.ndarray:
    """Images (N, C, H, W) turned about their centre and then shifted, between the pixels bilinearly; what they leave is black.

    :param angle: in degrees, clockwise.
    :param shift: in pixels, to the right and down.
    """
    if angle == 0 and shift == (0, 0):
        return x
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import affine

    found = affine(torch.from_numpy(x), angle, list(shift), 1.0, [0.0, 0.0], InterpolationMode.BILINEAR)
    return found.clamp(0, 1).numpy()


def rotation_rows(run: Run, subject: Subject, clean: np.ndarray) -> Iterator[dict[str, object]]:
    """The accuracy at the worst place of a grid for each image (Engstrom et al., 2019), as rows of results.csv.

    The grid has 31 angles up to 30 degrees, and five shifts each way up to a tenth of the image. Of the places at which an
    image was not turned, or not shifted, the worst is given too. An image is not moved again once the model was wrong.

    :param clean: bool (N,): the images that are right where they are.
    """
    turned, left = clean, clean
    shifted = clean
    for angle in sorted(_ANGLES, key=lambda angle: (angle != 0, -abs(angle), angle)):
        found = run.arrays(f"rotation-{angle:g}", partial(_at_angle, subject, float(angle), turned, left))
        turned, left = turned & found["turned"], left & found["left"]
        shifted = left if angle == 0 else shifted
    for name, right in {"rotations": turned, "shifts": shifted, ALL_MOVES: left}.items():
        share = metrics.proportion(int(right.sum()), len(right))
        yield share.row("rotation_accuracy", exhibit="rotations", attack=name)


def _at_angle(subject: Subject, angle: float, turned: np.ndarray, left: np.ndarray) -> dict[str, np.ndarray]:
    """Which of the images ``turned`` are right at an angle without a shift, and which of ``left`` with every shift, bool (N,)."""
    x, y = subject.images.x, subject.images.y
    steps = [np.linspace(-1, 1, _SHIFTS) * max(1, round(_SHARE * size)) for size in (x.shape[3], x.shape[2])]
    right, down = ([int(step) for step in np.unique(np.rint(each))] for each in steps)
    places = sorted(product(right, down), key=lambda place: place != (0, 0))
    turned, left = turned.copy(), left.copy()
    with own_global_state(derive(subject.seed, "rotation", angle)):
        for place in track(places, f"rotation-{angle:g}", len(places)):
            for part in x.parts():
                here = np.flatnonzero((turned | left)[part] if place == (0, 0) else left[part]) + part.start
                if len(here):
                    wrong = subject.classifier.predict(moved(x[here], angle, place)).argmax(1) != y[here]
                    left[here[wrong]] = False
                    if place == (0, 0):
                        turned[here[wrong]] = False
    return {"turned": turned, "left": left}
