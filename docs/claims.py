"""Writes docs/claims.md from the claims of the recipes and the committed results: ``python docs/claims.py``."""

from pathlib import Path

from advbench.report.claims import claims_page
from advbench.study import every

if __name__ == "__main__":
    docs = Path(__file__).parent
    (docs / "claims.md").write_text(claims_page(every(), docs / "results"))
