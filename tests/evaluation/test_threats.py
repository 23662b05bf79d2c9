"""Threat models: the norm of the bound, and what the attacker sees of the model."""

import numpy as np
import pytest

import advbench
from advbench import attacks, estimators, metrics
from advbench.attacks import ATTACKS
from advbench.errors import UsageError
from advbench.evaluation.battery import battery


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
    with metrics.counted(classifier) as passes:
        attacks.create(name, classifier, 0.1 if ATTACKS[name].bounded else None, **options).generate(x, y)
    assert passes.backward == 0 < passes.forward


@pytest.mark.parametrize(
    "given, said",
    [
        (("pgd", "linf", "scores"), "pgd needs gradients of the model, and --access is scores"),
        (("square", "linf", "labels"), "square needs scores of the model, and --access is labels"),
        (("standard", "l1", "labels"), "no attack in l1 with --access labels; with it --norm takes linf and l2"),
        (("standard", "l0", "scores"), "no attack in l0 with --access scores"),
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
