"""The answer of a run in at most three sentences: what was found, what that means, how sure it is."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from advbench.metrics import COLUMNS
from advbench.study.claims import NOT_MEASURED, WORST_FIRST, Finding, Verdict, by_claim

_KNOWN = [*itertools.takewhile(lambda column: column != "value", COLUMNS)]
"""What tells one figure from another, its seed aside."""

_ARE = {"holds": ("holds", "hold"), "open": ("is open", "are open"), "missed": ("is missed", "are missed")}


def answer(run: dict[str, Any], found: list[Verdict]) -> list[Finding]:
    """The sentences that the study wrote of its rows, and how sure they are; line 0 where one rests on no single row.

    :param run: as ``read_run`` gives it.
    """
    sentences = [Finding(**sentence) for sentence in run["about"]["answer"]]
    if found or not sentences:
        sentences.append(Finding(_how_sure(run, found, sentences), 0))
    return sentences


def other_data(run: dict[str, Any]) -> list[str]:
    """What a reader must know where other data stand in for the report's, and which settings that changed."""
    note, instead = run["config"]["note"], run["about"]["instead"]
    lines = [f"Other data: {note}."] if note else []
    return [*lines, f"Settings that matter on the digits, in place of the preset's: {instead}."] if instead else lines


def _how_sure(run: dict[str, Any], found: list[Verdict], sentences: list[Finding]) -> str:
    grounds, report = _grounds(run, sentences), run["about"]["report"]
    if not found:
        return "The study compares no number with a report; its measurements are below."
    if all(verdict.note for verdict in found):
        return f"Nothing is decided about {report or 'its claims'}: {found[0].note}{grounds}."
    count = Counter(by_claim(found).values())
    decided = [word for word in reversed(WORST_FIRST) if word in _ARE and count[word]]
    missing, whose = f"not measured by preset {run['config']['preset']}", f" of {report}" if report else ""
    if count.total() == 1:
        return f"The claim{whose} {_ARE[decided[0]][0] if decided else f'is {missing}'}{grounds}."
    words = [f"{count[word]} {_ARE[word][count[word] != 1]}" for word in decided]
    words += [f"{count[NOT_MEASURED]} {missing}"] if count[NOT_MEASURED] else []
    listed = " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    return f"Of the {count.total()} claims{whose}, {listed}{grounds}."


def _grounds(run: dict[str, Any], sentences: list[Finding]) -> str:
    """What stands in the brackets of the sentences, and of how many trainings their figures show one."""
    results = run["results"]
    lines = [sentence.line - 2 for sentence in sentences if 2 <= sentence.line < len(results) + 2]
    known = results[_KNOWN].astype(object).where(results[_KNOWN].notna(), "")
    alike = [results[(known == known.iloc[line]).all(axis=1)] for line in lines]
    trainings = max((len(rows[["seed", "train_seed"]].drop_duplicates()) for rows in alike), default=1)
    which = "means over" if all(sentence.seeds > 1 for sentence in sentences) else "those of one of"
    of = f"; the figures above are {which} {trainings} seeds" if trainings > 1 else ""
    return of + ("; brackets hold 95 % intervals" if results.ci_low.iloc[lines].notna().any() else "")
