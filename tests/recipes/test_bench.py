"""That what is timed is the same work for all: budgets, bounds, weights, passes; and the verdicts from hand-made rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import TINY

from advbench import metrics
from advbench.metrics import COLUMNS
from advbench.metrics.timing import interleaved
from advbench.recipes.bench import contenders, measurements
from advbench.recipes.bench.claims import AUTHORS, CLAIMS
from advbench.study import find, start
from advbench.study.claims import judged

EPS = 0.1


@pytest.fixture(scope="module")
def images(classifier, digits):
    x, y = digits[2][:64], digits[3][:64]
    right = classifier.predict(x).argmax(1) == y
    return x[right][:24], y[right][:24]


def images_of(classifier, x, y, name, eps, batch):
    """What each library makes; gradients alone make no images."""
    ours = contenders.own(classifier, name, eps, batch)
    others = contenders.attackers(classifier, x, y, name, eps, batch)
    assert [limit() for limit in (*contenders.limits(ours, x, y, name).values(), others.pop(contenders.PLAIN))] == 3 * [
        None
    ]
    made = {library: attack.generate(x, y) for library, attack in ours.items()}
    return made | {library: attack() for library, attack in others.items()}


@pytest.mark.parametrize("name", ["fgsm", "pgd", "pgd-l2"])
def test_every_library_stays_within_the_bound_and_fools_alike(classifier, images, name):
    x, y = images
    order = 2 if name == "pgd-l2" else np.inf
    eps = 1.0 if name == "pgd-l2" else EPS
    found = images_of(classifier, x, y, name, eps, 16)
    assert {"advbench, exact", "advbench, fast", "ART"} <= set(found)
    fooled = {}
    for library, adversarial in found.items():
        size = np.linalg.norm((adversarial - x).reshape(len(x), -1), order, axis=1)
        assert 0.5 * eps < size.max() <= eps * (1 + 1e-4), library
        fooled[library] = (classifier.predict(adversarial).argmax(1) != y).mean()
    assert max(fooled.values()) - min(fooled.values()) <= 2 / len(x) and max(fooled.values()) > 0


def test_deepfool_flips_every_image_at_a_distance_no_larger_than_the_others(classifier, images):
    x, y = images
    for name in ("deepfool-l2", "deepfool-linf"):
        found = images_of(classifier, x, y, name, None, 16)
        order = 2 if name.endswith("l2") else np.inf
        distance = {
            library: np.median(np.linalg.norm((adversarial - x).reshape(len(x), -1), ord=order, axis=1))
            for library, adversarial in found.items()
        }
        assert (classifier.predict(found["advbench, exact"]).argmax(1) != y).all()
        assert distance["advbench, exact"] <= 1.02 * min(distance.values())


def test_the_unit_is_one_forward_and_one_backward_pass_a_step(classifier, images):
    x, y = images
    passes = []
    handle = classifier.model.register_forward_hook(lambda _module, inputs, _output: passes.append(len(inputs[0])))
    contenders.attackers(classifier, x, y, "pgd", EPS, 16)[contenders.PLAIN]()
    handle.remove()
    assert passes == [16] * 10 + [8] * 10


def test_autoattack_is_that_of_its_authors_and_leaves_no_more_images(classifier, images):
    x, y = images
    found = images_of(classifier, x, y, "autoattack", 0.02, 16)
    left = {library: (classifier.predict(adversarial).argmax(1) == y).sum() for library, adversarial in found.items()}
    assert list(left) == ["advbench, exact", "advbench, fast", AUTHORS]
    assert 0 < left["advbench, exact"] <= left[AUTHORS] < len(x)
    assert all(np.abs(adversarial - x).max() <= 0.02 * (1 + 1e-4) for adversarial in found.values())


@pytest.mark.parametrize("name, steps", [("fgsm", 1), ("pgd", 10), ("deepfool-l2", 10)])
def test_the_limit_is_one_bare_gradient_a_step_of_the_same_layers(classifier, images, name, steps):
    x, y = images
    ours = contenders.own(classifier, name, None if name.startswith("deepfool") else EPS, 16)
    limits = contenders.limits(ours, x, y, name)
    assert list(limits) == list(contenders.LIMITS.values())
    for attack, limit in zip(ours.values(), limits.values(), strict=True):
        with metrics.counted(attack.estimator) as passes:
            limit()
        assert passes.forward == passes.backward == steps * len(x)
    assert [attack.estimator.precision for attack in ours.values()] == ["exact", "fast"]


def test_a_multiple_is_the_time_over_that_of_the_gradients_that_are_needed():
    seconds = pd.DataFrame(
        {
            "advbench, exact": [6.0, 12.0],
            "bare gradient, exact": [10.0, 20.0],
            "advbench, fast": [3.0, 3.0],
            "bare gradient, fast": [5.0, 5.0],
            "ART": [12.0, 24.0],
        }
    )
    rows = list(measurements._multiples(seconds, {"advbench, exact": 5.0, "advbench, fast": 6.0}, 10, {"attack": "x"}))
    found = {row["library"]: row["value"] for row in rows if row["metric"] == "limit"}
    assert found == pytest.approx({"advbench, exact": 1.2, "advbench, fast": 1.0, "ART": 2.4})
    assert {row["library"] for row in rows if row["metric"] == "seconds"} == set(contenders.LIMITS.values())


def test_trainings_leave_the_model_as_it_is(classifier, images):
    before = {name: tensor.clone() for name, tensor in classifier.model.state_dict().items()}
    for run in contenders.trainings(classifier, *images, EPS, 8).values():
        run()
    assert all(torch.equal(before[name], tensor) for name, tensor in classifier.model.state_dict().items())


def test_rounds_are_interleaved():
    calls = []
    seconds = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, "x")
    assert calls == ["a", "b"] * 3
    assert list(seconds) == ["a", "b"] and len(seconds) == 3 and (seconds >= 0).all(axis=None)


def words(rows):
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return {(verdict.target, verdict.metric): verdict.word for verdict in judged(CLAIMS, table)}


def cost(attack, library, source, value, exhibit="attacks"):
    common = {"exhibit": exhibit, "attack": attack, "library": library, "source": source, "n": 3}
    return {**common, "metric": "cost", "value": value}


def multiple(attack, library, value):
    return {"exhibit": "attacks", "attack": attack, "library": library, "metric": "limit", "value": value, "n": 3}


def test_a_ratio_above_its_bound_is_missed_and_what_was_not_measured_is_said():
    rows = [
        multiple("fgsm", "advbench, exact", 1.04),
        multiple("pgd", "advbench, exact", 1.06),
        multiple("deepfool-linf", "advbench, exact", 1.14),
        cost("pgd", "advbench, exact", "foolbox", 0.9),
        cost("autoattack", "advbench, fast", AUTHORS, 0.41),
        cost(np.nan, "advbench.evaluate", AUTHORS, 0.59, "evaluation"),
        cost("fgsm", "advbench, weighted FGSM", "clean epoch", 2.05, "training"),
        cost("fgsm", "advbench, weighted FGSM", "ART AdversarialTrainer, FGSM", 0.6, "training"),
    ]
    found = words(rows)
    assert found["B1", "fgsm through ART's class, exact, against bare gradients"] == "holds"
    assert found["B1", "pgd through ART's class, exact, against bare gradients"] == "missed"
    assert found["B3", "pgd, exact, against foolbox"] == "holds"
    assert found["B6", "deepfool-linf against its bare passes"] == "holds"
    assert found["B10", f"autoattack, fast, against {AUTHORS}"] == "missed"
    assert found["B11", f"evaluate at two bounds against {AUTHORS}"] == "holds"
    assert found["B7", "weighted FGSM epoch against a clean epoch"] == "holds"
    assert found["B8", "weighted FGSM epoch against ART's AdversarialTrainer"] == "missed"
    assert found["B9", "later detector epochs against the subnetwork alone"] == "not measured"
    assert {target for target, _ in found} == {f"B{i}" for i in range(1, 12)}


def test_success_and_distance_are_judged_beside_the_time():
    common = {"exhibit": "attacks", "n": 10}
    rows = [
        {**common, "attack": "fgsm", "library": "advbench, exact", "metric": "success_rate", "value": 0.9},
        {**common, "attack": "fgsm", "library": "advbench, fast", "metric": "success_rate", "value": 0.8},
        {**common, "attack": "deepfool-l2", "library": "advbench, exact", "metric": "success_rate", "value": 1.0},
        {**common, "attack": "deepfool-l2", "library": "advbench, exact", "metric": "median_distance", "value": 0.2},
        {**common, "attack": "deepfool-l2", "library": "ART", "metric": "median_distance", "value": 0.1},
        {**common, "attack": "autoattack", "library": "advbench, exact", "metric": "success_rate", "value": 0.4},
        {**common, "attack": "autoattack", "library": "advbench, fast", "metric": "success_rate", "value": 0.5},
        {**common, "attack": "autoattack", "library": AUTHORS, "metric": "success_rate", "value": 0.5},
        *(
            {
                **common,
                "exhibit": "evaluation",
                "library": library,
                "metric": "robust_accuracy",
                "value": left,
                "eps": eps,
            }
            for library, eps, left in [
                ("advbench.evaluate", 0.1, 0.3),
                (AUTHORS, 0.1, 0.3),
                ("advbench.evaluate", 0.2, 0.1),
                (AUTHORS, 0.2, 0.2),
            ]
        ),
    ]
    found = words(rows)
    assert found["B4", "fgsm: success rate of fast away from exact"] == "missed"
    assert found["B10", "autoattack, exact: images beaten by its authors' code more"] == "missed"
    assert found["B10", "autoattack, fast: images beaten by its authors' code more"] == "holds"
    assert found["B11", "accuracy left by evaluate above that of AutoAttack, the larger of the bounds"] == "holds"
    assert found["B5", "deepfool-l2: correct images not flipped"] == "holds"
    assert found["B5", "deepfool-l2: median distance against ART"] == "missed"


def test_a_network_of_the_user_is_attacked_as_it_is_and_without_taps_has_no_detector(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "import torch\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 10))\n"
    )
    settings = tuple(f"{name}={value}" for name, value in TINY["bench"].items())
    run = start(find("bench"), "quick", "digits", out=tmp_path / "run", settings=(*settings, "model=net.py:make"))
    rows = run.results()
    measured = rows[rows.exhibit.isin(["attacks", "evaluation", "training", "detector"])]
    assert set(measured.model) == {"net.py:make"} and "detector" not in set(measured.exhibit)
    timed = rows[rows.metric.isin(["cost", "seconds", "limit"]) | (rows.target == "B3")]
    assert "B3" in set(timed[timed.n > 0].target) and set(timed[timed.n > 0].unit) == {"rounds"}  # and not images
    assert set(rows.note) == {"digits instead of cifar10, by --dataset"}  # no report has it
