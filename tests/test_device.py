import pytest
import torch
import torch.nn.functional as F
from torch import nn

from advbench import device

CPU = torch.device("cpu")
PROBABILITIES = {
    "layer": nn.Softmax(1),
    "function": lambda z: F.softmax(z, dim=1),
    "method": lambda z: z.softmax(-1),
    "keyword": lambda z: torch.softmax(input=z, dim=1),
    "logarithm": nn.LogSoftmax(1),
    "sigmoid": torch.sigmoid,
    "by hand": lambda z: z.exp() / z.exp().sum(1, keepdim=True),
}


@pytest.mark.parametrize("kind", PROBABILITIES)
def test_fast_never_computes_probabilities_in_bfloat16(kind, monkeypatch):
    """Between two numbers of bfloat16 near 1 lies 0.004: gradients behind them vanish."""
    monkeypatch.setattr(device, "has_bfloat16", lambda _: True)
    torch.manual_seed(0)
    net = nn.Linear(20, 4)
    with torch.no_grad():
        net.weight *= 15
    x = torch.rand(64, 20, requires_grad=True)
    with device.bfloat16(CPU):
        logits = net(x)
        outputs = PROBABILITIES[kind](logits)
    assert logits.dtype is torch.bfloat16 and outputs.dtype is torch.float32
    torch.testing.assert_close(outputs, PROBABILITIES[kind](logits.float()), rtol=1e-5, atol=1e-7)


def test_nothing_is_changed_where_bfloat16_is_not_wanted_or_not_there(monkeypatch):
    x = torch.rand(3, 4)
    with device.bfloat16(CPU, wanted=False):
        assert nn.Linear(4, 2)(x).dtype is torch.float32
    monkeypatch.setattr(device, "has_bfloat16", lambda _: False)
    with device.bfloat16(CPU):
        assert nn.Linear(4, 2)(x).dtype is torch.float32
