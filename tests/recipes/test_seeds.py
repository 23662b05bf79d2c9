"""More seeds in the directory of a finished study: against the study that had them from the start."""

import json

import pytest
from click.testing import CliRunner
from tiny import TINY, settings

from advbench.cli import main
from advbench.study import every

REPEATED = [recipe.name for recipe in every() if "seeds" in type(recipe.preset("quick")).model_fields]


def invoke(name, seeds, out):
    fields = {**TINY[name], "seeds": seeds}
    options = ["--dataset", "digits", "--device", "cpu", "--workers", "1", "--out", str(out), *settings(fields)]
    return CliRunner().invoke(main, ["recipe", name, *options])


def read(directory, name):
    return json.loads((directory / name).read_text())


@pytest.mark.parametrize("name", REPEATED)
def test_more_seeds_end_as_if_they_had_been_asked_for_at_once(name, tmp_path):
    grown, fresh = tmp_path / "grown", tmp_path / "fresh"
    assert invoke(name, 1, grown).exit_code == 0
    before = {path.name: path.read_bytes() for path in (grown / "stages").iterdir()}
    assert invoke(name, 2, grown).exit_code == 0
    assert invoke(name, 2, fresh).exit_code == 0
    assert {key: (grown / "stages" / key).read_bytes() for key in before} == before  # nothing is computed again
    assert {path.name for path in (grown / "stages").iterdir()} == {path.name for path in (fresh / "stages").iterdir()}
    for page in ("results.csv", "exhibits.json"):
        assert (grown / page).read_text() == (fresh / page).read_text()
    assert read(grown, "config.json")["config"] == read(fresh, "config.json")["config"]
    fewer = invoke(name, 1, grown)
    assert fewer.exit_code == 2 and "seeds = 2, not 1" in fewer.output
