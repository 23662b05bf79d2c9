"""Checks that tell a robust model from an attack that failed.

After Carlini et al., "On Evaluating Adversarial Robustness" (2019, https://arxiv.org/abs/1902.06705), sections 4 and 5,
and Athalye et al. (2018, https://arxiv.org/abs/1802.00420), section 3.1. Each function measures one thing on a
classifier; the :class:`Rule` of a check has the accepted range, the meaning of a measurement outside of it, and advice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isnan, nan
from unittest import mock

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier

from advbench.estimators import alike, gradient_and_outputs
from advbench.metrics.causes import cause
from advbench.metrics.figures import Figure, mean, proportion
from advbench.metrics.robustness import attacked

MakeAttack = Callable[[PyTorchClassifier, float, int], EvasionAttack]
"""An iterative attack on a classifier from eps and a number of steps."""


@dataclass(frozen=True)
class Rule:
    """The accepted range of a measurement, and advice where it lies outside.

    :param low: the smallest value that passes.
    :param high: the largest one.
    :param measured: the measurement in words, with ``{value}``, ``{n}`` and ``{found}``.
    :param means: the meaning of a measurement outside of the range.
    :param do: the advice then.
    """

    low: float
    high: float
    measured: str
    means: str
    do: str


RULES = {
    "gradients": Rule(
        -inf,
        0.01,
        "the gradient of the loss is zero or not finite for {value:.1%} of {n} images{found}",
        "gradients are masked: attacks that follow them stand still, so accuracy under them shows nothing",
        "look for rounding, detach, NumPy or a saturated softmax in the model; attack a differentiable stand-in (BPDA)",
    ),
    "deterministic": Rule(
        1,
        inf,
        "two predictions of one batch are equal for {value:.1%} of {n} images",
        "the model is random: one draw under- or overstates it, and single gradients are noise",
        "figures are of the mean over several draws, and so are the gradients; state the number of draws with them",
    ),
    "the batch does not matter": Rule(
        1,
        inf,
        "the prediction is the same beside other images for {value:.1%} of {n} images",
        "a prediction depends on the other images of its batch, so no figure is that of the images alone",
        "take what is computed over the batch out of the model, such as x.mean(0) or batch norm without running statistics",
    ),
    "eps zero is clean": Rule(
        1,
        inf,
        "at eps = 0 the prediction is the clean one for {value:.1%} of {n} images",
        "the attack leaves its bound, or other images are judged than those that it returns",
        "do not use any figure of this run; check the range of the images and the model's own preprocessing",
    ),
    "falls with eps": Rule(
        -inf,
        0.03,
        "from one eps to the next larger one accuracy changes by at most {value:+.1%} ({n} images)",
        "a larger bound contains the smaller one, so an attack that is worse there is not converging: masked gradients",
        "more steps, smaller steps, several losses; trust only the smallest accuracy found",
    ),
    "large eps breaks it": Rule(
        -inf,
        0.02,
        "at a bound that allows a grey image ({found}) {value:.1%} of {n} images are still right",
        "no classifier can survive this: the attack fails, the model is not robust",
        "treat the robust accuracy of this run as unknown; attack without gradients, or a differentiable stand-in (BPDA)",
    ),
    "noise is weaker": Rule(
        -inf,
        0.02,
        "{value:.1%} of {n} images are beaten by random noise of the same norm and not by the attack",
        "an attack that noise surpasses does not use the gradient",
        "as for masked gradients; report accuracy under noise beside the attack's",
    ),
    "more steps do not help the defender": Rule(
        -inf,
        0.02,
        "four times the steps leave {value:+.1%} of {n} images more correct",
        "the attack diverges, or finds adversarial images and loses them again",
        "smaller steps, and keep the best iterate of all steps",
    ),
    "transfer is weaker": Rule(
        -inf,
        0.02,
        "{value:.1%} of {n} images are beaten by transfer from a surrogate network and not by the attack on the model itself",
        "an attack that knows the model must be at least as good: its gradients are masked",
        "count the transferred images in the worst case, and attack a differentiable stand-in (BPDA)",
    ),
    "Square is weaker": Rule(
        -inf,
        0.002,
        "Square, which uses scores alone, beats {value:.1%} of {n} images that every attack by gradients left",
        "an attack that sees less is stronger, so the gradients do not lead to the adversarial images that are there",
        "run Square with more queries and restarts, and attack a differentiable stand-in (BPDA)",
    ),
    "restarts find no more": Rule(
        -inf,
        0.05,
        "four more random starts beat {value:.1%} of {n} images that the first left",
        "the result depends on where the attack starts: the loss has many bad optima, or its gradients are noise",
        "more restarts, more and smaller steps, several losses; and attack a differentiable stand-in (BPDA)",
    ),
    "no gradients at inference": Rule(
        -inf,
        0,
        "the model computes gradients itself to predict {value:.1%} of {n} images",
        "the model optimises while it answers: attacks do not differentiate through that, so they are weak",
        "attack the model without that loop too, and with attacks made for such defences (Croce et al., 2022)",
    ),
    "silent success": Rule(
        -inf,
        0.02,
        "{found} misclassifies {value:.1%} of {n} images on its way, and returns others",
        "the attack finds adversarial images and loses them again, so accuracy under it is too high",
        "return the best iterate of all steps, or stop at the first that is misclassified",
    ),
    "incomplete optimisation": Rule(
        -inf,
        0.1,
        "{found} leaves {value:.1%} of {n} images whose loss still rises in its last steps",
        "the attack stops before it has converged, so accuracy under it is too high",
        "more steps, or larger ones",
    ),
    "transfer failure": Rule(
        -inf,
        0.02,
        "what {found} differentiates calls {value:.1%} of {n} images beaten, and the model does not",
        "attacks see another function than the one that is judged",
        "remove what the model does only under gradients (requires_grad, is_grad_enabled, autocast), or give the stand-in "
        "that fits with --backward",
    ),
    "unconstrained failure": Rule(
        -inf,
        0.02,
        "{found} leaves {value:.1%} of {n} images right at a bound that allows a grey image",
        "no classifier can survive this: that attack fails, and its row shows nothing",
        "give the attack other parameters, or attack a differentiable stand-in (--backward)",
    ),
    "normalisation": Rule(
        -inf,
        0.05,
        "the best other preprocessing ({found}) changes clean accuracy by {value:+.1%} ({n} images)",
        "the model was trained with another normalisation than it is given, so its clean and robust accuracy are too low",
        "give the normalisation of its training with --mean and --std",
    ),
    "binarization test": Rule(
        0.95,
        inf,
        "the attack finds {value:.1%} of {n} adversarial images that were planted within eps",
        "the attack misses adversarial images that are there, so it also misses some that nobody planted",
        "make the attack stronger (steps, restarts, losses, BPDA) until it passes, then run it again",
    ),
}


@dataclass(frozen=True)
class Check:
    """One check that was made.

    :param name: in ``RULES``.
    :param figure: the measurement.
    :param found: a further result, such as the name of the best alternative.
    """

    name: str
    figure: Figure
    found: str = ""

    @property
    def rule(self) -> Rule:
        """The accepted range and the advice."""
        return RULES[self.name]

    @property
    def passed(self) -> bool:
        """Whether the measurement lies in the range, or its 95 % interval reaches into it; not a number does not.

        So no check fails for one image that chance decided, in however few images.
        """
        value, low, high = self.figure.value, self.figure.ci_low, self.figure.ci_high
        low, high = (value if isnan(end) else end for end in (low, high))
        return low <= self.rule.high and high >= self.rule.low

    @property
    def measured(self) -> str:
        """The measurement in words."""
        return self.rule.measured.format(value=self.figure.value, n=self.figure.n, found=self.found)

    @property
    def means(self) -> str:
        """The meaning of a failure, empty where the check passes."""
        return "" if self.passed else self.rule.means

    @property
    def do(self) -> str:
        """The advice after a failure, empty where the check passes."""
        return "" if self.passed else self.rule.do

    def row(self, **context: object) -> dict[str, object]:
        """The check as a row of results.csv."""
        low, high = (nan if np.isinf(bound) else bound for bound in (self.rule.low, self.rule.high))
        return self.figure.row(self.name, source=self.found or None, accept_low=low, accept_high=high, **context)


def _correct(classifier: PyTorchClassifier, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return classifier.predict(x).argmax(1) == y


def _gain(before: np.ndarray, after: np.ndarray) -> Figure:
    """How much accuracy rose, from which of the same images (N,) were right before and after."""
    return mean(after.astype(np.float64) - before)


def gradients(classifier: PyTorchClassifier, x: np.ndarray, y: np.ndarray) -> Check:
    """The share of images where the gradient that attacks follow is zero everywhere or not finite somewhere, and why."""
    labels = np.eye(classifier.nb_classes, dtype=np.float32)[y]
    tensors = (torch.from_numpy(each).to(classifier.device) for each in (x, labels))
    rows = gradient_and_outputs(classifier, *tensors)[0].flatten(1)
    useless = ~rows.isfinite().all(1) | (rows == 0).all(1)
    # FGSM and PGD follow the direction of a gradient that float32 rounds to 0, other attacks may not
    plain = np.asarray(classifier.loss_gradient(x, labels))
    is_lost = useless.any() or (plain.reshape(len(x), -1) == 0).all(1).any()
    reason = cause(classifier, x) if is_lost else ""
    return Check("gradients", proportion(int(useless.sum()), len(x)), f" ({reason})" if reason else "")


def same_twice(classifier: PyTorchClassifier, x: np.ndarray) -> tuple[Check, Check]:
    """Whether logits (N, classes) are the same when images are predicted twice, and between two negatives.

    The first is the share of images whose logits are the same in the same batch, to 1e-4 of their spread. The second is the
    share whose logits stay the same beside other images, to a hundredth of their spread; images of a random model are left
    to the first.
    """
    among = np.stack([1 - x, x, 1 - x], 1).reshape(-1, *x.shape[1:])
    first, second, beside = (torch.from_numpy(classifier.predict(images)) for images in (x, x, among))
    equal = alike(first, second, 1e-4)
    alone = alike(first, beside[1::3], 1e-2) | ~equal  # kernels for other sizes round otherwise
    return (
        Check("deterministic", proportion(int(equal.sum()), len(x))),
        Check("the batch does not matter", proportion(int(alone.sum()), len(x))),
    )


def eps_zero(
    classifier: PyTorchClassifier, make: MakeAttack, x: np.ndarray, y: np.ndarray, predicted: np.ndarray
) -> Check:
    """The share of images that an attack with eps = 0 leaves with the clean prediction.

    :param predicted: the clean predictions (N,).
    """
    same = classifier.predict(make(classifier, 0.0, 2).generate(x, y)).argmax(1) == predicted
    return Check("eps zero is clean", proportion(int(same.sum()), len(x)))


def falls_with_eps(
    classifier: PyTorchClassifier,
    make: MakeAttack,
    x: np.ndarray,
    y: np.ndarray,
    eps: Sequence[float],
    large: float,
    known: Mapping[float, np.ndarray] | None = None,
) -> tuple[Check, Check]:
    """The largest rise of accuracy along growing eps, every eps attacked afresh, and the accuracy at a large eps.

    :param eps: the bounds to try, in any order, besides 0 and ``large``.
    :param large: a bound within which every image can become any other or grey.
    :param known: which images (N,) are right at some of them, 0 included, where that is known already.
    """
    found = dict(known or {})

    def right(bound: float, steps: int) -> np.ndarray:
        if bound not in found:
            found[bound] = ~attacked(classifier, make(classifier, bound, steps), x, y)[1]
        return found[bound]

    correct = [found[0.0] if 0.0 in found else _correct(classifier, x, y), *(right(bound, 20) for bound in sorted(eps))]
    left = right(large, 40)
    rises = [_gain(before, after) for before, after in pairwise([*correct, left])]
    return (
        Check("falls with eps", max(rises, key=lambda rise: rise.value)),
        Check("large eps breaks it", proportion(int(left.sum()), len(x)), f"eps = {large:g}"),
    )


def noise(
    classifier: PyTorchClassifier,
    beaten: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    eps: float,
    norm: str,
    seed: int,
    draws: int = 10,
) -> Check:
    """The share of images that some draw of noise of norm eps beats and the attack does not.

    :param beaten: bool (N,): the images that the attack at eps beat; they are not shown to the classifier.
    :param norm: ``linf`` (random signs) or ``l2`` (a random direction).
    """
    generator = np.random.default_rng(seed)
    left = np.flatnonzero(~beaten)
    for _ in range(draws):
        if not len(left):
            break
        delta = generator.standard_normal(x.shape).astype(np.float32)[left]
        size = np.linalg.norm(delta.reshape(len(left), -1), axis=1).reshape(-1, 1, 1, 1)
        step = np.sign(delta) if norm == "linf" else delta / size
        left = left[_correct(classifier, np.clip(x[left] + np.float32(eps) * step, 0, 1), y[left])]
    return Check("noise is weaker", proportion(int((~beaten).sum()) - len(left), len(x)))


def more_steps(classifier: PyTorchClassifier, make: MakeAttack, x: np.ndarray, y: np.ndarray, eps: float) -> Check:
    """The accuracy under 40 steps less that under 10, both to the last step."""
    few, many = (_correct(classifier, make(classifier, eps, steps).generate(x, y), y) for steps in (10, 40))
    return Check("more steps do not help the defender", _gain(few, many))


def restarts(
    classifier: PyTorchClassifier,
    make: MakeAttack,
    beaten: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    eps: float,
    starts: int = 4,
) -> Check:
    """The share of images that further random starts of 20 steps beat.

    :param beaten: bool (N,): the images that the first start beat; they are left out.
    """
    left = np.flatnonzero(~beaten)
    for _ in range(starts):
        if len(left):
            left = left[~attacked(classifier, make(classifier, eps, 20), x[left], y[left])[1]]
    return Check("restarts find no more", proportion(int((~beaten).sum()) - len(left), len(y)))


def inference(classifier: PyTorchClassifier, x: np.ndarray) -> Check:
    """Whether the model computes gradients to predict images, as defences do that optimise at inference."""
    with mock.patch.object(torch.autograd, "_engine_run_backward", wraps=torch.autograd._engine_run_backward) as run:
        classifier.predict(x)
    return Check("no gradients at inference", proportion(len(x) if run.called else 0, len(x)))


def transfer(
    classifier: PyTorchClassifier, attack: EvasionAttack, beaten: np.ndarray, x: np.ndarray, y: np.ndarray
) -> Check:
    """The share of images that an attack on another network beats and the attack on the classifier itself does not.

    :param attack: on a surrogate, within the same bound.
    :param beaten: bool (N,): the images that the attack on the classifier itself beat; the other attack leaves them out.
    """
    left = ~beaten
    hit = ~_correct(classifier, attack.generate(x[left], y[left]), y[left]) if left.any() else left[:0]
    return Check("transfer is weaker", proportion(int(hit.sum()), len(y)))


def square(before: np.ndarray, after: np.ndarray) -> Check:
    """The share of images that only Square beats; above 0.2 % AutoAttack's authors call an evaluation unreliable.

    :param before: bool (N,): the images that are right after all attacks by gradients.
    :param after: bool (N,): and those that are right after Square.
    """
    return Check("Square is weaker", proportion(int((before & ~after).sum()), len(before)))


def normalisation(
    classifier: PyTorchClassifier,
    x: np.ndarray,
    y: np.ndarray,
    alternatives: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    given: np.ndarray | None = None,
) -> Check:
    """How much better the model is when its images are preprocessed in another way, where it takes them at all.

    :param alternatives: by name, functions of images in [0, 1].
    :param given: which images (N,) are right as they are, where that is known already.
    """
    if given is None:
        given = _correct(classifier, x, y)
    gains = {next(iter(alternatives)): _gain(given, given)}
    for name, change in alternatives.items():
        with suppress(Exception):  # a user's model may refuse images outside of [0, 1]
            gains[name] = _gain(given, _correct(classifier, change(x), y))
    best = max(gains, key=lambda name: gains[name].value)
    return Check("normalisation", gains[best], best)
