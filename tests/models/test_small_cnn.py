import torch

from advbench import models


def test_it_has_the_reports_parameters_and_taps():
    """456 + 2,416 + 48,120 + 10,164 + 850 parameters (report 003)."""
    net, x = models.create("small-cnn"), torch.rand(2, 3, 32, 32)
    per_layer = [sum(p.numel() for p in m.parameters()) for m in net.modules() if not list(m.children())]
    assert [n for n in per_layer if n] == [456, 2416, 48_120, 10_164, 850]
    assert sum(p.numel() for p in net.parameters()) == 62_006
    shapes = [tuple(net.features(x, position).shape[1:]) for position in range(net.taps)]
    assert shapes == [(3, 32, 32), (6, 14, 14), (16, 5, 5)]
    assert net(x).shape == (2, 10)


def test_the_images_are_not_normalised():
    net, x = models.create("small-cnn"), torch.rand(2, 3, 32, 32)
    assert torch.equal(net.stages[0][0](x), x)
