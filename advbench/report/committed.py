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
    """The verdicts of the run in the recipe's folder; where it did not decide, those of the runs in folders inside.

    A further run gives the claims that the first did not measure, and decides those that the first left open.
    :param results: holds RECIPE/results.csv, and RECIPE/NAME/results.csv for further runs.
    """
    found = _by_claim(recipe, results)
    for further in sorted(path.parent for path in (results / recipe).glob("*/results.csv")):
        for id, others in _by_claim(f"{recipe}/{further.name}", results).items():
            if id not in found:
                continue
            before, after = ([each.verdict.word for each in verdicts] for verdicts in (found[id], others))
            decides = OPEN in before and not {OPEN, NOT_MEASURED} & set(after)
            if decides or set(before) == {NOT_MEASURED}:
                found[id] = others
    return [each for own in found.values() for each in own]


def _by_claim(folder: str, results: Path) -> dict[str, list[Committed]]:
    found: dict[str, list[Committed]] = {}
    for verdict in verdicts(read_results(results / folder / "results.csv")):
        found.setdefault(verdict.target, []).append(Committed(folder, verdict))
    return found
