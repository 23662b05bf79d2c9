"""A detector beside the model: how many images are wrong and not flagged, under attacks that know both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from advbench import attacks, metrics
from advbench.data.find import Images
from advbench.detectors import SubnetworkDetector
from advbench.errors import UsageError
from advbench.estimators import TorchClassifier
from advbench.evaluation.options import number
from advbench.models.tapped import TappedModule
from advbench.seeds import derive, own_global_state
from advbench.study.run import Run

FPR = 0.05
"""The false-positive rate of the detector's one threshold."""

_ADAPTIVE = {"SelectivePGD": attacks.SelectivePGD, "OrthogonalPGD": attacks.OrthogonalPGD}


def load(path: Path, classifier: TorchClassifier, n: int) -> SubnetworkDetector:
    """The detector of a file, for an evaluation on n images.

    :raises UsageError: if the file is no detector of this model, the model has no taps for one, or there are too few images
        to fix its threshold on.
    """
    if n < 2 / FPR:
        raise UsageError(
            f"--detector needs at least {2 / FPR:.0f} images, half of them to fix its threshold; found {n}"
        )
    if not isinstance(classifier.model, TappedModule):
        raise UsageError(
            "--detector takes the detector of a run, which belongs to a model of that run; give that model, such as "
            "runs/NAME:classifier"
        )
    return SubnetworkDetector.load(path, classifier)


def rows(
    run: Run,
    classifier: TorchClassifier,
    detector: SubnetworkDetector,
    pictures: Images,
    bounds: tuple[float, ...],
    norm: str,
    steps: int,
    seed: int,
) -> Iterator[dict[str, object]]:
    """Joint figures on every second image; the others, clean, fix the threshold.

    An image is beaten by an attack that leaves it misclassified and not flagged: PGD, which does not know the detector,
    then selective and orthogonal PGD, which do. A clean image counts as beaten on the same terms.
    """
    x, y = pictures.x[1::2], pictures.y[1::2]
    threshold = detector.threshold_at(FPR, pictures.x[::2])

    def beaten(images: np.ndarray) -> np.ndarray:
        return (classifier.predict(images).argmax(1) != y) & (detector.scores(images) <= threshold)

    def row(mask: np.ndarray, attack: str, eps: float) -> dict[str, object]:
        share = metrics.proportion(int((~mask).sum()), len(mask))
        return share.row("joint_accuracy", exhibit="detector", attack=attack, norm=norm, eps=eps)

    clean = beaten(x)
    yield row(clean, "clean", 0.0)
    flagged = metrics.true_positive_rate(detector.scores(x), threshold)
    yield flagged.row("false_positives", exhibit="detector", attack="clean", norm=norm, eps=0.0)
    order = 2 if norm == "l2" else np.inf
    for eps in bounds:
        worst = clean
        for name in ("PGD", *_ADAPTIVE):

            def make(name: str = name, eps: float = eps) -> dict[str, np.ndarray]:
                if name == "PGD":
                    attack = attacks.create("pgd" if norm == "linf" else "pgd-l2", classifier, eps, max_iter=steps)
                else:
                    attack = _ADAPTIVE[name](classifier, detector, order, eps, max_iter=steps)
                with own_global_state(derive(seed, "detector", name, eps)):
                    return {"beaten": beaten(attack.generate(x, y))}

            stage = f"detector-{name.lower()}-{number(eps).replace('/', '-of-')}"
            worst = worst | run.arrays(stage, make)["beaten"]
            yield row(worst, name if name == "PGD" else f"+ {name}", eps)
