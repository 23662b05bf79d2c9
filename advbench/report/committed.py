"""The verdicts on a recipe's claims that its committed runs give together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from advbench.study.claims import NOT_MEASURED, OPEN, Verdict, verdicts
from advbench.study.schema import read_results


@dataclass(frozen=True)
class Committed:
    """A verdict and the folder of the run that gave it, within the folder of all results: ``detector-cifar/depths``."""

    folder: str
    verdict: Verdict


def committed(recipe: str, results: Path) -> list[Committed]:
    """The verdicts of the run in the recipe's folder, or of a run in a folder inside that says more.

    A further run gives the claims that the first did not measure. Its figures over several seeds replace those of one
    training, whose interval is that of the images alone, part by part. A claim that is open then is judged by the run with
    the most images or seeds, where that measured all of its parts.

    :param results: holds RECIPE/results.csv, and RECIPE/NAME/results.csv for further runs.
    """
    first, *further = (_by_claim(folder, results) for folder in folders(recipe, results))
    return [each for id, own in first.items() for each in _decided(own, [run.get(id, []) for run in further])]


def folders(recipe: str, results: Path) -> list[str]:
    """The folders of a recipe's committed runs within that of all results, the first run's first."""
    further = sorted(path.parent.name for path in (results / recipe).glob("*/results.csv"))
    return [recipe, *(f"{recipe}/{name}" for name in further)]


def _decided(own: list[Committed], further: list[list[Committed]]) -> list[Committed]:
    """The verdicts on one claim: those of the first run, or of a further one that may take their place."""
    words = {each.verdict.word for each in own}
    if words == {NOT_MEASURED}:
        return next((run for run in further if run and {each.verdict.word for each in run} != words), own)
    parts = [_over_seeds(part, [run[i] for run in further if len(run) == len(own)]) for i, part in enumerate(own)]
    if OPEN not in {each.verdict.word for each in parts}:
        return parts
    complete = [run for run in further if run and NOT_MEASURED not in {each.verdict.word for each in run}]
    return max([parts, *complete], key=_units)


def _over_seeds(part: Committed, others: list[Committed]) -> Committed:
    """The same part of a claim over the most seeds, where it rests on one training itself."""
    if _units([part])[0]:
        return part
    same = [each for each in others if each.verdict.metric == part.verdict.metric and each.verdict.word != NOT_MEASURED]
    return max([part, *(each for each in same if _units([each])[0])], key=lambda each: _units([each]))


def _units(parts: list[Committed]) -> tuple[bool, float]:
    """On what the figures of a claim rest, at least: whether on several seeds, and on how many images or seeds."""
    known = [each.verdict for each in parts if each.verdict.n > 0]
    return min(((each.unit == "seeds" and each.n > 1, each.n) for each in known), default=(False, 0))


def _by_claim(folder: str, results: Path) -> dict[str, list[Committed]]:
    found: dict[str, list[Committed]] = {}
    for verdict in verdicts(read_results(results / folder / "results.csv")):
        found.setdefault(verdict.target, []).append(Committed(folder, verdict))
    return found
