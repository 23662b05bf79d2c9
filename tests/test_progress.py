import sys
import time

import pytest

from advbench import progress


@pytest.mark.parametrize("terminal", [True, False])
def test_every_item_comes_once_and_in_order_nested_too(monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    seen = [(i, j) for i in progress.track(range(3), "outer", 3) for j in progress.track(range(2), "inner", 2)]
    assert seen == [(i, j) for i in range(3) for j in range(2)]
    assert progress._bars is None


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_tell_the_time_left_where_a_bar_would_be_torn_or_unseen(monkeypatch, caplog, terminal):
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with caplog.at_level("INFO", "advbench"):
        list(progress.track("abc", "work", 3, alone=not terminal))  # a child process logs to the terminal
    assert caplog.messages == ["work: 1 of 3, about 40 s left", "work: 2 of 3, about 20 s left"]


def test_a_bar_is_taken_down_after_an_error(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with pytest.raises(RuntimeError):
        for _ in progress.track(range(3), "outer", 3):
            raise RuntimeError
    assert progress._bars is None


def test_waiting_says_that_it_begins_and_that_it_still_runs(caplog, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.01)
    with caplog.at_level("INFO", logger="advbench"), progress.waiting("mnist: official download"):
        while len(caplog.messages) < 3:
            time.sleep(0.01)
    first, second, _ = caplog.messages[:3]
    assert first == "mnist: official download ..." and second.startswith("mnist: official download: ")
    before = len(caplog.messages)
    time.sleep(0.05)
    assert len(caplog.messages) == before, "nothing is said after the end"


def test_in_a_notebook_a_bar_is_shown_and_taken_away(monkeypatch):
    pytest.importorskip("IPython")
    from IPython import display

    shown = []

    class Handle:
        def update(self, content, raw=False):
            shown.append(content if raw else content.data)

    clock = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress, "is_notebook", lambda: True)
    monkeypatch.setattr(display, "display", lambda content, display_id: Handle())
    assert list(progress.track("ab", "<work>", 2)) == ["a", "b"]
    assert "&lt;work&gt;" in shown[0] and "1 of 2, about 1 s left" in shown[0] and shown[-1] == {"text/plain": ""}
