import numpy as np
import pytest
import torch
from conftest import Linear, make_small_net

from advbench.errors import UsageError
from advbench.trainers import Schedule, train_classifier
from advbench.trainers.standard import cropped, random_crops


def test_the_papers_learning_rates():
    schedule = Schedule(epochs=100, lr=0.1, weight_decay=1e-4, milestones=(41, 61))
    rates = [schedule.rate(epoch + 0.5) for epoch in range(100)]
    np.testing.assert_allclose(rates, [0.1] * 41 + [0.01] * 20 + [0.001] * 39)
    assert schedule.of_length(10).milestones == (4, 6)


def test_one_cycle_climbs_to_the_peak_and_ends_at_zero():
    schedule = Schedule(epochs=10, lr=0.4, weight_decay=0, warmup=0.2)
    assert schedule.rate(0) == 0
    assert schedule.rate(2) == pytest.approx(0.4)
    assert schedule.rate(6) == pytest.approx(0.2)
    assert schedule.rate(10) == pytest.approx(0)


def test_sizes_follow_their_shares():
    schedule = Schedule(epochs=10, lr=1, weight_decay=0, sizes=((0.3, 16), (0.3, 24), (0.4, 0)))
    assert [schedule.size(epoch) for epoch in range(10)] == [16] * 3 + [24] * 3 + [0] * 4
    assert schedule.of_length(2).size(1) == 0


def test_augmented_images_are_shifted_and_flipped_copies():
    """Every augmented image is one of the 9 x 9 crops of the padded image or of its mirror image."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(1, 256, (12, 3, 8, 8), dtype=np.uint8))
    schedule, device = Schedule(1, 1, 0, batch_size=6), torch.device("cpu")
    first, second = random_crops(12, schedule, 0, torch.Generator().manual_seed(0))
    chosen = torch.cat([first.chosen, second.chosen])
    assert sorted(chosen.tolist()) == list(range(12))
    padded = torch.nn.functional.pad(x, (4, 4, 4, 4))
    images = torch.cat([cropped(padded, 4, crops, device) for crops in (first, second)])
    for image, index in zip(images, chosen, strict=True):
        found = False
        for source in (x[index], x[index].flip(2)):
            padded = torch.nn.functional.pad(source, (4, 4, 4, 4)).float() / 255
            windows = padded.unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).reshape(81, 3, 8, 8)
            found |= bool((windows == image).flatten(1).all(1).any())
        assert found


def test_the_best_validation_epoch_is_kept(digits):
    x, y = (digits[0] * 255).astype(np.uint8), digits[1]
    net = make_small_net()
    history = train_classifier(
        net, (x[:400], y[:400]), (x[400:600], y[400:600]), Schedule(6, 0.5, 0, batch_size=32, pad=1)
    )
    with torch.no_grad():
        accuracy = (net(torch.from_numpy(x[400:600]).float() / 255).argmax(1).numpy() == y[400:600]).mean()
    assert accuracy == pytest.approx(max(entry["validation_accuracy"] for entry in history))


def test_training_is_the_same_after_a_kill(digits, tmp_path, killed_after_two_epochs):
    x, y = (digits[0] * 255).astype(np.uint8), digits[1]

    def train(checkpoint=None):
        net = make_small_net()
        schedule = Schedule(4, 0.1, 1e-4, batch_size=64, nesterov=True)
        history = train_classifier(net, (x[:500], y[:500]), (x[500:700], y[500:700]), schedule, 7, "cpu", checkpoint)
        return net.state_dict(), [entry["loss"] for entry in history]

    whole, losses = train()
    with killed_after_two_epochs():
        train(tmp_path / "checkpoint")
    resumed, resumed_losses = train(tmp_path / "checkpoint")
    assert resumed_losses == losses
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_bfloat16_training_learns_and_leaves_float32_weights(digits, monkeypatch):
    from advbench import device

    monkeypatch.setattr(device, "has_bfloat16", lambda _: True)
    x, y = (digits[0] * 255).astype(np.uint8), digits[1]
    net = make_small_net()
    schedule = Schedule(8, 0.1, 1e-4, batch_size=64, pad=1, flip=False, bfloat16=True)
    history = train_classifier(net, (x[:1000], y[:1000]), (x[1000:], y[1000:]), schedule)
    assert max(entry["validation_accuracy"] for entry in history) > 0.7
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}


def test_two_devices_train_what_one_does(digits, tmp_path):
    """Two gloo processes at the same global batch, of a convex loss, which does not magnify rounding."""
    pytest.importorskip("lightning_fabric")
    x, y = (digits[0] * 255).astype(np.uint8), digits[1]

    def train(devices, checkpoint=None):
        net = Linear(10)
        schedule = Schedule(3, 0.01, 1e-4, batch_size=32, nesterov=True, pad=1, flip=False)
        history = train_classifier(
            net, (x[:320], y[:320]), (x[320:421], y[320:421]), schedule, 7, "cpu", checkpoint, devices
        )
        return net.state_dict(), history

    one, alone = train(1)
    two, together = train(2, tmp_path / "checkpoint")
    for a, b in zip(alone, together, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        assert abs(b["validation_accuracy"] - a["validation_accuracy"]) <= 1 / 101
    assert alone[-1]["loss"] < alone[0]["loss"] - 0.5
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-5)
    again, kept = train(2, tmp_path / "checkpoint")
    assert kept == together and all(torch.equal(again[name], two[name]) for name in two)


def test_a_batch_that_cannot_be_shared_is_refused(digits):
    x, y = (digits[0] * 255).astype(np.uint8), digits[1]
    with pytest.raises(UsageError, match="a batch of 25 cannot be shared equally by 2 devices"):
        train_classifier(make_small_net(), (x, y), (x, y), Schedule(1, 0.1, 0, batch_size=25), devices=2)
