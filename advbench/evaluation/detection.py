"""A detector beside the model: how many images are wrong and not flagged, under attacks that know both."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from art.attacks.attack import EvasionAttack

from advbench import attacks, metrics
from advbench.detectors import SubnetworkDetector
from advbench.errors import UsageError
from advbench.estimators import TorchClassifier
from advbench.evaluation.battery import in_norm
from advbench.evaluation.options import Options, stage_at
from advbench.evaluation.subject import Subject
from advbench.models.tapped import TappedModule
from advbench.seeds import derive, own_global_state
from advbench.study.run import Run

FPR = 0.05
"""The false-positive rate of the detector's one threshold."""

_ATTACKS = ("PGD", "SelectivePGD", "OrthogonalPGD")


def load(options: Options, classifier: TorchClassifier, n: int) -> SubnetworkDetector | None:
    """The detector that the options name, for an evaluation on n images.

    :raises UsageError: if the file is no detector of this model, the model has no taps for one, or there are too few images
        to fix its threshold on; or another threat model than that of the attacks that know a detector.
    """
    if options.detector is None:
        return None
    if options.norm not in (("linf",), ("l2",)) or options.access != "gradients":
        raise UsageError(
            "--detector takes --norm linf or l2, and --access gradients: no other attack here knows a detector"
        )
    if n < 2 / FPR:
        raise UsageError(
            f"--detector needs at least {2 / FPR:.0f} images, half of them to fix its threshold; found {n}"
        )
    if not isinstance(classifier.model, TappedModule):
        raise UsageError(
            "--detector takes the detector of a run, which belongs to a model of that run; give that model, such as "
            "runs/NAME:classifier"
        )
    return SubnetworkDetector.load(options.detector, classifier)


def rows(run: Run, subject: Subject, detector: SubnetworkDetector) -> Iterator[dict[str, object]]:
    """Joint figures on every second image; the others, clean, fix the threshold.

    An image is beaten by an attack that leaves it misclassified and not flagged: PGD, which does not know the detector,
    then selective and orthogonal PGD, which do. A clean image counts as beaten on the same terms.
    """
    classifier, images, norm = subject.classifier, subject.images, subject.norm
    x, y = images.x[1::2], images.y[1::2]
    threshold = detector.threshold_at(FPR, images.x[::2])

    def attack(name: str, eps: float) -> EvasionAttack:
        steps = subject.options.detector_steps
        if name == "PGD":
            return attacks.create(in_norm("pgd", norm), classifier, eps, max_iter=steps)
        joint = attacks.SelectivePGD if name == "SelectivePGD" else attacks.OrthogonalPGD
        return joint(classifier, detector, 2 if norm == "l2" else np.inf, eps, max_iter=steps)

    def beaten(images: np.ndarray) -> np.ndarray:
        return (classifier.predict(images).argmax(1) != y) & (detector.scores(images) <= threshold)

    def attacked(name: str, eps: float) -> dict[str, np.ndarray]:
        with own_global_state(derive(subject.seed, "detector", name, eps)):
            return {"beaten": beaten(attack(name, eps).generate(x, y))}

    def row(mask: np.ndarray, attack: str, eps: float) -> dict[str, object]:
        share = metrics.proportion(int((~mask).sum()), len(mask))
        return share.row("joint_accuracy", exhibit="detector", attack=attack, norm=norm, eps=eps)

    clean = beaten(x)
    yield row(clean, "clean", 0.0)
    flagged = metrics.true_positive_rate(detector.scores(x), threshold)
    yield flagged.row("false_positives", exhibit="detector", attack="clean", norm=norm, eps=0.0)
    for eps in subject.eps:
        worst = clean
        for name in _ATTACKS:
            stage = stage_at(f"detector-{name.lower()}", eps)
            worst = worst | run.arrays(stage, partial(attacked, name, eps))["beaten"]
            yield row(worst, name if name == "PGD" else f"+ {name}", eps)
