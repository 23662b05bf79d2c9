"""``tests/families.py`` on the smallest of its networks."""

import csv
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("families.py")


def test_a_family_ends_with_figures(tmp_path):
    out = tmp_path / "families.csv"
    said = subprocess.run([sys.executable, SCRIPT, out, "squeezenet1_1"], capture_output=True, text=True, check=True)
    (row,) = csv.DictReader(out.open())
    assert (row["model"], row["n"], row["says"]) == ("squeezenet1_1", "4", "")
    assert 0 <= float(row["fgsm"]) <= float(row["clean"]) <= 1
    assert said.stdout.endswith("1 of 1 families end with figures\n")
