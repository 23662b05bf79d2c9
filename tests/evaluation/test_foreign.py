"""Attacks of other libraries by name: what they leave is what they leave in their own library."""

import re
import sys
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from others import NETWORKS

import advbench
from advbench import estimators
from advbench.cli import main
from advbench.data.pixels import Pixels
from advbench.errors import UsageError
from advbench.evaluation import pieces
from advbench.evaluation.attacking import attack_stage
from advbench.evaluation.battery import battery
from advbench.evaluation.foreign import foreign, split
from advbench.seeds import derive, own_global_state

foolbox = pytest.importorskip("foolbox", reason="needs the extra 'peers'")
torchattacks = pytest.importorskip("torchattacks", reason="needs the extra 'peers'")

EPS = 0.05


@pytest.fixture(scope="module")
def images(digits):
    return digits[2][:96], digits[3][:96]


def by_art(kind, **given):
    def run(classifier, net, x, y):
        from art.attacks import evasion

        return getattr(evasion, kind)(classifier, **given).generate(x, y)

    return run


def by_foolbox(kind, eps=EPS, **given):
    def run(classifier, net, x, y):
        model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
        attack = getattr(foolbox.attacks, kind)(**given)
        return attack(model, torch.from_numpy(x), torch.from_numpy(y), epsilons=eps)[1].numpy()

    return run


def by_torchattacks(kind, **given):
    def run(classifier, net, x, y):
        attack = getattr(torchattacks, kind)(net, **given)
        return attack(torch.from_numpy(x), torch.from_numpy(y)).detach().numpy()

    return run


CASES = {
    "art:SquareAttack(max_iter=60)": (
        "linf",
        EPS,
        by_art("SquareAttack", eps=EPS, norm=np.inf, max_iter=60, verbose=False),
    ),
    "art:BasicIterativeMethod(eps_step=0.01, max_iter=8)": (
        "linf",
        EPS,
        by_art("BasicIterativeMethod", eps=EPS, eps_step=0.01, max_iter=8, verbose=False),
    ),
    "art:FastGradientMethod": ("l2", 0.5, by_art("FastGradientMethod", norm=2, eps=0.5)),
    "foolbox:LinfPGD(steps=10, rel_stepsize=1/8)": ("linf", EPS, by_foolbox("LinfPGD", steps=10, rel_stepsize=0.125)),
    "foolbox:L2CarliniWagnerAttack(steps=30, binary_search_steps=3)": (
        "l2",
        0.5,
        by_foolbox("L2CarliniWagnerAttack", None, steps=30, binary_search_steps=3),
    ),
    "torchattacks:MIFGSM(steps=5)": ("linf", EPS, by_torchattacks("MIFGSM", eps=EPS, steps=5)),
    "torchattacks:PGDL2(steps=8)": ("l2", 0.5, by_torchattacks("PGDL2", eps=0.5, steps=8)),
    "torchattacks:APGD(steps=5)": ("linf", EPS, by_torchattacks("APGD", norm="Linf", eps=EPS, steps=5)),
}


@pytest.mark.parametrize("name", CASES)
def test_an_attack_by_name_leaves_what_it_leaves_in_its_library(trained_net, classifier, images, name):
    norm, eps, alone = CASES[name]
    x, y = images
    result = advbench.evaluate(trained_net, images, eps=eps, norm=norm, attacks=name, checks=2)
    right = classifier.predict(x).argmax(1) == y
    bounded = foreign(name, norm).bounded
    stage = attack_stage(foreign(name, norm), eps if bounded else None)
    adversarial = np.empty_like(x[right])
    parts = pieces.split(len(adversarial), x.shape[1:], Pixels(x).most, classifier.device)
    for i, part in enumerate(parts):  # so that both draw the same random starts
        with own_global_state(derive(0, stage, i)):
            adversarial[part] = alone(classifier, trained_net, x[right][part], y[right][part])
    size = np.linalg.norm(
        (adversarial - x[right]).reshape(right.sum(), -1), ord={"linf": np.inf, "l2": 2}[norm], axis=1
    )
    left = (classifier.predict(adversarial).argmax(1) == y[right]) | (size > eps * 1.0001 + 1e-6)
    assert abs(result.robust_accuracy[eps].value - left.sum() / len(x)) <= 0.005
    assert 0 < left.sum() < right.sum()
    assert result.table.index.get_level_values("attack")[-1] == name


@pytest.fixture(scope="module")
def networks(digits):
    with own_global_state(0):
        return {name: fit(*digits[:2]).eval() for name, fit in NETWORKS.items()}


@pytest.mark.parametrize("name", CASES)
def test_on_five_networks_of_others_it_is_within_half_a_point_of_its_library(networks, images, name):
    norm, eps, alone = CASES[name]
    x, y = images
    left = {}
    for trained_by, net in networks.items():
        classifier = estimators.classifier(net, (1, 8, 8), 10, device="cpu")
        attack = foreign(name, norm)
        made = attack.on(classifier, eps if attack.bounded else None, 0)
        for library, run in (("advbench", made.generate), ("theirs", partial(alone, classifier, net))):
            with own_global_state(0):
                adversarial = run(x, y)
            size = np.linalg.norm((adversarial - x).reshape(len(x), -1), {"linf": np.inf, "l2": 2}[norm], axis=1)
            right = classifier.predict(adversarial).argmax(1) == y
            left[trained_by, library] = (right | (size > eps * 1.0001 + 1e-6)).mean()
        assert abs(left[trained_by, "advbench"] - left[trained_by, "theirs"]) <= 0.005
    assert len(networks) == 5 and min(left.values()) < 0.95


