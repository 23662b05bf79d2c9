import shlex

import numpy as np
import pytest

from advbench import metrics
from advbench.attacks import ATTACKS
from advbench.errors import UsageError
from advbench.evaluation.battery import Own, battery, fitting, in_norm
from advbench.evaluation.options import Options, floors, read_config


def test_strings_of_the_command_line_become_numbers():
    options = Options.parse(
        model="m.py:f", data="d.npz", eps="8/255, 2/255", mean="0.5", std="0.25", shape="3,8,9", n="5"
    )
    assert options.eps == {"linf": (2 / 255, 8 / 255)} and options.shape == (3, 8, 9) and options.n == 5
    assert options.mean == (0.5,) and options.std == (0.25,)


def test_the_command_asks_the_same():
    options = Options.parse(model="a b.py:f", data="d", eps="8/255,0.3", norm="l2", labels="1,2")
    words = shlex.split(options.command(3))
    assert words[:3] == ["advbench", "evaluate", "a b.py:f"] and words[-2:] == ["--seed", "3"]
    given = {key[2:]: value for key, value in zip(words[3:-2:2], words[4:-2:2])}
    assert Options.parse(model="a b.py:f", **given) == options


@pytest.mark.parametrize(
    "given, said",
    [
        ({"eps": "8/0"}, "--eps: '8/0' is not a fraction"),
        ({"eps": "-1"}, "--eps must be greater than 0, not '-1'"),
        ({"norm": "l3"}, "--norm must be 'linf', 'l2', 'l1' or 'l0', not 'l3'"),
        ({"shape": "3,32"}, r"--shape has too few values: \['3', '32'\]"),
        ({"shape": "3,32,32,1"}, "--shape has too many values: "),
        ({"shape": "3,20000,20000"}, "--shape 3,20000,20000: an image of more than 100,000,000 values"),
        ({"n": True}, "--n is a number or a name, got True"),
        ({"eps": False}, "--eps is a number or a name, got False"),
        ({"n": "0"}, "--n must be greater than 0, not '0'"),
        ({"n": "1.5"}, "--n must be an integer, not '1.5'"),
        ({"mean": "0.5"}, "--mean and --std belong together"),
        ({"eps": "8"}, "--eps 8: .*write 8/255"),
        ({"norm": "linf,l2", "eps": "8/255"}, "--eps: several norms take theirs by name, such as linf:8/255,l2:0.5"),
        ({"norm": "linf,l2", "eps": "l1:12"}, "--eps: l1 is not among the norms of --norm linf,l2"),
        ({"norm": "linf,l2", "eps": "linf:2/255,l2:x"}, "--eps must be a number, not 'x'"),
        ({"norm": "linf,l2", "eps": {"l2": []}}, "--eps is empty"),
        ({"norm": "linf,l3"}, "--norm must be 'linf', 'l2', 'l1' or 'l0', not 'l3'"),
        ({"norm": ""}, "--norm is empty"),
        ({"eps": ""}, "--eps: it must hold a number"),
        ({"norm": "l2,linf", "eps": "linf:8"}, "--eps 8: .*write 8/255"),
        ({"norm": "l2,l0", "eps": "l0:2.5"}, "--eps 2.5: in l0 it is a number of values"),
        ({"eps": "2/255,1"}, "--eps 1: .*write 1/255"),
        ({"mean": "0", "std": "1/0"}, "--std: '1/0' is not a fraction"),
        ({"mean": "nan", "std": "1"}, "--mean"),
        ({"detector_steps": "5"}, "--detector-steps needs a --detector"),
        ({"outputs": "softmax"}, "--outputs must be 'logits', 'probabilities'"),
    ],
)
def test_a_wrong_option_is_named(given, said):
    with pytest.raises(UsageError, match=said):
        Options.parse(model="m", data="d", **given)


