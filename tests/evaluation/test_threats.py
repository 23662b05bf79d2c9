"""Threat models: the norm of the bound, and what the attacker sees of the model."""

from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import advbench
from advbench import attacks, estimators, metrics
from advbench.attacks import ATTACKS, autoattack
from advbench.cli import main
from advbench.errors import UsageError
from advbench.evaluation.battery import Own, batteries, battery
from advbench.evaluation.exhibits import figures
from advbench.evaluation.options import number


@pytest.fixture(scope="module")
def images(digits):
    return digits[2][:24], digits[3][:24]


@pytest.mark.parametrize("norm, eps", [("linf", 0.1), ("l2", 0.4), ("l1", 1.5), ("l0", 2.0)])
def test_in_every_norm_robust_is_what_is_farther_away_than_eps(trained_net, images, norm, eps):
    result = advbench.evaluate(
        trained_net, images, eps=(eps if norm == "l0" else eps / 4, eps), norm=norm, attacks="fast", checks=2
    )
    distance = result.per_image.distance
    for bound, figure in result.robust_accuracy.items():
        assert figure.value == (distance > bound).mean()
    assert result.robust_accuracy[eps].value < result.clean_accuracy.value
    assert (distance[result.per_image.iloc[:, -1].notna()] <= eps).all()
    (row,) = [row for row in result.checks if row.name == "gradients"]
    assert row.passed


@pytest.mark.parametrize("access, norm", [("scores", "linf"), ("labels", "l2")])
def test_an_attacker_who_does_not_see_gradients_takes_none(trained_net, images, access, norm):
    given = {"norm": norm, "access": access, "attacks": "fast", "n": 6, "checks": 2}
    result = advbench.evaluate(trained_net, images, eps=0.2 if norm == "linf" else 1.5, **given)
    saved = result.directory / "results.csv"
    rows = [line for line in saved.read_text().splitlines() if "backward_passes" in line]
    assert rows and result._rows[result._rows.metric == "backward_passes"].value.eq(0).all()
    assert next(iter(result.robust_accuracy.values())).value < result.clean_accuracy.value
    assert "gradients" not in [check.name for check in result.checks]


@pytest.mark.parametrize("name", [name for name, spec in ATTACKS.items() if spec.access != "gradients"])
def test_an_attack_takes_no_more_than_its_access_says(classifier, images, name):
    x, y = images[0][:2], images[1][:2]
    options = {"max_iter": 2} if ATTACKS[name].max_iter else {}
    eps = {"linf": 0.1, "l2": 2, "l1": 8, "l0": 24}[ATTACKS[name].norm] if ATTACKS[name].bounded else None
    with metrics.counted(classifier) as passes:
        attacks.create(name, classifier, eps, **options).generate(x, y)
    assert passes.backward == 0 < passes.forward


@pytest.mark.parametrize(
    "given, said",
    [
        (("pgd", "linf", "scores"), "pgd needs gradients of the model, and --access is scores"),
        (("square", "linf", "labels"), "square needs scores of the model, and --access is labels"),
        (("standard", "l1", "labels"), "no attack in l1 with --access labels; with it --norm takes linf and l2"),
        (("standard", "l0", "labels"), "no attack in l0 with --access labels"),
        (("pgd,pgd", "linf"), "each once"),
    ],
)
def test_what_a_threat_model_does_not_allow_is_refused(given, said):
    with pytest.raises(UsageError, match=said):
        battery(*given)


def test_with_two_classes_autoattack_runs_without_the_loss_that_needs_four(images):
    from conftest import Linear

    linear = estimators.classifier(Linear(classes=2).eval(), (1, 8, 8), 2, device="cpu")
    x = images[0][:8]
    y = linear.predict(x).argmax(1)
    result = advbench.evaluate(linear, (x, y), eps=0.02, attacks="apgd-ce,autoattack", checks=2)
    assert any("AutoAttack runs without APGD-T" in note for note in result.notes)
    w, f = linear.model.layer.weight.detach().numpy(), linear.predict(x)
    nearest = np.abs(f[:, 1] - f[:, 0]) / np.abs(w[1] - w[0]).sum()  # where the clip is not met
    assert (result.per_image["0.02"].isna() >= (nearest > 0.02)).all()


