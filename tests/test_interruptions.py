"""A small part of what ``python tests/interruptions.py`` does to every study."""

import random

import interruptions
import pytest


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # and back


def test_nothing_is_lost_by_interruptions(tmp_path):
    tally = interruptions.Tally()
    interruptions.interrupt("gan-mnist", 5, tally, tmp_path, random.Random(1))
    assert tally.count == 5 and tally.studies >= 1
    assert tally.losses == tally.mistakes == []


@pytest.mark.parametrize("lost", ["a row", "a digit"])
def test_a_loss_is_counted(tmp_path, monkeypatch, lost):
    """The comparison itself can fail: a study that ends otherwise is a loss."""
    tables = iter(["a,b\n1,2\n", "a,b\n" if lost == "a row" else "a,b\n1,3\n"])
    monkeypatch.setattr(interruptions, "_results", lambda out: next(tables))
    monkeypatch.setattr(interruptions, "settings", lambda recipe: ["--help"])
    tally = interruptions.Tally()
    (tmp_path / "disturbed").mkdir()
    interruptions.interrupt("gan-mnist", 0, tally, tmp_path, random.Random(0))
    (said,) = tally.losses
    assert ("1,2" in said) == (lost == "a digit")