def test_a_config_that_gives_one_option_in_two_spellings_is_refused(tmp_path):
    (tmp_path / "c.toml").write_text("keep-images = true\nkeep_images = false\n")
    with pytest.raises(UsageError, match="c.toml gives keep-images twice"):
        read_config(tmp_path / "c.toml")


def test_fractions_are_taken_wherever_numbers_of_grey_levels_are():
    options = Options.parse(model="m", data="d", mean="127.5/255, 0", std="1/255,64/255")
    assert options.mean == (0.5, 0.0) and options.std == (1 / 255, 64 / 255)
    assert "--std 1/255,64/255" in options.command(0)


def test_the_default_eps_fits_the_norm():
    assert Options.parse(model="m", data="d").eps == {"linf": (2 / 255, 8 / 255)}
    assert Options.parse(model="m", data="d", norm="l2").eps == {"l2": (0.25, 0.5)}
    assert Options.parse(model="m", data="d", norm="l2", eps="3").eps == {"l2": (3.0,)}
    assert "--eps 0.25,0.5" in Options.parse(model="m", data="d", norm="l2").command(0)


@pytest.mark.parametrize(
    "given, eps",
    [
        ({"norm": "linf,l2"}, {"linf": (2 / 255, 8 / 255), "l2": (0.25, 0.5)}),
        ({"norm": "linf,l2", "eps": "l2:1,0.5,linf:4/255"}, {"linf": (4 / 255,), "l2": (0.5, 1.0)}),
        ({"norm": ["L2", np.inf], "eps": {"Linf": 0.1}}, {"l2": (0.25, 0.5), "linf": (0.1,)}),
        ({"norm": "l2", "eps": "l2:0.5"}, {"l2": (0.5,)}),
        ({"norm": [1, 0], "eps": {"l1": ["24/2"], "l0": [4, 2]}}, {"l1": (12.0,), "l0": (2.0, 4.0)}),
    ],
)
def test_each_of_several_norms_has_its_own_bounds(given, eps):
    options = Options.parse(model="m", data="d", **given)
    assert options.eps == eps and options.norm == tuple(eps)
    words = shlex.split(options.command(0))
    again = {key[2:]: value for key, value in zip(words[3::2], words[4::2], strict=True)}
    assert Options.parse(model="m", **again).eps == eps
    objects = Options.parse(model=test_each_of_several_norms_has_its_own_bounds, data=(1, 2), **given)
    python = eval(f"dict({objects.command(0).rpartition('advbench.evaluate(')[2].split('), ', 1)[1]}", {"__builtins__": {"dict": dict}})  # fmt: skip
    assert Options.parse(model="m", data="d", **python).eps == eps


@pytest.mark.parametrize("text", ["robust_accuracy", "robust=0.4", "robust_accuracy=45", "clean_accuracy=x"])
def test_a_floor_is_a_known_name_and_a_share(text):
    with pytest.raises(UsageError, match="--fail-under takes NAME=NUMBER"):
        floors((text,))
    assert floors(("robust_accuracy=0.45", "checks_passed=1")) == {"robust_accuracy": 0.45, "checks_passed": 1}


@pytest.mark.parametrize(
    "norm, names",
    [("linf", ["fgsm", "deepfool-linf", "fmn-linf"]), ("l2", ["bim-l2", "deepfool-l2", "fmn-l2", "ddn-l2"])],
)
def test_standard_is_the_issues_list_the_cheapest_first(norm, names):
    standard = battery("standard", norm)
    parts = [in_norm(name, norm) for name in ("apgd-ce", "apgd-t", "pgd", "fab-t", "square")]
    assert [attack.name for attack in standard] == [*names, *parts]
    assert [(attack.max_iter, attack.restarts) for attack in standard if attack.name[:3] == "pgd"] == [(50, 10)]