def test_several_libraries_are_one_worst_case(trained_net, images):
    attacks = "fgsm, art:FastGradientMethod, foolbox:LinfPGD(steps=3),torchattacks:FGSM"
    result = advbench.evaluate(trained_net, images, eps=(0.02, EPS), attacks=attacks, checks=2)
    assert result.table.accuracy.is_monotonic_decreasing
    fgsm = result.table.accuracy[str(EPS)]
    assert fgsm.index.tolist()[1:] == ["+ " + name for name in split(attacks)[1:]]
    assert fgsm.iloc[1] == fgsm.iloc[0], "FGSM of another library beats no other image"


def test_an_attack_that_leaves_its_bound_is_not_counted_and_that_is_said(trained_net, images, caplog):
    """torchattacks' PGD is of l-inf, whatever the norm is."""
    result = advbench.evaluate(trained_net, images, eps=0.5, norm="l2", attacks="torchattacks:PGD", checks=2)
    assert result.robust_accuracy[0.5].value == result.clean_accuracy.value
    assert any("torchattacks:PGD left eps = 0.5 for" in note for note in result.notes)
    assert any("torchattacks:PGD left eps = 0.5 for" in message for message in caplog.messages)


def test_a_comma_in_parentheses_belongs_to_the_parameters():
    assert split("a, b:C(x=1, y=(2,3)),d") == ["a", "b:C(x=1, y=(2,3))", "d"]
    assert foreign("foolbox:LinfPGD(steps=3, rel_stepsize=1/30)", "linf").given == {"steps": 3, "rel_stepsize": 1 / 30}


@pytest.mark.parametrize(
    "name, said",
    [
        ("cleverhans:X", "no library of attacks named 'cleverhans'.* Known: art, foolbox, torchattacks"),
        ("art:SquarAttack", "art has no attack named 'SquarAttack'; near are SquareAttack"),
        ("foolbox:FMN", "foolbox has no attack named 'FMN'"),
        ("torchattacks:PDG", "near are .*PGD"),
        ("art:SquareAttack(maxiter=5)", "SquareAttack has no parameter 'maxiter'; it has .*max_iter"),
        ("art:SquareAttack(eps=0.1)", "eps cannot be set here: it is that of --eps"),
        ("art:ProjectedGradientDescent(targeted=True)", "targeted cannot be set here"),
        ("art:SquareAttack(500)", "not of the form library:Class"),
        ("art:SquareAttack(max_iter=open('x'))", "not of the form library:Class"),
        ("art:__import__('os')", "not of the form library:Class"),
        ("art:SquareAttack(", "not of the form library:Class"),
        ("foolbox:L2PGD", "foolbox:L2PGD is of l2, and --norm is linf"),
        ("foolbox:LinfPGD(steps=1,random_start=[)", "not of the form"),
        ("torchattacks:", "not of the form library:Class"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(name, said):
    with pytest.raises(UsageError, match=said) as error:
        battery(name, "linf")
    assert "\n" not in str(error.value)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(UsageError, match="needs the package torchattacks: pip install torchattacks"):
        foreign("torchattacks:PGD", "linf")


def test_a_value_that_the_library_refuses_is_one_line(trained_net, images):
    with pytest.raises(UsageError, match=r"art:SquareAttack\(max_iter=-1\) cannot be run: ValueError: .*max_iter"):
        advbench.evaluate(trained_net, images, eps=EPS, attacks="art:SquareAttack(max_iter=-1)", checks=2)


def test_other_libraries_do_not_say_what_they_need():
    with pytest.raises(UsageError, match="takes --access gradients"):
        battery("art:SquareAttack", "linf", "scores")


def test_a_file_holds_the_same_options(images, trained_net, tmp_path):
    torch.save(trained_net.state_dict(), tmp_path / "w.pt")
    np.savez(tmp_path / "digits.npz", x=images[0], y=images[1])
    (tmp_path / "net.py").write_text("from conftest import SmallNet as make\n")
    (tmp_path / "evaluation.toml").write_text(
        f'model = "{tmp_path}/net.py:make"\nweights = "{tmp_path}/w.pt"\ndata = "{tmp_path}/digits.npz"\n'
        'eps = ["1/255", 0.05]\nattacks = "art:FastGradientMethod(batch_size=32)"\nchecks = 2\nkeep-images = true\n'
    )
    words = ["evaluate", "--config", f"{tmp_path}/evaluation.toml", "--eps", "0.05", "--out", f"{tmp_path}/run"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    found = advbench.Result(tmp_path / "run")
    assert list(found.robust_accuracy) == [0.05] and found.adversarial.shape == images[0].shape
    assert found.config["config"]["attacks"] == "art:FastGradientMethod(batch_size=32)"


@pytest.mark.parametrize(
    "content, said",
    [
        ("attack = 1", "no option in .* named 'attack'; did you mean 'attacks'"),
        ("eps = ", "--config .* cannot be read"),
        ("data = 'd'", "MODEL is missing"),
        ("model = 'm'", "--data is missing"),
    ],
)
def test_a_file_with_a_mistake_is_one_line(tmp_path, content, said):
    (tmp_path / "e.toml").write_text(content)
    done = CliRunner().invoke(main, ["evaluate", "--config", f"{tmp_path}/e.toml"])
    assert done.exit_code == 2 and len(done.stderr.strip().splitlines()) == 1

    assert re.search(said, done.stderr)
