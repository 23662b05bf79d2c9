"""What the standard battery costs, counted at the model from end to end, beside AutoAttack alone at the same bounds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Counter
from torch import nn

import advbench
from advbench import attacks, estimators
from advbench.attacks import autoattack
from advbench.evaluation import attacking, battery, pieces, study
from advbench.evaluation.finds import Finds

KEY = ("gradients", "linf")
BOUNDS = {"undefended": (0.02, 0.1), "robust": (0.01, 0.02)}


@pytest.fixture(scope="module")
def nets(trained_net, digits):
    """The network of the other tests, and ridge regression, of which most images withstand both of its bounds."""
    x, y = digits[0].reshape(len(digits[0]), -1), np.eye(10)[digits[1]]
    x = np.hstack([x, np.ones((len(x), 1))])
    weight = np.linalg.solve(x.T @ x + 3 * np.eye(65), x.T @ y)
    layer = nn.Linear(64, 10)
    layer.weight.data, layer.bias.data = (torch.from_numpy(part).float() for part in (weight[:-1].T.copy(), weight[-1]))
    return {"undefended": trained_net, "robust": nn.Sequential(nn.Flatten(), layer)}


def shortened(monkeypatch, factor):
    """Every attack takes fewer steps by a factor, so that what they cost beside each other stays; DeepFool ends by itself."""
    monkeypatch.setattr(autoattack, "_STEPS", 100 // factor)
    monkeypatch.setattr(autoattack, "_QUERIES", 5000 // factor)
    fewer = {"pgd": 50 // factor, "fmn-linf": 70 // factor}
    shorter = [replace(each, max_iter=fewer.get(each.name, each.max_iter)) for each in battery._STANDARD[KEY]]
    monkeypatch.setitem(battery._STANDARD, KEY, tuple(shorter))


def standard(net, x, y, eps, monkeypatch):
    """Passes of the attacks of the battery, the outcome, and which images each attack was shown."""
    counter, found, shown = Counter(net), [], []
    attack_all, attack_piece = attacking.attack_all, pieces.attack_piece

    def counting(*arguments):
        before = counter.both
        outcome = attack_all(*arguments)
        found.extend([counter.both - before, outcome])
        return outcome

    def watching(classifier, piece):
        shown.append((piece.attack.name, piece.eps, piece.x[:]))
        return attack_piece(classifier, piece)

    with monkeypatch.context() as patch:
        patch.setattr(attacking, "attack_all", counting)
        patch.setattr(pieces, "attack_piece", watching)
        patch.setattr(Finds, "take", lambda *_: None)  # measures what was found, and is no cost of an attack
        advbench.evaluate(counter, (x, y), eps=eps, checks=1)
    return *found, shown


@pytest.mark.parametrize("kind", BOUNDS)
def test_the_battery_costs_little_more_than_autoattack(nets, kind, digits, monkeypatch):
    shortened(monkeypatch, 2)
    net, bounds = nets[kind], BOUNDS[kind]
    x, y = digits[2][:16], digits[3][:16]
    counter = Counter(net)
    classifier = estimators.classifier(counter, (1, 8, 8), 10, device="cpu")
    right = classifier.predict(x).argmax(1) == y
    counter.forwards, beaten = 0, {}
    for eps in bounds:
        beaten[eps] = attacks.create("autoattack", classifier, eps).beat(x[right], y[right])[1]
    alone = counter.both
    spent, outcome, _ = standard(net, x, y, bounds, monkeypatch)
    assert spent == sum(each.passes.sum() for each in outcome.attempts)
    cost = {(each.attack.label, each.eps): each.passes.sum() for each in outcome.attempts}
    parts = sum(passes for (label, _), passes in cost.items() if label in ("APGD-CE", "APGD-T", "FAB-T", "Square"))
    assert parts <= alone, cost
    # An image that withstands the smaller bound and falls at the larger one pays AutoAttack's 9,721 passes and 1,187 more;
    # one that withstands both pays less than AutoAttack twice, for one run of DeepFool, FMN and FAB-T counts at both.
    assert spent <= (1.1 if kind == "robust" else 1.13) * alone, cost
    for eps in bounds:  # and no image is left that AutoAttack beats
        assert not (beaten[eps] & ~(outcome.distance[right] <= eps)).any()
    assert 0 < np.mean(list(beaten.values())) < 1


def test_no_attack_sees_an_image_that_is_beaten(nets, digits, monkeypatch):
    shortened(monkeypatch, 10)
    x, y = digits[2][:24], digits[3][:24]
    _, outcome, shown = standard(nets["undefended"], x, y, (0.02, 0.1), monkeypatch)
    place = {image.tobytes(): i for i, image in enumerate(x)}
    known = {0.02: np.full(len(x), np.inf), 0.1: np.full(len(x), np.inf)}
    distances = {(each.attack.name, each.eps): each.distance for each in outcome.attempts}
    for name, eps, images in shown:
        seen = [place[image.tobytes()] for image in images]
        if eps is not None and name != "fgsm":  # one step, whose line of the table is read alone
            assert not (known[eps][seen] <= eps).any(), name
        once = (name, None) in distances
        distance = distances[name, None if once else eps]
        for bound in known:
            if once or bound >= eps:
                known[bound][seen] = np.minimum(known[bound], distance)[seen]
    assert {name for name, _, _ in shown} >= {"fgsm", "deepfool-linf", "apgd-ce", "pgd", "apgd-t", "fab-t"}
    assert [eps for name, eps, _ in shown if name == "fab-t"] == [0.02] * sum(name == "fab-t" for name, _, _ in shown)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fab_at_the_smallest_bound_is_fab_at_all(nets, digits, norm, monkeypatch):
    """One run that also keeps what lies beyond its bound beats at every larger one what a run at that one beats."""
    monkeypatch.setattr(autoattack, "_STEPS", 10)
    x, y = digits[2][:16], digits[3][:16]
    classifier = estimators.classifier(nets["undefended"], (1, 8, 8), 10, device="cpu")
    bounds = (0.02, 0.05, 0.1) if norm == "linf" else (0.1, 0.4, 0.8)
    options = {"norm": np.inf if norm == "linf" else 2, "components": ("fab-t",)}
    images, beaten = attacks.AutoAttack(classifier, eps=bounds[0], farther=True, **options).beat(x, y)
    size = np.linalg.norm((images - x).reshape(len(x), -1), np.inf if norm == "linf" else 2, axis=1)
    assert (classifier.predict(images).argmax(1) != y).tolist() == beaten.tolist()
    for eps in bounds:
        each = attacks.AutoAttack(classifier, eps=eps, **options).beat(x, y)[1]
        assert not (each & ~(beaten & (size <= eps * 1.0001))).any() and each.any()
    assert not attacks.AutoAttack(classifier, eps=bounds[0], **options).beat(x, y)[1].all()


def test_the_checks_cost_at_most_twice_what_the_attacks_of_fast_cost(nets, digits, monkeypatch):
    """The surrogate, which is another network and small, is not counted; 1,000 images make the share a tenth of this one."""
    counter, spent = Counter(nets["undefended"]), {"run_checks": 0, "attack_all": 0}

    def watched(module, name):
        function = getattr(module, name)

        def counting(*arguments):
            before, result = counter.both, function(*arguments)
            result = list(result) if name == "run_checks" else result
            spent[name] += counter.both - before
            return result

        monkeypatch.setattr(module, name, counting)

    watched(study, "run_checks")
    watched(attacking, "attack_all")
    advbench.evaluate(counter, (digits[2][:150], digits[3][:150]), eps=(0.03, 0.1), attacks="fast")
    assert 0 < spent["run_checks"] <= 2 * spent["attack_all"]
