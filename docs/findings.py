"""Writes docs/findings.md from the claims and answers of the recipes and the committed results: ``python docs/findings.py``."""

from pathlib import Path

from advbench.report.findings import findings_page
from advbench.study import every

if __name__ == "__main__":
    docs = Path(__file__).parent
    (docs / "findings.md").write_text(findings_page(every(), docs / "results"))
