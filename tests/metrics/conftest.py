"""What the tests of checks share."""

import numpy as np
import pytest
import torch
from conftest import around


@pytest.fixture(scope="module")
def rounded(trained_net):
    return around(trained_net, lambda x: torch.round(x * 15) / 15)


@pytest.fixture(scope="module")
def part(digits):
    return digits[2][:64], digits[3][:64]


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)  # ART's random starts
