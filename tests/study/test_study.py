"""Stage names, exhibits and materials of a study, without any recipe."""

import random
from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd
import pytest
import torch

from advbench.data import Images
from advbench.study import Materials, Run, Shown, Study, exhibit, once
from advbench.study.study import stage_name

CONFIG = {"recipe": "r", "preset": "small", "dataset": "d", "seed": 0, "note": "", "settings": [], "config": {}}


@dataclass(frozen=True)
class Named:
    label: str


def accuracy_under(made, *arguments):
    yield {"metric": "accuracy", "value": float(len(arguments)), "split": "validation"}
    yield {"metric": "error", "value": 0.5, "exhibit": "other"}


class Networks:
    columns = {"split": "test", "model": "net"}

    def __init__(self):
        self.calls = []

    @once
    def network(self, name, seed=0):
        self.calls.append((name, seed))
        return [name, seed]


@pytest.fixture
def study(tmp_path):
    return Study(None, Run(tmp_path / "run", CONFIG), None, None, torch.device("cpu"), 0)


@pytest.mark.parametrize(
    "arguments, name",
    [
        ((), "accuracy_under"),
        ((Named("fgsm-4"), 3), "accuracy_under-fgsm-4-3"),
        ((1 / 255, "a, b"), "accuracy_under-0.00392157-a-b"),
        (("../up", None), "accuracy_under-..-up-None"),
    ],
)
def test_a_stage_is_named_after_its_function_and_arguments(arguments, name):
    assert stage_name(accuracy_under, *arguments).replace("-under", "_under") == name


def test_rows_have_what_their_materials_share_unless_they_say_otherwise(study):
    study.measure(accuracy_under, Networks(), 1)
    found = study.run.results()
    assert found.split.tolist() == ["validation", "test"] and found.model.tolist() == ["net"] * 2
    assert found.exhibit.tolist() == ["accuracy under", "other"]


def test_stages_are_measured_in_the_order_of_the_items(study):
    study.measure_each(accuracy_under, Networks(), ["b", ("a", 1)])
    assert study.run.results().value.tolist() == [1.0, 0.5, 2.0, 0.5]


def test_once_computes_once_for_the_same_arguments_of_one_instance():
    first, second = Networks(), Networks()
    assert first.network("a") is first.network("a") and first.network("a", seed=1) == ["a", 1]
    assert second.network("a") is not first.network("a")
    assert first.calls == [("a", 0), ("a", 1)]


def test_the_docstring_of_an_exhibit_is_its_caption(study):
    @exhibit("A title", "M1", "M2")
    def some_table(rows, made):
        """What the
        table shows."""
        return Shown(table=pd.DataFrame({"a": [len(rows)]}), note="Two rows.")

    @exhibit("Many")
    def many(rows, made):
        """Each."""
        yield Shown(alt.Chart(pd.DataFrame({"x": [1]})).mark_point().encode(x="x"), part="one", title="One")
        yield Shown(table=pd.DataFrame({"a": [made]}), part="two")

    @exhibit("Nothing")
    def nothing(rows, made):
        """Never."""

    @exhibit("Empty")
    def empty(rows, made):
        """A chart without a bar."""
        table = pd.DataFrame({"x": []})
        return Shown(alt.Chart(table).mark_bar().encode(x="x:Q"), table)

    study.measure(accuracy_under, Networks())
    study.show((some_table, many, nothing, empty), "m")
    first, one, two = study.run._exhibits
    assert (first["name"], first["caption"]) == ("some-table", "Two rows. What the table shows.")
    assert first["claims"] == ["M1", "M2"] and first["table"]["data"] == [[2]]
    assert (one["name"], one["title"], two["name"], two["title"]) == ("many-one", "One", "many-two", "Many")
    assert "chart" in one and two["table"]["data"] == [["m"]]


def draws():
    return {"x": np.array([random.random(), np.random.rand(), float(torch.rand(()))])}


def test_a_stage_draws_the_same_whatever_was_drawn_before_it(tmp_path):
    first, second = (Run(tmp_path / name, CONFIG) for name in "ab")
    other = Run(tmp_path / "c", {**CONFIG, "seed": 1})
    found = {name: first.arrays(name, draws)["x"] for name in ("one", "two")}
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    for name in ("two", "one"):
        np.testing.assert_array_equal(second.arrays(name, draws)["x"], found[name])
    assert (found["one"] != found["two"]).all() and (other.arrays("one", draws)["x"] != found["one"]).all()


def test_a_stage_that_asks_for_another_draws_on_as_if_that_had_been_finished(tmp_path):
    first, second = (Run(tmp_path / name, CONFIG) for name in "ab")

    def outer(run):
        return {"x": np.concatenate([draws()["x"], 0 * run.arrays("inner", draws)["x"], draws()["x"]])}

    second.arrays("inner", draws)
    np.testing.assert_array_equal(*(run.arrays("outer", lambda run=run: outer(run))["x"] for run in (first, second)))


class _Noise:
    """Adds noise to images; is killed when it has done so many parts."""

    def __init__(self, until=None):
        self.seen, self.until = [], until

    def generate(self, x, y):
        if len(self.seen) == self.until:
            raise KeyboardInterrupt
        self.seen.append(len(x))
        return x + np.random.random(x.shape).astype(np.float32)


def test_an_attack_that_was_killed_goes_on_with_the_images_that_are_left(tmp_path):
    images = Images(np.zeros((1200, 1, 2, 2), np.float32), np.zeros(1200, int))

    def crafted(directory, attack):
        made = Materials(Study(None, Run(directory, CONFIG), None, None, torch.device("cpu"), 0))
        return made.run.arrays("noise", lambda: {"x": made.attacked(attack, images, "noise", stage="noise")})["x"]

    whole = crafted(tmp_path / "whole", _Noise())
    with pytest.raises(KeyboardInterrupt):
        crafted(tmp_path / "killed", _Noise(until=2))
    rest = _Noise()
    np.testing.assert_array_equal(crafted(tmp_path / "killed", rest), whole)
    assert rest.seen == [200]
    assert not list((tmp_path / "killed" / "checkpoints").iterdir())
