import re
from pathlib import Path

import pytest

from advbench import recipes
from advbench.errors import UsageError
from advbench.study import every, find, names
from advbench.study.registry import PRESETS

PARSING = r"removeprefix|removesuffix|\.partition\(|rpartition|\.split\([\"\']|str\.(extract|contains|fullmatch|match|startswith|endswith|slice)"


def test_every_recipe_is_named_and_can_be_loaded():
    assert len(names()) >= 9
    for name, text in names().items():
        found = find(name)
        assert found.name == name and text and found.question.endswith("?")
        assert set(PRESETS) - {"full"} <= set(found.presets) <= set(PRESETS)


def test_no_recipe_parses_a_name_back_into_a_value():
    folder = Path(recipes.__path__[0])
    found = [
        f"{path.relative_to(folder)}: {line.strip()}"
        for path in folder.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(PARSING, line)
    ]
    assert not found


def test_quick_decides_no_claim_and_the_other_presets_do():
    for recipe in every():
        assert set(recipe.undecided) == {"quick"}


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(UsageError, match="Known: paper, small, full, quick"):
        find("detector-cifar").preset("huge")


def test_a_file_can_declare_a_recipe_and_import_what_is_beside_it(tmp_path):
    mine = tmp_path / "mine.py"
    (tmp_path / "beside_mine.py").write_text("N = 3")
    mine.write_text(
        "from advbench.study import Config, recipe\n"
        "from beside_mine import N\n"
        "class Mine(Config):\n    n: int = N\n"
        "@recipe('mine', dataset='digits', embedded_shape=(1, 8, 8), presets={'quick': Mine()})\n"
        "def body(study):\n    pass\n"
    )
    assert find(str(mine)).name == "mine"
    mine.write_text("x = 1")
    with pytest.raises(UsageError, match="must declare one recipe, found 0"):
        find(str(mine))
    mine.write_text("def (")
    with pytest.raises(UsageError, match="does not import: SyntaxError"):
        find(str(mine))
    with pytest.raises(UsageError, match="no recipe file"):
        find(str(tmp_path / "none.py"))
