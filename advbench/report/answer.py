"""The answer of a run in a few sentences, from its verdicts alone."""

from __future__ import annotations

from collections import Counter
from math import isnan
from typing import Any

from advbench.report.source import cell
from advbench.study.claims import HOLDS, MISSED, NOT_MEASURED, OPEN, Verdict, by_claim


def answer(config: dict[str, Any], found: list[Verdict]) -> list[str]:
    """The result of the study for the report's claims: how many hold, are open or are missed, and which.

    A claim that holds is named by its first part; of the others every part that is open or missed is named.
    """
    if not found:
        return ["The study compares no number with a report; its measurements are below."]
    if all(verdict.note for verdict in found):
        return [f"Nothing is decided about the report: {found[0].note}. The measurements are below."]
    words, first_parts = by_claim(found), {verdict.target: verdict for verdict in reversed(found)}
    count = Counter(words.values())
    parts = {word: [verdict for verdict in found if verdict.word == word] for word in (OPEN, MISSED)}
    parts[HOLDS] = [first_parts[claim] for claim, word in words.items() if word == HOLDS]
    return [
        f"Of the report's {len(words)} claims, {_are(count[HOLDS], 'holds', 'hold')}, {_are(count[OPEN])} open, "
        f"{_are(count[MISSED])} missed and {_are(count[NOT_MEASURED])} not measured by preset {config['preset']}.",
        *(
            f"What {verb}: {'; '.join(map(_measured, parts[word]))}." if parts[word] else f"No claim {verb}."
            for word, verb in ((HOLDS, "holds"), (OPEN, "is open"), (MISSED, "is missed"))
        ),
    ]


def _are(number: int, one: str = "is", several: str = "are") -> str:
    return f"{number} {one if number == 1 else several}"


def _measured(verdict: Verdict) -> str:
    interval = f" ({verdict.interval})" if verdict.interval else ""
    beside = f"accepted {verdict.accepted}" if isnan(verdict.reported) else f"the report has {cell(verdict.reported)}"
    needs = f"; {verdict.needs}" if verdict.needs else ""
    return f"{verdict.metric} is {cell(verdict.value)}{interval}, {beside} [{verdict.target}]{needs}"
