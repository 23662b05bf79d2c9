import pytest
import torch
from safetensors import SafetensorError

from advbench.checkpoint import Checkpoint, load_tensors, save_tensors

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}
META = {"shape": (1, 8, 8), "lr": 1e-3, "name": "x"}


def test_what_was_saved_is_loaded(tmp_path):
    save_tensors(tmp_path / "f", TENSORS, META)
    tensors, meta = load_tensors(tmp_path / "f")
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS) and set(tensors) == set(TENSORS)
    assert meta == {**META, "shape": [1, 8, 8]}


def test_equal_content_makes_equal_files(tmp_path):
    for i in range(20):
        save_tensors(tmp_path / str(i), TENSORS, META)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_any_flipped_bit_is_found(tmp_path):
    path = tmp_path / "f"
    save_tensors(path, TENSORS, META)
    content = path.read_bytes()
    missed = []
    for position in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                tensors, meta = load_tensors(path)
            except (ValueError, SafetensorError):
                continue
            same = set(tensors) == set(TENSORS) and all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
            if not same or meta != {**META, "shape": [1, 8, 8]}:
                missed.append((position, bit))
    assert not missed


def test_a_damaged_checkpoint_starts_the_training_again(tmp_path, caplog):
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    kept = Checkpoint(tmp_path / "c")
    kept.save(net, optimizer, {}, [{"epoch": 1}])
    assert Checkpoint(tmp_path / "c").restore(net, optimizer)[1] == [{"epoch": 1}]
    content = bytearray((tmp_path / "c").read_bytes())
    content[-1] ^= 1
    (tmp_path / "c").write_bytes(content)
    before = net.weight.detach().clone()
    assert kept.restore(net, optimizer) == ({}, [])
    assert torch.equal(net.weight, before) and "starts again" in caplog.text


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_goes_on_with_its_state_in_the_layout_of_the_weights(tmp_path, fused):
    def steps(net, optimizer, n):
        for i in range(n):
            optimizer.zero_grad()
            x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(i))
            net(x).square().mean().backward()
            optimizer.step()

    def fresh():
        torch.manual_seed(0)
        net = torch.nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
        return net, torch.optim.Adam(net.parameters(), 0.1, fused=fused)

    whole, optimizer = fresh()
    steps(whole, optimizer, 2)
    Checkpoint(tmp_path / "c").save(whole, optimizer, {}, [])
    resumed, again = fresh()
    Checkpoint(tmp_path / "c").restore(resumed, again)
    steps(whole, optimizer, 3)
    steps(resumed, again, 3)
    assert torch.equal(whole.weight, resumed.weight)
