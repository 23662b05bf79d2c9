"""The exhibits of ``detector-imagenet10``, from its result rows and a few of its images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from advbench.metrics import lowest_row, share, where
from advbench.recipes.detector_cifar.exhibits import adversary_map, eps_maps, in_pixels, marks, seen
from advbench.recipes.detector_imagenet10.claims import TOLERANCE
from advbench.recipes.detector_imagenet10.materials import Detectors
from advbench.report import charts
from advbench.report.pictures import grid
from advbench.study import Finding, Shown, exhibit


@exhibit("Detectability against predictive accuracy", "M10")
def detection(rows: pd.DataFrame, made: Detectors) -> Shown:
    """One mark an adversary: the classifier's accuracy under it, and the accuracy of a static detector trained on it, on
    clean and adversarial test images in equal weight. The report: no adversary brings accuracy below 10 %, and each is
    detected in 85 % or more but the iterative l2 method at eps 400. eps is in units of 1/255, of l2 for images of 224
    pixels: for others it was scaled with the side, which keeps the mean change of a pixel. Columns that end in successful
    leave out images that are still classified right; thresholds of the true-positive rates were fixed on clean validation
    images."""
    return marks(in_pixels(where(rows, exhibit="detection"), made.scale))


@exhibit("Transfer between eps")
def between_eps(rows: pd.DataFrame, made: Detectors) -> Iterator[Shown]:
    """Detectability of a detector trained at eps_fit on adversarial images of eps_test, in units of 1/255. The report
    prints no numbers here but two for the iterative l2 method: chance at 400, and 0.78 there for a detector trained at
    1200."""
    return eps_maps(in_pixels(where(rows, exhibit="between eps"), made.scale))


@exhibit("Transfer between adversaries: ours", "M10")
def between_adversaries(rows: pd.DataFrame, made: Detectors) -> Iterator[Shown]:
    """Columns: the adversary that the detector was trained on; rows: the one that it meets. The report's labels are
    damaged; read the other way round, detectors trained on DeepFool would see DeepFool at 0.61, against its text, which
    finds them the most general."""
    cells = where(rows, exhibit="between adversaries")
    note = "Detectability, each attack at the smallest eps measured that leaves the classifier below 30 % accuracy."
    yield adversary_map(cells, note)
    beside = cells.assign(difference=cells.value - cells.reported)
    beside["within 0.06"] = np.where(beside.difference.abs() <= TOLERANCE, "yes", "no")
    columns = ["attack", "fit_attack", "value", "ci_low", "ci_high", "reported", "difference", "within 0.06"]
    chart = charts.heat_map(cells.assign(value=cells.reported), "fit_attack", "attack")
    note = "The report's numbers as a chart, and in the table ours (value) beside them."
    yield Shown(chart, beside[columns], note, part="report", title="Transfer between adversaries: the report's")


@exhibit("Iterative l2 at eps 400: the cell at chance level")
def chance(rows: pd.DataFrame, made: Detectors) -> Shown:
    """The report's detector did not learn to see this adversary, though one trained at eps 1200 saw it in 78 %: a failure
    of the training, it says, not of the features. Here the training starts from several initial weights."""
    part = where(rows, exhibit="chance")
    return Shown(table=part[["detector", "train_seed", "value", "ci_low", "ci_high", "n", "reported"]])


@exhibit("One image under each adversary")
def pictures(rows: pd.DataFrame, made: Detectors) -> Shown:
    """A test image, clean and adversarial, and the perturbation, amplified until its largest change is black or white; grey
    is no change."""
    clean = made.crafted(None, "test").pictures[0]
    cells, table = [("clean", "image", clean)], []
    for adversary in made.references():
        image = made.crafted(adversary, "test").pictures[0]
        largest = max(float(np.abs(image - clean).max()), 1e-9)
        perturbation = 0.5 + (image - clean) / (2 * largest)
        cells += [(adversary.label, "image", image), (adversary.label, "perturbation", perturbation)]
        table.append((adversary.label, largest * 255, 0.5 / largest))
    columns = ["adversary", "largest change of a pixel, of 255", "amplified"]
    return Shown(grid(cells, cell=128), pd.DataFrame(table, columns=columns))


EXHIBITS = (detection, between_eps, between_adversaries, chance, pictures)


def answer(rows: pd.DataFrame) -> Iterator[Finding]:
    """What the detectors see of their own adversary, and what of another."""
    yield from seen(rows)
    cells = where(rows, exhibit="between adversaries")
    least = lowest_row(cells[cells.fit_attack != cells.attack])
    if least is not None:
        yield Finding.at(
            least,
            f"A detector that meets another adversary than its own may be no help: one trained on {least.fit_attack} is "
            f"right about {share(least)} of {least.attack}."
            if least.value < 0.6
            else f"A detector also sees adversaries that it was not trained on: one trained on {least.fit_attack} is right "
            f"about {share(least)} of {least.attack}, the least of all.",
        )
