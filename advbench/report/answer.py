"""The answer of a run in three sentences, from its verdicts alone."""

from __future__ import annotations

from math import isnan
from typing import Any

from advbench.report.source import cell
from advbench.study.claims import Verdict, by_claim


def answer(config: dict[str, Any], found: list[Verdict]) -> list[str]:
    """What the study found about the report's claims: how many hold, which do, which do not."""
    if not found:
        return ["The study sets no number beside a report; what it measured is below."]
    if config["note"]:
        return [
            f"Nothing is decided about the report: {config['note']}. What the study measures is shown on these data."
        ]
    words = by_claim(found)
    count = {word: sum(each == word for each in words.values()) for word in ("holds", "missed", "not measured")}
    first = f"Of the report's {len(words)} claims, held: {count['holds']}; missed: {count['missed']}"
    first += f"; not measured by preset {config['preset']}: {count['not measured']}."
    first_parts = {v.target: v for v in reversed(found)}  # a claim has up to ten; the table has them all
    held = [_measured(first_parts[target]) for target, word in words.items() if word == "holds"]
    missed = [_measured(v) for v in found if v.word == "missed"]
    return [
        first,
        f"What holds: {'; '.join(held)}." if held else "No claim holds.",
        f"What does not: {'; '.join(missed)}." if missed else "No claim is missed.",
    ]


def _measured(verdict: Verdict) -> str:
    interval = f" ({verdict.interval})" if verdict.interval else ""
    beside = f"accepted {verdict.accepted}" if isnan(verdict.reported) else f"the report has {cell(verdict.reported)}"
    return f"{verdict.metric} is {cell(verdict.value)}{interval}, {beside} [{verdict.target}]"
