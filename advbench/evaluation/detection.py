"""A detector beside the model: how many images are wrong and not flagged, under attacks that know both."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from art.attacks.attack import EvasionAttack
from torch import nn

from advbench import attacks, metrics
from advbench.checkpoint import fingerprint
from advbench.detectors import ScoredDetector, SubnetworkDetector, threshold_on
from advbench.errors import UsageError
from advbench.estimators import TorchClassifier
from advbench.evaluation.battery import in_norm
from advbench.evaluation.options import Options, name_of, stage_at
from advbench.evaluation.subject import Subject
from advbench.models.find import member
from advbench.models.tapped import TappedModule
from advbench.seeds import derive, own_global_state
from advbench.study.run import Run

FPR = 0.05
"""The false-positive rate of the detector's one threshold."""

_ATTACKS = ("PGD", "SelectivePGD", "OrthogonalPGD")


def load(options: Options, classifier: TorchClassifier, n: int) -> ScoredDetector | None:
    """The detector that the options name, for an evaluation on n images.

    :raises UsageError: if there is no such detector, it is one of a run and not of this model, or there are too few images
        to fix its threshold on; or another threat model than that of the attacks that know a detector.
    """
    given = options.detector
    if given is None:
        return None
    if options.norm not in (("linf",), ("l2",)) or options.access != "gradients":
        raise UsageError(
            "--detector takes --norm linf or l2, and --access gradients: no other attack here knows a detector"
        )
    if n < 2 / FPR:
        raise UsageError(
            f"--detector needs at least {2 / FPR:.0f} images, half of them to fix its threshold; found {n}"
        )
    name = name_of(given)
    if isinstance(given, str) and ":" in given and not given.startswith("zoo:"):
        given = member(given)
    elif isinstance(given, (str, Path)):
        if not isinstance(classifier.model, TappedModule):
            raise UsageError(
                "--detector takes file.py:function, or the detector of a run, which belongs to a model of that run; give that "
                "model, such as runs/NAME:classifier"
            )
        given = SubnetworkDetector.load(given, classifier)
    return ScoredDetector(given, name, classifier.device)


def fingerprint_of(detector: ScoredDetector | None) -> dict[str, str]:
    """What tells a detector from others of the same name, for the request of a run."""
    target = detector.target if detector else None
    network = target.subnetwork if isinstance(target, SubnetworkDetector) else getattr(target, "module", None)
    return {"detector_sha256": fingerprint(network)} if isinstance(network, nn.Module) else {}


def rows(run: Run, subject: Subject, detector: ScoredDetector) -> Iterator[dict[str, object]]:
    """Joint figures on every second image; the others, clean, fix the threshold.

    An image is beaten by an attack that leaves it misclassified and not flagged: PGD, which does not know the detector,
    then selective and orthogonal PGD, which do where its score has a gradient. A clean image counts as beaten on the same
    terms. How well scores tell clean from adversarial images is measured on those that are misclassified.
    """
    classifier, images, norm = subject.classifier, subject.images, subject.norm
    x, y = images.x[1::2], images.y[1::2]
    held_out = detector.scores(images.x[::2])
    threshold = threshold_on(held_out, FPR)

    def attack(name: str, eps: float) -> EvasionAttack:
        steps = subject.options.detector_steps
        if name == "PGD":
            return attacks.create(in_norm("pgd", norm), classifier, eps, max_iter=steps)
        joint = attacks.SelectivePGD if name == "SelectivePGD" else attacks.OrthogonalPGD
        return joint(classifier, detector.target, 2 if norm == "l2" else np.inf, eps, max_iter=steps)

    def judged(images: np.ndarray) -> dict[str, np.ndarray]:
        wrong, scores = classifier.predict(images).argmax(1) != y, detector.scores(images)
        return {"wrong": wrong, "scores": scores, "beaten": wrong & (scores <= threshold)}

    def attacked(name: str, eps: float) -> dict[str, np.ndarray]:
        with own_global_state(derive(subject.seed, "detector", name, eps)):
            return judged(attack(name, eps).generate(x, y))

    def row(mask: np.ndarray, attack: str, eps: float) -> dict[str, object]:
        share = metrics.proportion(int((~mask).sum()), len(mask))
        return share.row("joint_accuracy", exhibit="detector", attack=attack, norm=norm, eps=eps)

    clean = judged(x)
    yield row(clean["beaten"], "clean", 0.0)
    flagged = metrics.true_positive_rate(clean["scores"], threshold)
    yield flagged.row("false_positives", exhibit="detector", attack="clean", norm=norm, eps=0.0)
    for eps in subject.eps:
        worst = clean["beaten"]
        for name in _ATTACKS if detector.target is not None else _ATTACKS[:1]:
            stage = stage_at(f"detector-{name.lower()}", eps)
            found = run.arrays(stage, partial(attacked, name, eps))
            worst = worst | found["beaten"]
            yield row(worst, name if name == "PGD" else f"+ {name}", eps)
            for metric, figure in _separation(clean["scores"], found["scores"][found["wrong"]], held_out).items():
                yield figure.row(metric, exhibit="separation", attack=name, norm=norm, eps=eps)


def _separation(clean: np.ndarray, adversarial: np.ndarray, held_out: np.ndarray) -> dict[str, metrics.Figure]:
    """The field's figures of scores (N,) of clean images and (M,) of misclassified adversarial ones.

    :param held_out: scores of other clean images, which fix the thresholds of the true-positive rates.
    """
    rates = {
        f"tpr_at_{percent}_fpr": metrics.true_positive_rate(adversarial, threshold_on(held_out, percent / 100))
        for percent in (1, 5)
    }
    return {
        "auroc": metrics.auc(clean, adversarial),
        "aupr": metrics.average_precision(clean, adversarial),
        "fpr_at_95_tpr": metrics.fpr_at_tpr(clean, adversarial, 0.95),
        **rates,
    }
