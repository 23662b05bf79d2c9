"""Attacks on the images of an evaluation, each judged by the model itself: which images they beat, and how far away."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import pandas as pd

from advbench import metrics
from advbench.data.pixels import room
from advbench.errors import UsageError
from advbench.evaluation import pieces
from advbench.evaluation.battery import Attack
from advbench.evaluation.budget import Budget
from advbench.evaluation.finds import MEASURED, nothing_found
from advbench.evaluation.options import Norm, number, stage_at
from advbench.evaluation.pieces import Compute, Piece
from advbench.evaluation.subject import Subject
from advbench.metrics import sanity
from advbench.progress import log, track
from advbench.seeds import derive
from advbench.study.run import Run

NEAREST = "all attacks"
"""In the rows of distances: the nearest image that any attack found."""

_SINGLE_STEP = 2  # passes


@dataclass(frozen=True)
class Attempt:
    """What one attack did to all images.

    :param eps: its bound; None for an attack that seeks the smallest perturbation, or whose one run counts at every bound.
    :param stage: of the run, which keeps its arrays.
    :param distance: float (N,): the norm of the perturbation that beat an image; infinite where none did.
    :param passes: forward and backward through the model, of all images together, (2,).
    :param found: what :class:`advbench.evaluation.finds.Finds` measured.
    """

    attack: Attack
    eps: float | None
    stage: str
    distance: np.ndarray
    passes: np.ndarray
    found: dict[str, np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """What all attacks did to all images.

    :param clean: bool (N,): the images that are right without an attack.
    :param attempts: in the order of the report: at each eps those that are bounded by it; others at the first.
    """

    attacks: Sequence[Attack]
    norm: Norm
    bounds: Sequence[float]
    clean: np.ndarray
    attempts: list[Attempt]
    notes: list[str]

    @property
    def distance(self) -> np.ndarray:
        """The norm of the smallest perturbation (N,) that beat each image: 0 if it was wrong already, infinite if none did."""
        return np.where(self.clean, _nearest(self.attempts, self.norm, len(self.clean)), 0)

    def within(self, eps: float) -> list[Attempt]:
        """The attempts that count at an eps: those with that bound, and those without one in the norm."""
        found = {each.attack.name: each for each in self.attempts if each.eps in (None, eps)}
        return [found[each.name] for each in self.attacks if each.norm == self.norm and each.name in found]


def attack_all(
    run: Run,
    subject: Subject,
    attacks: Sequence[Attack],
    clean: np.ndarray,
    compute: Compute,
    budget: Budget | None = None,
) -> Outcome:
    """Run every attack: within a bound on the images that are still right, the others on all that were right.

    :param clean: bool (N,): the images that are right without an attack.
    :param compute: attacks the pieces.
    :param budget: of all norms; by default without a limit.
    :raises UsageError: if the budget allows no attack.
    """
    norm, bounds = subject.norm, subject.eps
    attempts: list[Attempt] = []
    budget = budget or Budget(None, len(clean))
    notes = budget.notes = []
    work = [
        (attack, eps if attack.bounded else None)
        for eps in bounds
        for attack in attacks
        if eps == bounds[0] or (attack.bounded and not attack.once)
    ]
    for attack, eps in track(work, "attacks", len(work)):
        stage = attack_stage(attack, eps)
        left = clean
        if eps is not None:
            # known to be beaten at this eps; but a single step, whose line of the table is read alone, sees whatever no
            # attack above it beat
            order = list(attacks)
            above = {each.name for each in (order if attack.passes > _SINGLE_STEP else order[: order.index(attack)])}
            here = [each for each in attempts if each.attack.name in above and each.eps in (None, eps)]
            smaller = max((bound for bound in bounds if bound < eps), default=0.0)
            beaten = (_nearest(attempts, norm, len(clean)) <= smaller) | (_nearest(here, norm, len(clean)) <= eps)
            left = clean & ~beaten
        fitted = budget.fitted(attack, left, "" if eps is None else f" at eps = {number(eps)}")
        if fitted is None:
            continue
        attack = fitted
        make = partial(_attacked, run, subject, compute, attack, eps, np.flatnonzero(left), stage, budget.left(left))
        arrays = run.arrays(stage, make)
        budget.charge(attack, left, np.isfinite(arrays["distance"]), arrays["passes"].sum())
        if arrays["stopped"]:
            notes.append(f"{attack.label} was stopped: its passes of --budget {subject.options.budget} were spent")
        if outside := int(arrays["outside"].sum()):
            notes.append(
                f"{attack.label} left eps = {number(eps or 0)} for {outside} images, which do not count as beaten"
            )
            log.warning("%s", notes[-1])
        found = {name: arrays[name] for name in MEASURED if name in arrays}
        attempts.append(
            Attempt(attack, None if attack.once else eps, stage, arrays["distance"], arrays["passes"], found)
        )
    if not attempts:
        raise UsageError(
            f"--budget {budget.limit:g}: no attack in {norm} fits, so nothing would be known; give more passes"
        )
    return Outcome(attacks, norm, bounds, clean, attempts, notes)


def attack_stage(attack: Attack, eps: float | None) -> str:
    """The name of the stage of an attack, in letters that every file system takes."""
    name = attack.name
    if ":" in name:  # of another library, whose names may hold for several norms
        name = f"{attack.norm} {name}"
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-")
    if slug != name:  # other parameters may lead to the same letters
        slug = f"{slug[:60]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return slug if eps is None else stage_at(slug, eps)


def _nearest(attempts: Sequence[Attempt], norm: Norm, n: int) -> np.ndarray:
    """The smallest distance (N,) that any attempt in the norm found."""
    found = [each.distance for each in attempts if each.attack.norm == norm]
    return np.min(found, axis=0) if found else np.full(n, np.inf)


def _attacked(
    run: Run,
    subject: Subject,
    compute: Compute,
    attack: Attack,
    eps: float | None,
    todo: np.ndarray,
    stage: str,
    budget: float,
) -> dict[str, np.ndarray]:
    """The norms of the perturbations that beat the images ``todo``, and those that leave the bound, which do not count.

    What is found in a piece is kept: after a stop only the pieces in flight are computed again.

    :param budget: the most passes an image.
    """
    x, y, keep = subject.images.x, subject.images.y, subject.options.keep_images
    distance, outside, stopped = np.full(len(x), np.inf), np.zeros(len(x), bool), False
    passes, measured = np.zeros(2, np.int64), nothing_found(subject.classifier, len(x))
    images = room((len(todo), *x.shape[1:]), np.float32) if keep else None
    parts = pieces.split(len(todo), x.shape[1:], x.most, subject.classifier.device)
    files = [run.pieces(stage) / f"{i}.npz" for i in range(len(parts))]
    before = [pieces.kept(file, todo[part]) is not None for file, part in zip(files, parts, strict=True)]
    ready = ((i, pieces.kept(files[i], todo[parts[i]]) or {}) for i, done in enumerate(before) if done)
    missing = (
        Piece(
            number=i,
            attack=attack,
            eps=eps,
            seed=derive(subject.seed, stage, i),
            x=x.chosen(todo[part]),
            y=y[todo[part]],
            keep=keep,
            bounds=tuple(subject.eps),
            limit=budget * len(todo[part]),
        )
        for i, part in enumerate(parts)
        if not before[i]
    )
    for i, found in track(chain(ready, compute(missing)), stage, len(parts)):
        part = parts[i]
        if not before[i] and len(parts) > 1:
            pieces.keep(files[i], todo[part], found)
        distance[todo[part]], outside[todo[part]] = found["distance"], found["outside"]
        for name, values in measured.items():
            values[todo[part]] = found[name]
        passes, stopped = passes + found["passes"], stopped or bool(found["stopped"])
        if images is not None:
            images[part][np.isfinite(found["distance"])] = found["adversarial"]
    kept = {} if images is None else {"adversarial": images[np.isfinite(distance[todo])]}
    result = {"distance": distance, "outside": outside, "stopped": np.array(stopped), "passes": passes}
    return {**result, **measured, **kept}


def accuracy_rows(outcome: Outcome) -> Iterator[dict[str, object]]:
    """The accuracy after each attack and all before it at each eps, and the worst case, as rows of results.csv."""

    def row(right: np.ndarray, metric: str, exhibit: str, eps: float, attack: str | None = None) -> dict[str, object]:
        share = metrics.proportion(int(right.sum()), len(right))
        return share.row(metric, exhibit=exhibit, attack=attack, norm=outcome.norm, eps=eps)

    clean, distance = outcome.clean, outcome.distance
    yield row(clean, "accuracy", "robustness", 0.0, "clean")
    yield row(clean, "clean_accuracy", "headline", 0.0)
    right = clean
    for eps in outcome.bounds:
        for i, attempt in enumerate(outcome.within(eps)):
            right = right & ~(attempt.distance <= eps)
            yield row(right, "accuracy", "robustness", eps, f"+ {attempt.attack.label}" if i else attempt.attack.label)
        worst = distance > eps
        if (worst != right).any():
            yield row(worst, "accuracy", "robustness", eps, "+ found at a larger eps")
        right = worst
        yield row(worst, "robust_accuracy", "headline", eps)


def distance_rows(outcome: Outcome) -> Iterator[dict[str, object]]:
    """The median and the distribution of the distances that attacks without a bound found, as rows of results.csv."""
    seeking = [each for each in outcome.attempts if not each.attack.bounded]
    found = [(each.attack.name, each.attack.norm, np.where(outcome.clean, each.distance, 0)) for each in seeking]
    if len(outcome.attempts) > 1 and any(each.attack.norm == outcome.norm for each in seeking):
        found.append((NEAREST, outcome.norm, outcome.distance))
    for name, norm, distance in found:
        context = {"exhibit": "distance", "attack": name, "norm": norm}
        yield metrics.median(distance[outcome.clean]).row("median_distance", **context)
        finite = distance[np.isfinite(distance)]
        for eps in np.linspace(0, finite.max(initial=0), 41) if len(finite) else ():
            beyond = int((distance > eps).sum())
            yield metrics.proportion(beyond, len(distance)).row("accuracy", eps=float(eps), **context)


def square_rows(outcome: Outcome) -> Iterator[dict[str, object]]:
    """The check of what only Square beat after attacks that take gradients, at the eps where that was most."""
    made: dict[float, sanity.Check] = {}
    right = outcome.clean
    for eps in outcome.bounds:
        for i, attempt in enumerate(outcome.within(eps)):
            after = right & ~(attempt.distance <= eps)
            if i and attempt.attack.label.startswith("Square"):
                made[eps] = sanity.square(right, after)
            right = after
    if made:
        worst = max(made, key=lambda eps: made[eps].figure.value)
        yield made[worst].row(exhibit="check", norm=outcome.norm, eps=worst)


def cost_rows(outcome: Outcome) -> Iterator[dict[str, object]]:
    """The passes of each attack, and of all, for an image of the evaluation, beaten before or not."""
    n = len(outcome.clean)
    cost = {(each.attack.label, each.eps): each.passes for each in outcome.attempts}
    for (attack, eps), passes in {**cost, ("all", None): sum(cost.values(), np.zeros(2))}.items():
        for metric, count in zip(("forward_passes", "backward_passes"), passes, strict=True):
            share = metrics.Figure(float(count) / n, n)
            yield share.row(metric, exhibit="cost", attack=attack, norm=outcome.norm, eps=eps)


def union_rows(outcomes: Sequence[Outcome]) -> Iterator[dict[str, object]]:
    """The share of images that survive in every norm, each at its largest eps, where there are several norms."""
    if len(outcomes) > 1:
        survives = np.all([each.distance > max(each.bounds) for each in outcomes], axis=0)
        yield metrics.proportion(int(survives.sum()), len(survives)).row("union_accuracy", exhibit="headline")


def of_each(
    rows: Callable[[Outcome], Iterator[dict[str, object]]], outcomes: Sequence[Outcome]
) -> Iterator[dict[str, object]]:
    """The rows of every outcome."""
    return chain.from_iterable(map(rows, outcomes))


ROWS = {"accuracy": accuracy_rows, "distance": distance_rows, "square": square_rows, "cost": cost_rows}
"""What is told of the outcome in each norm, by stage."""


def per_image(outcomes: Sequence[Outcome], labels: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """One row an image: its label, the clean prediction, and in each norm its distance, and for each eps the attack that beat it.

    An image that is misclassified without an attack was beaten by ``clean``; one that no attack beat has no entry. With
    several norms the columns are named ``l2 distance`` and ``l2 0.5``.
    """
    table = pd.DataFrame({"label": labels, "predicted": predicted})
    for outcome in outcomes:
        norm = f"{outcome.norm} " if len(outcomes) > 1 else ""
        table[f"{norm}distance"] = outcome.distance
        by = np.array([None if right else "clean" for right in outcome.clean], object)
        for eps in outcome.bounds:
            others = [each for each in outcome.attempts if each.attack.norm == outcome.norm]
            for attempt in [*outcome.within(eps), *others]:
                by[pd.isna(by) & (attempt.distance <= eps)] = attempt.attack.label
            table[f"{norm}{number(eps)}"] = by.copy()
    return table.rename_axis("image")


def adversarial_images(run: Run, outcome: Outcome, subject: Subject) -> dict[str, np.ndarray]:
    """The nearest adversarial image (N, C, H, W) of each image in the norm; the image itself where there is none."""
    x = subject.images.x
    images, nearest = room(x.shape, np.float32), np.full(len(x), np.inf)
    for part in x.parts():
        images[part] = x[part]
    for each in outcome.attempts:
        if each.attack.norm == outcome.norm:
            found = np.flatnonzero(np.isfinite(each.distance))
            closer = each.distance[found] < nearest[found]
            stored = np.load(run.directory / "arrays" / each.stage / "adversarial.npy", mmap_mode="r")
            images[found[closer]] = stored[closer]
            nearest[found[closer]] = each.distance[found[closer]]
    return {"images": images}
