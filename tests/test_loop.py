import numpy as np
import pytest
import torch

from advbench.loop import batches, train_in_epochs


def test_epochs_of_a_part_walk_through_every_image_once_a_pass():
    """Four epochs of 15 out of 20 images are three whole passes, each in another order."""
    walk = torch.cat([b for epoch in range(4) for b in batches(20, 5, epoch, 15, seed=1)]).reshape(3, 20)
    assert [sorted(one.tolist()) for one in walk] == [list(range(20))] * 3
    assert not torch.equal(walk[0], walk[1])


def test_an_epoch_is_the_same_whatever_came_before_it():
    first, again, other = (torch.cat(list(batches(50, 10, 3, None, seed))) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_last_smaller_batch_is_left_out():
    assert [len(b) for b in batches(23, 10, 0, None, 0)] == [10, 10]
    assert [len(b) for b in batches(7, 10, 0, None, 0)] == [7]
    assert np.all([len(b) == 4 for b in batches(3, 4, 0, 9, 0)])


@pytest.mark.parametrize("arguments, named", [((0, 0, None), "batch_size"), ((5, 0, 0), "epoch_images")])
def test_the_wrong_argument_is_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        list(batches(10, *arguments, seed=0))


def test_the_learning_rate_is_that_of_the_time_in_epochs_at_every_step():
    module = torch.nn.Linear(1, 1)
    optimizer, seen = torch.optim.SGD(module.parameters(), 9.0), []

    def step(chosen):
        seen.append(optimizer.param_groups[0]["lr"])
        return {"loss": torch.zeros(())}

    train_in_epochs(
        "a line",
        module,
        optimizer,
        2,
        lambda epoch: batches(20, 5, epoch, None, 0),
        step,
        dict,
        None,
        lambda t: 1 - t / 2,
    )
    assert seen == [1 - i / 8 for i in range(8)]


def test_the_weights_of_the_best_epoch_stay_and_the_global_generators_are_seeded(tmp_path):
    module, figures = torch.nn.Linear(1, 1), iter([0.1, 0.9, 0.9, 0.3])
    optimizer, draws = torch.optim.SGD(module.parameters(), 1.0), []
    state = torch.get_rng_state()

    def step(chosen):
        assert module.training
        with torch.no_grad():
            module.bias += 1
        draws.append(float(torch.rand(())))
        return {"loss": torch.zeros(())}

    def evaluate():
        assert not module.training
        return {"figure": next(figures)}

    torch.nn.init.zeros_(module.bias)  # so that a sum in float32 is exact
    one_batch = lambda epoch: [torch.arange(2)]  # noqa: E731
    options = {"best": "figure", "global_seed": lambda epoch: epoch % 2}
    train_in_epochs("a line", module, optimizer, 4, one_batch, step, evaluate, tmp_path / "c", **options)
    assert module.bias.item() == 2  # of two equal ones the earlier
    assert draws[:2] == draws[2:] and draws[0] != draws[1] and torch.equal(state, torch.get_rng_state())
    resumed = torch.nn.Linear(1, 1)
    train_in_epochs("a line", resumed, optimizer, 4, one_batch, step, evaluate, tmp_path / "c", **options)
    assert torch.equal(resumed.bias, module.bias) and len(draws) == 4
