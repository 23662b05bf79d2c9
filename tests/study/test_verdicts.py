import pandas as pd
import pytest

from advbench import metrics
from advbench.study.claims import summary, verdicts


def rows(*entries):
    table = [
        {"target": target, "value": value, "accept_low": low, "accept_high": high}
        for target, value, low, high in entries
    ]
    return pd.DataFrame(table).reindex(columns=metrics.COLUMNS)


@pytest.mark.parametrize(
    "value, low, high, word",
    [
        (0.5, 0.4, 0.6, "holds"),
        (0.4, 0.4, 0.6, "holds"),
        (0.39, 0.4, 0.6, "missed"),
        (0.61, 0.4, 0.6, "missed"),
        (0.9, 0.4, None, "holds"),
        (0.1, None, 0.6, "holds"),
        (0.7, None, 0.6, "missed"),
        (None, 0.4, 0.6, "not measured"),
    ],
)
def test_a_verdict_is_whether_the_value_is_accepted(value, low, high, word):
    assert [verdict.word for verdict in verdicts(rows(("M1", value, low, high)))] == [word]


def test_a_run_on_other_data_decides_nothing():
    table = rows(("M1", 0.5, 0.4, 0.6)).assign(note="digits in place of cifar10")
    assert summary(verdicts(table)) == "not measured: M1"


def test_a_target_is_as_good_as_its_worst_part():
    table = rows(("M1", 0.5, 0.4, None), ("M9", 0.7, 0.6, None), ("M9", 0.0, 0.1, None), ("M4", None, 0.1, None))
    assert summary(verdicts(table)) == "holds: M1; missed: M9; not measured: M4"
