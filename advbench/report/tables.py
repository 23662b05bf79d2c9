"""The table of the claims, and any table as Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from advbench.report.source import cell
from advbench.study.claims import Verdict


def claims_table(found: Sequence[Verdict]) -> pd.DataFrame:
    """Each claim with its measurement and its verdict; an open one with the images or seeds that it needs."""
    columns = ["claim", "measured", "ours", "95 % interval", "report", "accepted", "verdict"]
    rows = [
        [v.target, v.metric, v.value, v.interval, v.reported, v.accepted, ": ".join(filter(None, (v.word, v.needs)))]
        for v in found
    ]
    return pd.DataFrame(rows, columns=columns)


def markdown(table: pd.DataFrame) -> str:
    """A pipe table; pandas would need tabulate for it, which does not escape the pipes in a cell."""
    rows = [_headings(table), ["---"] * len(table.columns), *table.map(cell).values.tolist()]
    return "".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |\n" for row in rows)


def latex(table: pd.DataFrame) -> str:
    """A booktabs table; needs ``\\usepackage{booktabs}``."""
    text = table.map(cell).set_axis(_headings(table), axis="columns")
    style = text.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    return style.to_latex(hrules=True)


def _headings(table: pd.DataFrame) -> list[str]:
    return [str(column).replace("_", " ") for column in table.columns]
