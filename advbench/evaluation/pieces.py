"""An attack on many images, piece by piece: in this process, in several, on GPUs or on a cluster, with the same figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import cloudpickle
import numpy as np
import torch

from advbench import metrics
from advbench.data.pixels import Pixels
from advbench.device import images_at_a_time, resolve_device
from advbench.errors import UsageError
from advbench.estimators import TorchClassifier, averaged_part
from advbench.evaluation.battery import Attack
from advbench.evaluation.finds import Finds, within
from advbench.evaluation.options import Norm
from advbench.files import first_line, write
from advbench.progress import log
from advbench.seeds import derive, own_global_state
from advbench.study import cluster
from advbench.study.workers import Workers, one_thread

_ORDER: dict[Norm, float] = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}
_PIECES, _LEAST = 16, 16  # of an attack at least, where each has so many images
_COPIES = 4  # of its images, float32, that an attack holds; several pieces are on their way to workers
_WORTH = 3e12  # operations of an evaluation, about a minute of one core, from which on workers repay their start
_MEMORY = 2 << 30  # bytes of this machine for each worker that nobody asked for
_COMMON_PASSES = 200  # of an attack for an image, beyond which only robust images cost it more
_PROBED = 16  # images
_TOLERANCE = 1e-3  # of the largest output: other processors round otherwise


@dataclass(frozen=True)
class Piece:
    """Some of the images that an attack is run on.

    :param number: among the pieces of this attack.
    :param eps: its bound; None for an attack that seeks the smallest perturbation.
    :param seed: of random starts: they belong to the piece, and not to the process that computes it.
    :param keep: whether the adversarial images are returned.
    :param bounds: of the evaluation, rising.
    :param limit: the most passes, of all its images together.
    """

    number: int
    attack: Attack
    eps: float | None
    seed: int
    x: Pixels
    y: np.ndarray
    keep: bool
    bounds: tuple[float, ...]
    limit: float


Found = tuple[int, dict[str, np.ndarray]]
"""The number of a piece; of its images ``distance``, ``outside`` and what ``Finds`` has; ``passes``, ``stopped``, ``adversarial``."""

Compute = Callable[[Iterable[Piece]], Iterator[Found]]


@dataclass(frozen=True)
class Layout:
    """Who computes the pieces.

    :param workers: processes on one thread each; None for this one on all its threads, ``auto`` for what the work is worth.
    :param devices: GPUs that share the pieces; None for the one of ``--device``.
    :param scheduler: the address of a Dask scheduler whose workers compute them.
    """

    workers: int | Literal["auto"] | None = None
    devices: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.scheduler is not None and (self.devices or isinstance(self.workers, int)):
            raise UsageError("--scheduler has workers of its own; leave out --workers and --devices")
        if self.devices is None:
            return
        if (found := torch.cuda.device_count()) < self.devices:
            raise UsageError(f"--devices {self.devices}: this machine has {found} GPUs; on a CPU take --workers")
        if isinstance(self.workers, int) and self.workers % self.devices:
            raise UsageError(f"--workers must be a multiple of --devices, {self.devices}")


def split(n: int, shape: Sequence[int], most: int, device: torch.device) -> list[slice]:
    """Parts of n images (C, H, W), which depend on nothing else: not on who computes them.

    :param most: images in memory at a time, unless a device computes on more.
    """
    at_a_time = images_at_a_time(shape, device)
    least = min(_LEAST, at_a_time) if device.type == "cpu" else 4 * at_a_time
    size = max(least, min(most // _COPIES, -(-n // _PIECES)))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def attack_piece(classifier: TorchClassifier, piece: Piece) -> Found:
    """The norms of the perturbations that beat images of a piece, and which leave the bound: those do not count.

    Whatever an attack returns is clipped to [0, 1]; the model judges it in float32.
    """
    attack, clean_images, labels = piece.attack, piece.x[:], piece.y
    eps = None if attack.once else piece.eps
    distance, outside = np.full(len(labels), np.inf), np.zeros(len(labels), bool)
    images = np.empty_like(clean_images) if piece.keep else None
    made = attack.on(classifier, piece.eps, piece.seed)
    finds = Finds(classifier, clean_images, labels, piece.bounds, attack.norm, eps, derive(piece.seed, "finds"))
    limited = metrics.counted(classifier, piece.limit)
    with own_global_state(piece.seed), limited as passes, suppress(metrics.OutOfPassesError):
        for _ in range(attack.restarts):
            left = np.flatnonzero(np.isinf(distance))
            if not len(left):
                break
            clean, y = clean_images[left], labels[left]
            given, wrong = metrics.attacked(classifier, made, clean, y)
            adversarial = np.clip(np.asarray(given, np.float32), 0, 1)
            if not np.array_equal(adversarial, given):
                wrong = classifier.predict(adversarial).argmax(1) != y
            size = _size(adversarial - clean, attack.norm)
            wrong = wrong & np.isfinite(size)
            fits = wrong if eps is None else wrong & within(size, eps)
            outside[left] |= wrong & ~fits
            distance[left[fits]] = size[fits] if eps is None else np.minimum(size[fits], eps)
            if images is not None:
                images[left[fits]] = adversarial[fits]
            with passes.paused():
                finds.take(left, adversarial, size, fits)
    outside &= np.isinf(distance)
    kept = {} if images is None else {"adversarial": images[np.isfinite(distance)]}
    cost = {"passes": np.array([passes.forward, passes.backward]), "stopped": np.array(passes.both > passes.limit)}
    return piece.number, {"distance": distance, "outside": outside, **cost, **finds.arrays, **kept}


def _size(delta: np.ndarray, norm: Norm) -> np.ndarray:
    return np.linalg.norm(delta.reshape(len(delta), -1).astype(np.float64), ord=_ORDER[norm], axis=1)


def keep(path: Path, chosen: np.ndarray, found: dict[str, np.ndarray]) -> None:
    """Keep what was found in a piece until its whole attack is done.

    :param chosen: the numbers of its images in the evaluation.
    """
    write(path, lambda stream: np.savez(stream, images=chosen, **found))  # type: ignore[arg-type]


def kept(path: Path, chosen: np.ndarray) -> dict[str, np.ndarray] | None:
    """What an earlier command found in a piece; None where it did not, or for other images."""
    try:
        with np.load(path) as stored:
            found = {name: stored[name] for name in stored.files}
    except Exception:  # a damaged archive has many errors
        return None
    return found if np.array_equal(found.pop("images", chosen[:0]), chosen) else None


@contextmanager
def computed(
    classifier: TorchClassifier, own: Sequence[ModuleType], x: Pixels, layout: Layout, operations: Callable[[], float]
) -> Iterator[Compute]:
    """A function that attacks pieces wherever the layout has them computed, and gives what it found as it is found.

    :param own: the modules of the user's own of which the model is made: other processes need not have them.
    :param operations: estimates the arithmetic of the whole evaluation.
    :raises UsageError: for a model that cannot be sent to other processes, or a scheduler that does not answer.
    """
    device, here = classifier.device, partial(map, partial(attack_piece, classifier))
    if layout.devices is not None and (device.type != "cuda" or device.index):
        raise UsageError(
            f"--devices takes the first GPUs, with --device cuda and not {device}; on a CPU take --workers"
        )
    count = layout.workers or layout.devices
    if count == "auto":
        count = layout.devices or _worthwhile(device, operations)
    if layout.scheduler is None and count is None:
        yield here
    elif layout.scheduler is None and count == 1 and layout.devices is None:
        with one_thread(device):
            yield here
    else:
        try:
            sent = _sent(classifier, own, x)
        except Exception as error:  # whatever cannot be pickled has an error of its own
            reason = f"the model cannot be sent to other processes ({first_line(error)})"
            if layout.scheduler is not None or layout.workers != "auto" or layout.devices is not None:
                raise UsageError(f"{reason}; leave out --workers, --devices and --scheduler") from error
            log.info("%s: this one does all the work", reason)
            yield here
            return
        if layout.scheduler is not None:
            with cluster.connected(layout.scheduler) as client:
                yield partial(cluster.results, client, client.scatter(sent, broadcast=True), device, _attack_received)
        else:
            assert isinstance(count, int)
            workers = Workers(count, layout.devices)
            log.info(
                "attacks run in %d processes%s", workers.count, "" if device.type != "cpu" else ", on one thread each"
            )
            try:
                yield partial(workers.results, sent, device, None, _attack_received)
            finally:
                workers.stop()


def _worthwhile(device: torch.device, operations: Callable[[], float]) -> int | None:
    """How many workers repay their start; None for this process on all its threads.

    Two threads on one batch lose more time than two batches on one thread each.
    """
    if device.type != "cpu" or torch.get_num_threads() == 1 or operations() < _WORTH:
        return None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else _MEMORY
    count = min(torch.get_num_threads(), memory // _MEMORY)
    return count if count > 1 else None


def operations(classifier: TorchClassifier, x: Pixels, attacks: Sequence[Attack], bounds: int) -> float:
    """About how much arithmetic attacks on images need, in floating-point operations; 0 where nobody can count them."""
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with FlopCounterMode(display=False) as counter:
            classifier.predict(x[:1])
    except Exception:  # a model of the user's own under a mode that it does not expect
        return 0
    runs = sum(min(attack.passes, _COMMON_PASSES) * (bounds if attack.bounded else 1) for attack in attacks)
    return counter.get_total_flops() * len(x) * runs


@dataclass(frozen=True, eq=False)
class _Sent:
    """A classifier on its way to other processes, and its outputs on a few images.

    :param outputs: None for a random model.
    """

    classifier: bytes
    device: str
    x: np.ndarray
    outputs: np.ndarray | None


def _sent(classifier: TorchClassifier, own: Sequence[ModuleType], x: Pixels) -> _Sent:
    probe, device = x[:_PROBED], classifier.device
    with own_global_state():
        outputs = None if averaged_part(classifier.model) else classifier.predict(probe)
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        content = cloudpickle.dumps(classifier.to("cpu"))  # another process may have no such GPU
    finally:
        classifier.to(device)
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)
    return _Sent(content, device.type, probe, outputs)


@lru_cache(maxsize=1)
def _received(sent: _Sent) -> TorchClassifier:
    """The classifier of another process.

    :raises UsageError: if it gives other outputs here.
    """
    classifier: Any = cloudpickle.loads(sent.classifier).to(resolve_device(sent.device))
    with own_global_state():
        found = classifier.predict(sent.x)
    if sent.outputs is not None and not np.abs(found - sent.outputs).max() <= _TOLERANCE * np.abs(sent.outputs).max():
        raise UsageError(
            "the model gives other outputs in another process: it depends on something outside of its module; leave out "
            "--workers, --devices and --scheduler"
        )
    return classifier


def _attack_received(sent: _Sent, piece: Piece) -> Found:
    return attack_piece(_received(sent), piece)