def test_standard_in_l1_and_l0_is_the_authors_ensemble_and_the_sparse_attacks():
    pgd = "PGD-50, 10 restarts"
    assert [each.label for each in battery("standard", "l1")] == ["FMN", "APGD-CE", "APGD-T", pgd, "FAB-T", "Square"]
    assert [each.name for each in battery("standard", "l0")] == ["fmn-l0", "sigma-zero", "sparse-rs"]
    assert [battery("standard", norm, "scores")[0].name for norm in ("l1", "l0")] == ["square-l1", "sparse-rs"]
    left, notes = fitting(battery("standard", "l1"), 3)
    assert [each.label for each in left] == ["FMN", "APGD-CE", pgd, "FAB-T", "Square"] and len(notes) == 1
    assert fitting(battery("standard", "l0"), 3) == (battery("standard", "l0"), [])


def test_named_attacks_run_in_the_order_of_their_cost():
    found = battery("square,autoattack,pgd,fgsm,deepfool-linf", "linf")
    assert [each.name for each in found] == ["fgsm", "deepfool-linf", "pgd", "square", "autoattack"]
    assert [each.passes for each in found if each.bounded] == [2, 20, 5001, 9721]


@pytest.mark.parametrize(
    "name",
    [
        "fgsm",
        "bim-l2",
        "pgd",
        "pgd-l1",
        "apgd-ce",
        "apgd-t-l2",
        "fab-t",
        "square",
        "apgd-ce-l1",
        "apgd-t-l1",
        "sparse-rs",
    ],
)
def test_the_cost_of_an_attack_is_what_an_image_that_withstands_it_pays(classifier, digits, name):
    logits = classifier.predict(digits[2])
    others = np.where(np.eye(10)[digits[3]] > 0, -np.inf, logits).max(1)
    surest = (logits.max(1) - others).argmax()  # one changed value does not beat it
    x, y = digits[2][surest, None], digits[3][surest, None]
    step = Own(name, max_iter=7 if ATTACKS[name].max_iter and ATTACKS[name].step else None)
    with metrics.counted(classifier) as passes:
        step.on(classifier, 1 if ATTACKS[name].norm == "l0" else 1e-6, 0).generate(x, y)
    assert step.passes <= passes.both <= step.passes + 3  # the clean image, and a last look


def test_the_single_l2_step_is_the_whole_bound_along_the_gradient(linear, interior):
    y = linear.predict(interior).argmax(1)
    adversarial = battery("fast", "l2")[0].on(linear, 0.1, 0).generate(interior, y)
    gradient = linear.loss_gradient(interior, y).reshape(32, -1)
    wanted = 0.1 * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    np.testing.assert_allclose((adversarial - interior).reshape(32, -1), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "attacks, norm, said",
    [
        ("fgms", "linf", "did you mean 'fgsm'"),
        ("FGSM", "linf", "did you mean 'fgsm'"),
        ("pgd", "l2", "pgd is bounded in linf; --norm l2 takes bim-l2"),
        ("deepfool-l2", "linf", "must hold one in linf, not only deepfool-l2"),
    ],
)
def test_attacks_that_do_not_fit_are_named(attacks, norm, said):
    with pytest.raises(UsageError, match=said):
        battery(attacks, norm)


def test_below_four_classes_autoattack_runs_without_the_loss_that_needs_them():
    left, notes = fitting(battery("standard", "linf"), 3)
    names = ["fgsm", "deepfool-linf", "fmn-linf", "apgd-ce", "pgd", "fab-t", "square"]
    assert [attack.name for attack in left] == names and "AutoAttack runs without APGD-T" in notes[0]
    assert fitting(battery("standard", "linf"), 4) == (battery("standard", "linf"), [])
    assert fitting(battery("fast", "l2"), 2) == (battery("fast", "l2"), [])
    assert fitting(battery("autoattack", "linf"), 2)[0] == battery("autoattack", "linf")
    with pytest.raises(UsageError, match="needs 4 classes"):
        fitting(battery("apgd-t-l2", "l2"), 2)
