import pytest

from advbench import recipe
from advbench.errors import UsageError


def test_every_recipe_file_is_named_and_can_be_loaded():
    for name, text in recipe.names().items():
        found = recipe.find(name)
        assert found.name == name and text
        assert set(found.presets) == set(recipe.PRESETS)


@pytest.fixture
def detector_cifar():
    return recipe.find("detector-cifar")


def test_settings_are_typed(detector_cifar):
    config = recipe.configure(
        detector_cifar, "quick", ("eps_fgsm=2/255,8/255", "detector_epochs=7", "depths=[]", "epochs=null")
    )
    assert config.eps_fgsm == (2 / 255, 8 / 255)
    assert (config.detector_epochs, config.depths, config.epochs) == (7, (), None)
    assert recipe.configure(detector_cifar, "quick", ("eps_bim=[1/255]",)).eps_bim == (1 / 255,)
    assert recipe.configure(detector_cifar, "quick", ("eps_bim=0.5/255",)).eps_bim == (0.5 / 255,)
    assert recipe.configure(detector_cifar, "quick", ("eps_bim=1/255,2/255", "eps_bim=0.5/255")).eps_bim == (0.5 / 255,)


def test_a_config_inside_a_config_is_set_by_dotted_names():
    adaptive = recipe.find("detector-adaptive")
    config = recipe.configure(adaptive, "small", ("detectors.epochs=3", "detectors.eps_bim=2/255", "steps=9"))
    wanted = adaptive.presets["small"].detectors.model_copy(update={"epochs": 3, "eps_bim": (2 / 255,)})
    assert (config.detectors, config.steps) == (wanted, 9)


@pytest.mark.parametrize(
    "setting, said",
    [
        ("epoch=3", "did you mean 'epochs'"),
        ("detector_epochs=0", "detector_epochs.*greater than 0.*got 0"),
        ("detector_epochs=many", "detector_epochs.*integer.*'many'"),
        ("eps_fgsm=8/0", "eps_fgsm.*not a fraction"),
        ("sigmas=0.5,2", r"sigmas\.1.*less than or equal to 1"),
        ("schedule=slow", "schedule.*'report' or 'fast'"),
        ("detector_epochs", "takes key=value"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(detector_cifar, setting, said):
    with pytest.raises(UsageError, match=said) as caught:
        recipe.configure(detector_cifar, "quick", (setting,))
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_names_those_there_are(detector_cifar):
    with pytest.raises(UsageError, match="Known: paper, small, quick"):
        recipe.configure(detector_cifar, "huge", ())


def test_the_paper_preset_is_the_papers(detector_cifar):
    """Sections 1.3 to 1.6 of the reports: 45,000 images, 20 epochs at 1e-4, eps 1..4 and 20..80, sigma 0..1."""
    config = recipe.configure(detector_cifar, "paper", ())
    assert config.train_images is config.test_images is config.detector_images is config.epochs is None
    assert config.schedule == "report" and config.detector_epochs == 20 and config.detector_lr == 1e-4
    assert [round(eps * 255) for eps in (*config.eps_fgsm, *config.eps_bim, *config.eps_bim_l2)] == [
        1,
        2,
        3,
        4,
        1,
        2,
        3,
        4,
        20,
        40,
        60,
        80,
    ]
    assert config.depths == (0, 1, 2, 3, 4) and config.sigmas == tuple(i / 10 for i in range(11))


def test_a_file_can_declare_a_recipe(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from advbench.study.registry import Config, recipe\n"
        "class Mine(Config):\n    n: int = 3\n"
        "@recipe('mine', dataset='digits', embedded_shape=(1, 8, 8), presets={'quick': Mine()})\n"
        "def body(study):\n    pass\n"
    )
    assert recipe.find(str(mine)).name == "mine"
    mine.write_text("x = 1")
    with pytest.raises(UsageError, match="must declare one recipe, found 0"):
        recipe.find(str(mine))
    mine.write_text("def (")
    with pytest.raises(UsageError, match="does not import: SyntaxError"):
        recipe.find(str(mine))
    with pytest.raises(UsageError, match="no recipe file"):
        recipe.find(str(tmp_path / "none.py"))
