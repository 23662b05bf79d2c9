"""The networks that come with the package: each is what its card says, and nothing else is taken for one."""

import re
import shutil

import pytest
from click.testing import CliRunner
from conftest import USERS_CACHE

from advbench import SubnetworkDetector, estimators, models
from advbench.cli import main
from advbench.errors import UsageError
from advbench.models import zoo
from advbench.study import find
from advbench.study.cards import LARGEST_FILE, LARGEST_ZOO, lies

NAMES = sorted(zoo.index())
LOAD = {"classifier": estimators.load, "detector": SubnetworkDetector.load, "attacker": lambda name: None}


def test_the_index_has_every_file_and_the_zoo_is_small():
    files = list(zoo.FOLDER.glob("*.safetensors"))
    assert {file.stem for file in files} == set(NAMES)
    sizes = [file.stat().st_size for file in files]
    assert max(sizes, default=0) <= LARGEST_FILE and sum(sizes) <= LARGEST_ZOO


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_where_its_network_is_from(name):
    card = zoo.card(name)
    recipe = find(card.recipe)
    assert card.stage in zoo.of_recipe(recipe.name, recipe.dataset, card.seed)
    assert card.preset in recipe.presets and card.dataset == recipe.dataset
    assert re.match("[0-9a-f]{7,40}", card.commit) and re.fullmatch(r"20\d\d-\d\d-\d\d", card.date)
    assert (card.hours or zoo.card(card.classifier).hours) > 0 and card.machine and card.versions["torch"]
    assert all(each["n"] >= 1000 and each["ci_low"] <= each["value"] <= each["ci_high"] for each in card.figures)
    LOAD[card.kind](name)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_tells_the_truth(name, monkeypatch):
    if not (USERS_CACHE / zoo.card(name).dataset / "test" / "y.npy").is_file():
        pytest.skip(f"{name} is measured on {zoo.card(name).dataset}, which is not in {USERS_CACHE}")
    monkeypatch.setenv("ADVBENCH_CACHE", str(USERS_CACHE))
    assert lies(name) == ""


@pytest.fixture
def two(tmp_path, monkeypatch):
    """A zoo of two files whose cards nobody reads."""
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    (tmp_path / zoo.INDEX).write_text("{}")
    for seed, name in enumerate(("one", "other")):
        file = tmp_path / f"{name}.file"
        models.save(file, models.create("cnn2", seed), models.ModelSpec("cnn2", (1, 28, 28), 10, (0.0,), (1.0,)))
        zoo.put(name, file)
    return tmp_path


def test_what_is_not_the_file_of_the_index_is_refused(two):
    one, other = two / "one.safetensors", two / "other.safetensors"
    assert zoo.path("one") == zoo.path("zoo:one") == one
    content = bytearray(one.read_bytes())
    content[-1] ^= 1
    one.write_bytes(content)
    with pytest.raises(UsageError, match=r"one.safetensors is refused: its SHA-256 is not that of index.json"):
        estimators.load("one")
    shutil.copy(other, one)  # swapped
    with pytest.raises(UsageError, match="is refused"):
        SubnetworkDetector.load("zoo:one")
    shutil.copy(other, two / "foreign.safetensors")
    with pytest.raises(UsageError, match="no network in the zoo named 'foreign'"):
        zoo.path("foreign")
    one.unlink()
    with pytest.raises(UsageError, match="is missing"):
        zoo.path("one")
    with pytest.raises(UsageError, match="no card that can be read"):
        zoo.card("other")
    (two / zoo.INDEX).write_text("[")
    with pytest.raises(UsageError, match="missing or damaged"):
        zoo.index()


def test_a_name_that_is_nearly_right_is_corrected(two):
    for load in (estimators.load, SubnetworkDetector.load):
        with pytest.raises(UsageError, match="did you mean 'other'"):
            load("othr")


@pytest.mark.parametrize(
    "arguments", [["show", "zoo:nothing"], ["evaluate", "zoo:nothing", "--data", "digits"], ["zoo", "add", "here:x"]]
)
def test_a_command_refuses_in_one_line(arguments):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and len(result.output.strip().splitlines()) == 1, result.output
