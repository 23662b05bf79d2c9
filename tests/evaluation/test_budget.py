"""A cap on passes: counted at a network that counts its own images, whatever the attack and whoever wrote it."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import advbench
from advbench.errors import UsageError
from advbench.evaluation.battery import Own
from advbench.evaluation.budget import LOOKS, Budget
from advbench.evaluation.foreign import foreign


class Unbeaten(nn.Module):
    """Right about zeros whatever is done, with a gradient; counts the images that it sees."""

    def __init__(self):
        super().__init__()
        self.seen = 0
        self.weight = nn.Parameter(torch.linspace(-1, 1, 64))

    def forward(self, x):
        self.seen += len(x)
        score = (x.flatten(1) @ self.weight).tanh()[:, None]
        return torch.cat([5 + score, score, -score, 0 * score], 1)


DATA = np.random.default_rng(0).random((6, 1, 8, 8), np.float32), np.zeros(6, int)


@pytest.mark.parametrize("budget", [5, 60, 700])
@pytest.mark.parametrize(
    "attacks", ["fgsm,pgd,square", "standard", "pgd,torchattacks:PGD(steps=400)", "fmn-linf,art:BasicIterativeMethod"]
)
def test_no_image_costs_more_than_the_budget(budget, attacks):
    if "torchattacks" in attacks:
        pytest.importorskip("torchattacks")
    result = advbench.evaluate(
        Unbeaten(), DATA, eps=(0.02, 0.05), attacks=attacks, budget=budget, access="gradients", checks=1
    )
    cost = result._rows[(result._rows.exhibit == "cost") & (result._rows.attack == "all")].value.sum()
    assert 0 < cost <= budget + 1
    assert budget == 700 or any(f"--budget {budget}" in note for note in result.notes)
    assert result.robust_accuracy[0.05].value == 1


def test_an_attack_that_fits_is_not_touched_and_the_figures_stay(trained_net, digits):
    data = digits[2][:24], digits[3][:24]
    plain, capped = (
        advbench.evaluate(trained_net, data, eps=0.05, attacks="fgsm,pgd", checks=1, **more)
        for more in ({}, {"budget": 500})
    )
    assert plain.per_image.equals(capped.per_image) and plain.table.equals(capped.table)
    (chart,) = (plain.directory / "charts").glob("cost.vl.json")
    points = json.loads(chart.read_text())["datasets"]
    rows = [row for table in points.values() for row in table]
    total = plain._rows[(plain._rows.exhibit == "cost") & (plain._rows.attack == "all")].value.sum()
    worst = plain.robust_accuracy[0.05].value
    assert max(row["passes an image"] for row in rows) == pytest.approx(total)
    assert min(row["accuracy"] for row in rows) == pytest.approx(worst)


def fitted(attack, limit, spent=0.0):
    budget = Budget(limit, 3)
    budget.spent[:] = spent
    return budget.fitted(attack, np.ones(3, bool), "")


@pytest.mark.parametrize(
    "attack, limit, wanted",
    [
        (Own("pgd", "PGD-50, 10 restarts", 50, 10), 1000 + LOOKS, (50, 10)),
        (Own("pgd", "PGD-50, 10 restarts", 50, 10), 999, (50, 9)),
        (Own("pgd", "PGD-50, 10 restarts", 50, 10), 80 + LOOKS, (40, 1)),
        (Own("square", "Square"), 201 + LOOKS, (200, 1)),
        (Own("fmn-linf", "FMN"), 100 + LOOKS, (50, 1)),
        (Own("apgd-t", "APGD-T"), 1000, None),
        (Own("fgsm", "FGSM"), LOOKS + 1, None),
    ],
)
def test_an_attack_is_shortened_to_what_is_left(attack, limit, wanted):
    found = fitted(attack, limit)
    assert (found and (found.max_iter, found.restarts)) == wanted
    if found:
        assert found.passes <= limit - LOOKS
        assert fitted(attack, limit + 40, spent=40.0) == found


def test_what_an_image_has_spent_counts_and_who_is_beaten_spends_no_more():
    budget, pgd = Budget(100, 3), Own("pgd", max_iter=10)
    todo, beaten = np.array([True, True, False]), np.array([True, False, False])
    budget.charge(pgd, todo, beaten, 30.0)
    assert budget.spent.tolist() == [0, 20 + LOOKS, 0]
    assert budget.left(np.array([False, False, True])) == 100 and budget.left(todo) == 80 - LOOKS
    unknown = foreign("art:SquareAttack", "linf")
    assert budget.fitted(unknown, todo, "") is unknown
    budget.charge(unknown, todo, beaten, 200.0)
    assert budget.left(todo) < 0 and budget.fitted(unknown, todo, "") is None


def test_a_budget_that_allows_no_attack_is_one_line(trained_net, digits):
    with pytest.raises(UsageError, match="--budget 1: no attack in linf fits"):
        advbench.evaluate(trained_net, (digits[2][:4], digits[3][:4]), eps=0.1, attacks="fast", checks=1, budget=1)
