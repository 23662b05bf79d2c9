import torch

from advbench import models


def test_it_has_the_reports_parameters_and_taps():
    """416 + 32 + 12,832 + 64 + 15,690 parameters (report 004)."""
    net, x = models.create("cnn2"), torch.rand(2, 1, 28, 28)
    per_layer = [sum(p.numel() for p in m.parameters()) for m in net.modules() if not list(m.children())]
    assert [n for n in per_layer if n] == [416, 32, 12_832, 64, 15_690]
    shapes = [tuple(net.features(x, position).shape[1:]) for position in range(net.taps)]
    assert shapes == [(1, 28, 28), (16, 14, 14), (32, 7, 7)]
    assert net(x).shape == (2, 10)


def test_the_images_are_not_normalised():
    net, x = models.create("cnn2"), torch.rand(2, 1, 28, 28)
    assert torch.equal(net.stages[0][0](x), x)


def test_it_is_saved_and_loaded_whole(tmp_path):
    spec = models.ModelSpec("cnn2", (1, 28, 28), 10, (0.0,), (1.0,))
    net, x = models.create("cnn2", seed=3), torch.rand(2, 1, 28, 28)
    models.save(tmp_path / "net.safetensors", net, spec)
    again, read = models.load(tmp_path / "net.safetensors")
    assert read == spec and torch.equal(again(x), net(x))
