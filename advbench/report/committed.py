"""The verdicts on a recipe's claims that its committed runs give together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from advbench.study.claims import NOT_MEASURED, Verdict, verdicts
from advbench.study.schema import read_results


@dataclass(frozen=True)
class Committed:
    """A verdict and the folder of the run that gave it, within the folder of all results: ``detector-cifar/depths``."""

    folder: str
    verdict: Verdict


def committed(recipe: str, results: Path) -> list[Committed]:
    """The verdicts of the run in the recipe's folder; of what it did not measure, those of the runs in folders inside.

    :param results: holds RECIPE/results.csv, and RECIPE/NAME/results.csv for further runs.
    """
    found = _by_claim(recipe, results)
    for further in sorted(path.parent for path in (results / recipe).glob("*/results.csv")):
        for id, others in _by_claim(f"{recipe}/{further.name}", results).items():
            if id in found and all(each.verdict.word == NOT_MEASURED for each in found[id]):
                found[id] = others
    return [each for own in found.values() for each in own]


def _by_claim(folder: str, results: Path) -> dict[str, list[Committed]]:
    found: dict[str, list[Committed]] = {}
    for verdict in verdicts(read_results(results / folder / "results.csv")):
        found.setdefault(verdict.target, []).append(Committed(folder, verdict))
    return found
