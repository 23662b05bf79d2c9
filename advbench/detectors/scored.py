"""Any detector by its scores: ours, ART's, a module or a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from art.defences.detector.evasion import EvasionDetector
from torch import Tensor, nn

from advbench import estimators
from advbench.device import images_at_a_time
from advbench.errors import UsageError
from advbench.files import place


class ScoredDetector:
    """A detector of which only scores are needed; larger ones are of images that look adversarial.

    :param given: a function of images float32 (N, C, H, W) in [0, 1] that returns scores (N,); an object with such a method
        ``scores``; an ``nn.Module`` that returns scores (N,) or logits (N, 2) of clean and adversarial; or an ART detector,
        whose ``detect`` reports ``predictions`` (N, 2), ``scores`` or nothing but what it flags.
    :param name: for errors.
    :raises UsageError: for anything else.

    Attacks that know the detector take ``target``: the detector itself where its score has a gradient, otherwise None.
    """

    def __init__(self, given: Any, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self.target: Any = None
        self._score: Callable[[np.ndarray], Any]
        if isinstance(given, nn.Module):
            self.target = self
            self.module = _TwoLogits(given.to(device).eval())
            self._score = self._by_module
        elif callable(getattr(given, "scores", None)):
            self._score = given.scores
        elif isinstance(given, EvasionDetector):
            self._score = lambda x: _reported(given.detect(x))
        elif callable(given):
            self._score = given
        else:
            raise UsageError(f"--detector {name} is no function from images to scores, and no detector")
        if self.target is None:
            try:
                estimators.detector_module(given)
                self.target = given
            except ValueError:
                pass

    def scores(self, x: np.ndarray) -> np.ndarray:
        """The scores (N,) of images (N, C, H, W).

        :raises UsageError: where they are not one finite number an image, or the detector fails.
        """
        step = images_at_a_time(x.shape[1:], self.device)
        parts = [self._scores(x[first : first + step]) for first in range(0, len(x), step)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _scores(self, x: np.ndarray) -> np.ndarray:
        try:
            found = self._score(np.array(x, np.float32))
            found = found.detach().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found)
            found = found.astype(np.float64)
        except Exception as error:  # a user's detector may raise anything
            raise UsageError(f"--detector {self.name} fails: {place(error)}") from error
        if found.shape == (len(x), 1):
            found = found[:, 0]
        if found.shape != (len(x),) or not np.isfinite(found).all():
            what = f"an array {found.shape}" if found.shape != (len(x),) else "NaN or infinity"
            raise UsageError(
                f"--detector {self.name} must return a finite score ({len(x)},) for {len(x)} images, not {what}"
            )
        return found

    def _by_module(self, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            clean, adversarial = self.module(torch.from_numpy(x).to(self.device)).unbind(1)
        return (adversarial - clean).cpu().numpy()


class _TwoLogits(nn.Module):
    """A detector's module, with logits (N, 2) of clean and adversarial."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = module

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x)
        if out.ndim == 2 and out.shape[1] == 2:
            return out
        score = out.reshape(len(x))
        return torch.stack([torch.zeros_like(score), score], 1)


def _reported(found: tuple[Any, Any]) -> np.ndarray:
    """Scores (N,) of what ART's ``detect`` returns: its report and what it flags."""
    report, flagged = found
    if isinstance(report, dict) and "predictions" in report:
        predictions = np.asarray(report["predictions"])
        return predictions[:, 1] - predictions[:, 0]
    if isinstance(report, dict) and "scores" in report:
        return np.asarray(report["scores"])
    return np.asarray(flagged)
