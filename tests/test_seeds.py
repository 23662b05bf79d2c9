import random

import numpy as np
import pytest
import torch

from advbench.seeds import derive, own_global_state


def test_a_seed_follows_from_its_path_alone():
    assert derive(0, "a", 1) == derive(0, "a", 1) and 0 <= derive(0, "a", 1) < 2**63
    assert len({derive(seed, *path) for seed in (0, 1) for path in (("a",), ("a", 1), ("b",))}) == 6


def test_the_global_generators_are_seeded_inside_and_put_back_after_it():
    numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()
    python_before = random.getstate()
    drawn = []
    for _ in range(2):
        with own_global_state(2**62 + 1):
            drawn.append((random.random(), np.random.rand(), float(torch.rand(()))))
    assert drawn[0] == drawn[1]
    with pytest.raises(RuntimeError), own_global_state(3):
        np.random.rand()
        raise RuntimeError
    assert np.array_equal(numpy_before, np.random.get_state()[1])
    assert torch.equal(torch_before, torch.get_rng_state())
    assert random.getstate() == python_before


@pytest.mark.parametrize("seed", [0, 2**32, 2**64, 2**70, -1])
def test_a_seed_of_any_size_gives_the_same_draws_twice(seed):
    draws = []
    for _ in range(2):
        with own_global_state(seed):
            draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]
