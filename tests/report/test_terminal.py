import pandas as pd
from conftest import make_run

from advbench.report import show


def test_a_long_table_is_cut_and_says_so_and_names_are_whole(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    run = make_run(tmp_path / "run")
    names = [f"a-training-of-a-rather-long-name-{n:03}" for n in range(100)]
    table = pd.DataFrame({"training": names, **{f"watched_figure_{n}": 0.5 for n in range(5)}})
    run.exhibit("curves", "Curves", "A caption.", table=table)
    show(run.directory)
    said = capsys.readouterr().out
    assert "24 of 100 rows; the page has all" in said and "…" not in said
    cells = [line.split("│")[1].strip() for line in said[said.index("Curves") :].splitlines() if line.startswith("│")]
    assert "".join(cells) == "".join(names[:24])
