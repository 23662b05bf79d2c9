import pandas as pd

from advbench.metrics import timing


def test_every_round_runs_all_contenders_in_turn(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def contender(name, *seconds):
        left = iter(seconds)

        def run():
            order.append(name)
            clock[0] += next(left)

        return run

    found = timing.interleaved({"a": contender("a", 1, 2), "b": contender("b", 10, 20)}, 2, "rounds")
    assert order == ["a", "b", "a", "b"]
    pd.testing.assert_frame_equal(found, pd.DataFrame({"a": [1.0, 2.0], "b": [10.0, 20.0]}))
