"""The bracket: proven at least, attacked down to at most."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import advbench
from advbench import estimators, models
from advbench.data.find import Images
from advbench.evaluation import certifying
from advbench.evaluation.options import Options
from advbench.evaluation.subject import Subject
from advbench.metrics import interval


def evaluated(model, digits, **more):
    return advbench.evaluate(
        model, (digits[2][:48], digits[3][:48]), **{"eps": (0.002, 0.1), "attacks": "fgsm,pgd", "checks": 1, **more}
    )


def test_what_is_proven_is_below_what_the_attacks_left(trained_net, digits):
    result = evaluated(trained_net, digits)
    assert list(result.certified) == [0.002, 0.1]
    for eps, figure in result.certified.items():
        assert figure.value <= result.robust_accuracy[eps].value
    assert result.certified[0.002].value > 0 and result.certified[0.1].value == 0
    exhibits = (result.directory / "exhibits.json").read_text()
    assert "proven at least" in exhibits and "attacked down to at most" in exhibits and "interval bounds" in exhibits


def test_a_network_of_known_constant_is_bounded_by_it(digits):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = models.create(models.ModelSpec("lipschitz", (1, 8, 8), 10, (0.0,), (1.0,)), 0).eval()
    net.settle()
    with torch.no_grad():
        y = net(torch.from_numpy(digits[2][:48])).argmax(1).numpy()
    result = advbench.evaluate(net, (digits[2][:48], y), norm="l2", eps=0.001, attacks="pgd-l2", checks=1)
    rows = result._rows[result._rows.exhibit == "certified"].set_index("variant")
    logits = net(torch.from_numpy(digits[2][:48])).detach().numpy()
    ordered = np.sort(logits, 1)
    radius = (ordered[:, -1] - ordered[:, -2]) / (np.sqrt(2) * net.lipschitz_bound())
    assert rows.value[certifying.LIPSCHITZ] == (radius > 0.001).mean() > 0
    assert result.certified[0.001].value == rows.value.max()


class Unknown(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x) + 0


def test_for_a_network_without_bounds_nothing_is_said(trained_net, digits):
    result = evaluated(Unknown(trained_net), digits, eps=0.002)
    assert result.certified == {} and "proven" not in (result.directory / "exhibits.json").read_text()


def test_a_proof_that_an_attack_refutes_ends_the_evaluation(trained_net, digits, monkeypatch):
    monkeypatch.setattr(certifying, "certified", lambda module, x, y, eps: np.ones(len(x), bool))
    with pytest.raises(ValueError, match="images are proven right by interval bounds and beaten all the same"):
        evaluated(trained_net, digits, eps=0.1)


def test_only_what_no_attack_beat_is_proven_and_a_few_witnesses(trained_net, digits, monkeypatch):
    """The share is that of a proof of every image, at every bound."""
    x, y, bounds = digits[2][:100], digits[3][:100], (0.002, 0.01, 0.1)
    tried = []

    def certified(module, x, y, eps):
        tried.append((eps, len(x)))
        return interval.certified(module, x, y, eps)

    monkeypatch.setattr(certifying, "certified", certified)
    monkeypatch.setattr(certifying, "_WITNESSES", 5)
    result = advbench.evaluate(trained_net, (x, y), eps=bounds, attacks="fgsm,pgd", checks=1)
    share = {eps: interval.certified(trained_net, x, y, eps).mean() for eps in bounds}
    assert {eps: figure.value for eps, figure in result.certified.items()} == pytest.approx(share)
    assert share[0.002] > share[0.01] > 0
    counts = {eps: sum(n for each, n in tried if each == eps) for eps in bounds}
    assert counts[0.1] <= round(100 * share[0.01]) + 5 and counts[0.01] <= round(100 * share[0.002]) + 5


class Sign(nn.Module):
    """Class 1 where the first pixel is above one half, by a linear margin: smoothing has a closed form."""

    def forward(self, x):
        score = x[:, 0, 0, 0] - 0.5
        return torch.stack([-score, score], 1)


def test_smoothing_certifies_the_distance_to_a_plane():
    """Under noise a linear classifier is right with probability Phi(d / sigma): its certified radius is d, its distance."""
    sigma, distance = 0.25, np.linspace(0.02, 0.4, 40)
    x = np.full((40, 1, 2, 2), 0.5, np.float32)
    x[:, 0, 0, 0] += distance.astype(np.float32)
    y = np.ones(40, int)
    classifier = estimators.classifier(
        estimators.AveragedModel(estimators.SmoothedModel(Sign().eval(), sigma)), (1, 2, 2), 2, device="cpu"
    )
    options = Options.parse(model="m", data="d", norm="l2", eps="0.1,0.2", checks=40)
    subject = Subject(classifier, Images("d", x, y, 2), options, 0, norm="l2")
    outcome = SimpleNamespace(norm="l2", bounds=subject.eps, distance=np.full(40, np.inf))
    rows = list(certifying.certified_rows(outcome, subject))
    assert [row["variant"] for row in rows] == [certifying.SMOOTHING] * 2 and rows[0]["n"] == 40
    for row in rows:
        # the estimate of 1,000 draws lies below the truth, by at most about 0.04
        assert (distance > row["eps"] + 0.06).mean() <= row["value"] <= (distance > row["eps"]).mean()