def test_several_norms_are_each_norm_alone_and_their_union(trained_net, images, tmp_path, one_check):
    eps = {"l1": 1.5, "linf": (0.02, 0.06)}
    together = advbench.evaluate(trained_net, images, eps, list(eps), "fast", keep_images=True, out=tmp_path / "run")
    survives = []
    for norm, bounds in eps.items():
        alone = advbench.evaluate(trained_net, images, bounds, norm, "fast", keep_images=True)
        for bound, figure in alone.robust_accuracy.items():
            assert together.robust_accuracy[norm, bound] == figure
        distance = together.per_image[f"{norm} distance"]
        np.testing.assert_array_equal(distance, alone.per_image.distance)
        np.testing.assert_array_equal(together.adversarial[norm], alone.adversarial)
        assert alone.union == figure and figure.value < 0.95
        survives.append(distance > bound)
    union = np.all(survives, axis=0).mean()
    assert together.union.value == union <= min(each.mean() for each in survives)
    assert figures(SimpleNamespace(results=lambda: together._rows))["robust_accuracy"] == union  # what a gate holds
    assert list(together.table.index[-1]) == ["union", "largest", "all"] and together.table.accuracy.iloc[-1] == union
    assert f"{union:.1%} in all norms at once" in repr(together)
    shown = CliRunner().invoke(main, ["show", str(tmp_path / "run")]).output
    assert "all norms at once" in shown and "Robust accuracy, l1" in shown
    answer = (tmp_path / "run" / "about.json").read_text()
    assert "in all norms at once" in answer and "at 1.5 in l1 " in answer and "float64" not in answer
    paired = together.compare(together)
    assert list(paired.index) == ["0", "l1 1.5", "linf 0.02", "linf 0.06", "union"]
    assert paired.here["union"] == union and paired.difference.eq(0).all()


@pytest.mark.parametrize(
    "attacks, linf, l2",
    [
        ("fgsm,bim-l2", ["fgsm"], ["bim-l2"]),
        ("deepfool-l2,pgd", ["pgd"], ["deepfool-l2"]),
        ("art:SquareAttack(max_iter=5)", ["art:SquareAttack(max_iter=5)"], ["art:SquareAttack(max_iter=5)"]),
    ],
)
def test_with_several_norms_a_named_attack_runs_in_its_own(attacks, linf, l2):
    found = batteries(attacks, ("linf", "l2"))
    assert [[each.name for each in found[norm]] for norm in ("linf", "l2")] == [linf, l2]
    assert all(each.norm == norm for norm, some in found.items() for each in some)


@pytest.mark.parametrize(
    "attacks, said",
    [("pgd,fgsm", "--norm l2 takes"), ("pgd,pgd-l3", "pgd-l3"), ("fgsm,bim-l2,fmn-l1", "fmn-l1 is of another norm")],
)
def test_with_several_norms_each_attack_needs_one_and_each_norm_an_attack(attacks, said):
    with pytest.raises(UsageError, match=said):
        batteries(attacks, ("linf", "l2"))


def test_one_attack_of_another_library_in_two_norms_is_kept_apart(linear, interior, one_check):
    y = linear.predict(interior).argmax(1)
    given = {"eps": {"linf": 0.002, "l2": 0.002}, "norm": ["linf", "l2"], "attacks": "art:FastGradientMethod"}
    result = advbench.evaluate(linear.model, (interior, y), **given)
    assert result.robust_accuracy["linf", 0.002].value < result.robust_accuracy["l2", 0.002].value
    assert result.union == result.robust_accuracy["linf", 0.002]


def test_no_image_is_farther_away_than_the_smallest_eps_at_which_any_attack_beat_it(
    trained_net, classifier, images, one_check, monkeypatch
):
    """The whole battery of every norm, with few steps: also by an attack without a bound, and at a larger one."""
    monkeypatch.setattr(autoattack, "_STEPS", 12)
    monkeypatch.setattr(autoattack, "_QUERIES", 40)
    whole = Own.on
    monkeypatch.setattr(Own, "on", lambda own, *given: _few_steps(whole(own, *given)))
    eps = {"linf": (0.03, 0.08), "l2": (0.2, 0.5), "l1": (0.8, 1.6), "l0": (2.0, 6.0)}
    x, y = (each[:12] for each in images)
    result = advbench.evaluate(trained_net, (x, y), eps, list(eps), "standard", keep_images=True)
    attempts = {path.parent.name: np.load(path) for path in result.directory.glob("arrays/*/distance.npy")}
    assert len(attempts) == sum(
        (2 if each.bounded and not each.once else 1) for norm in eps for each in battery("standard", norm)
    )
    for norm, bounds in eps.items():
        distance = result.per_image[f"{norm} distance"].to_numpy()
        found = [each for name, each in attempts.items() if _norm_of(name) == norm]
        right = classifier.predict(x).argmax(1) == y
        np.testing.assert_array_equal(distance, np.where(right, np.min(found, axis=0), 0))
        for bound in bounds:
            column = result.per_image[f"{norm} {number(bound)}"]
            assert (distance[column.notna()] <= bound).all() and (distance[column.isna()] > bound).all()
        moved = (distance > 0) & np.isfinite(distance)
        adversarial = result.adversarial[norm]
        assert (classifier.predict(adversarial).argmax(1) != y)[moved].all() and moved.any()
        order = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}[norm]
        size = np.linalg.norm((adversarial - x).reshape(len(x), -1), order, axis=1)
        np.testing.assert_allclose(size[moved], distance[moved], rtol=1e-4)


def _few_steps(attack):
    if "max_iter" in attack.attack_params:
        attack.set_params(max_iter=8)
    return attack


def _norm_of(stage):
    """The norm of the attack whose name a stage begins with."""
    name = max((name for name in ATTACKS if stage.startswith(name)), key=len)
    return ATTACKS[name].norm
