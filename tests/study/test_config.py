import numpy as np
import pytest

from advbench.errors import UsageError
from advbench.study import configure, find
from advbench.study.config import number


@pytest.fixture(scope="module")
def quick():
    return find("detector-cifar").preset("quick")


@pytest.mark.parametrize(
    ("recipe", "field"),
    [
        ("bench", "eps_evaluated"),
        ("compare-defences", "grey.eps"),
        ("compare-defences", "colour.eps"),
        ("detector-adaptive", "eps"),
        ("fgsm-cifar", "eps"),
        ("fgsm-cifar", "future.eps"),
        ("gan-mnist", "t"),
        ("weighted-cifar", "eps"),
        ("weighted-cifar", "future.eps"),
    ],
)
def test_a_study_that_needs_a_bound_refuses_none_before_it_starts(recipe, field):
    for preset in find(recipe).presets.values():
        with pytest.raises(UsageError, match=rf"--set {field} is empty"):
            configure(preset, (f"{field}=[]",))


def test_settings_are_typed(quick):
    config = configure(quick, ("eps_fgsm=2/255,8/255", "detector_epochs=7", "depths=[]", "epochs=null"))
    assert config.eps_fgsm == (2 / 255, 8 / 255)
    assert (config.detector_epochs, config.depths, config.epochs) == (7, (), None)
    assert configure(quick, ("eps_bim=[1/255]",)).eps_bim == (1 / 255,)
    assert configure(quick, ("eps_bim=0.5/255",)).eps_bim == (0.5 / 255,)
    assert configure(quick, ("eps_bim=1/255,2/255", "eps_bim=0.5/255")).eps_bim == (0.5 / 255,)


def test_a_config_inside_a_config_is_set_by_dotted_names():
    adaptive = find("detector-adaptive")
    config = configure(adaptive.preset("small"), ("detectors.epochs=3", "detectors.eps_bim=2/255", "steps=9"))
    wanted = adaptive.presets["small"].detectors.model_copy(update={"epochs": 3, "eps_bim": (2 / 255,)})
    assert (config.detectors, config.steps) == (wanted, 9)


@pytest.mark.parametrize(
    "setting, message",
    [
        ("epoch=3", "did you mean 'epochs'"),
        ("detector_epochs=0", "detector_epochs.*greater than 0.*not 0"),
        ("detector_epochs=many", "detector_epochs.*integer.*'many'"),
        ("eps_fgsm=8/0", "eps_fgsm.*not a fraction"),
        ("sigmas=0.5,2", r"sigmas\.1.*less than or equal to 1"),
        ("schedule=slow", "schedule.*'report' or 'fast'"),
        ("detector_epochs", "takes key=value"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(quick, setting, message):
    with pytest.raises(UsageError, match=message) as caught:
        configure(quick, (setting,))
    assert "\n" not in str(caught.value)


def test_the_paper_preset_is_the_papers():
    """Sections 1.3 to 1.6 of the reports: 45,000 images, 20 epochs at 1e-4, eps 1..4 and 20..80, sigma 0..1."""
    config = find("detector-cifar").preset("paper")
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


@pytest.mark.parametrize("kind", [float, np.float64])
def test_a_number_is_written_as_a_person_does(kind):
    written = [number(kind(value)) for value in (0, 0.5, 8 / 255, 0.5 / 255, 12, 0.031)]
    assert written == ["0", "0.5", "8/255", "0.5/255", "12.0", "0.031"]
