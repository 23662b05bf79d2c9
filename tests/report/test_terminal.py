import re

import pandas as pd
from click.testing import CliRunner
from conftest import make_run

from advbench.cli import main
from advbench.report import show, show_comparison


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


def test_what_someone_else_wrote_is_shown_as_text(tmp_path, capsys):
    """No title of the window, no colours, no markup, no emoji, no text from right to left."""
    hostile = "\x1b]0;P\x07\x1b[2J\x9b31m\x08[bold]b[/] [link=http://x]l[/link] :smile: \u202eabc"
    show(make_run(tmp_path / "run", hostile).directory)
    out = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b", "\x08", "\u202e"} & set(out)
    whole = re.sub(r"[\s│]", "", out)
    assert r"\x1b]0;P\x07" in whole and "[bold]b[/]" in whole and "[link=http://x]l[/link]" in whole
    assert ":smile:" in whole and r"\u202eabc" in whole


def test_two_runs_of_others_are_compared_as_text(tmp_path, capsys):
    runs = [
        make_run(tmp_path / name, f"\x1b[31m[red]{value}[/]", value=value).directory
        for name, value in (("a", 3), ("b", 9))
    ]
    show_comparison(runs)
    out = capsys.readouterr().out
    assert "\x1b" not in out and r"\x1b[31m[red]" in re.sub(r"[\s│]", "", out)


def test_a_mistake_is_printed_as_text(tmp_path):
    odd = tmp_path / "r\x1b[31m"
    odd.mkdir()
    done = CliRunner().invoke(main, ["show", str(odd)])
    assert done.exit_code == 2 and "\x1b" not in done.stderr and r"r\x1b[31m is not a run" in done.stderr
