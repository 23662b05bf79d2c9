import random
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from art.attacks.evasion import AutoProjectedGradientDescent, CarliniL2Method, UniversalPerturbation
from art.attacks.evasion import DeepFool as ArtDeepFool
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import PyTorchClassifier
from conftest import SHAPE, make_small_net
from torch import nn

from advbench import attacks, estimators, models
from advbench.device import resolve_device
from advbench.errors import UsageError


def stock(net):
    return PyTorchClassifier(net, nn.CrossEntropyLoss(), SHAPE, 10, clip_values=(0, 1))


def test_exact_gradients_are_arts_own_up_to_rounding(trained_net, classifier, digits):
    x, y = digits[2][:50], np.eye(10, dtype=np.float32)[digits[3][:50]]
    theirs = stock(trained_net).loss_gradient(x, y)
    np.testing.assert_allclose(classifier.loss_gradient(x, y), theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
    np.testing.assert_array_equal(classifier.predict(x), stock(trained_net).predict(x))


class Counted(nn.Module):
    """A network that keeps the sizes of its batches."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, x):
        self.sizes.append(len(x))
        return x.flatten(2).mean(2).repeat(1, 4)


@pytest.mark.parametrize("side, sizes", [(32, [20]), (224, [8, 8, 4]), (4096, [1] * 20)])
def test_large_images_are_computed_a_few_at_a_time(side, sizes):
    module = Counted()
    classifier = estimators.classifier(module, (1, side, side), 4, device="cpu")
    x = np.broadcast_to(np.float32(0.5), (20, 1, side, side))
    assert classifier.predict(x).shape == (20, 4) and module.sizes == sizes
    for name in ("pgd", "fgsm", "deepfool-l2", "autoattack"):
        assert min(20, attacks.create(name, classifier, 0.1).batch_size) == sizes[0]
    assert classifier.predict(x[:4], batch_size=3).shape == (4, 4) and module.sizes[-2:] == [3, 1]


def test_labels_may_be_indices_and_images_tensors(classifier, digits):
    x, y = digits[2][:20], digits[3][:20]
    one_hot = classifier.loss_gradient(x, np.eye(10, dtype=np.float32)[y])
    np.testing.assert_array_equal(classifier.loss_gradient(x, y), one_hot)
    tensor = classifier.loss_gradient(torch.from_numpy(x), torch.from_numpy(y))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), one_hot)


def test_gradients_leave_no_trace_in_the_parameters(classifier, digits):
    classifier.model.zero_grad(set_to_none=True)
    classifier.loss_gradient(digits[2][:4], digits[3][:4])
    assert all(parameter.grad is None for parameter in classifier.model.parameters())


def test_fast_gradients_agree_and_predictions_are_the_originals(trained_net, classifier, digits):
    x, y = digits[2], digits[3]
    fast = estimators.classifier(trained_net, SHAPE, 10, precision="fast", device="cpu")
    assert (np.sign(fast.loss_gradient(x, y)) == np.sign(classifier.loss_gradient(x, y))).mean() > 0.9
    np.testing.assert_array_equal(fast.predict(x), classifier.predict(x))
    accuracy = [
        (classifier.predict(attacks.create("bim", each, eps=0.05).generate(x, y)).argmax(1) == y).mean()
        for each in (classifier, fast)
    ]
    assert abs(accuracy[0] - accuracy[1]) < 0.01


def test_gradients_follow_the_model(digits):
    net = make_small_net()
    classifier = estimators.classifier(net, SHAPE, 10, device="cpu")
    x, y = digits[2][:8], digits[3][:8]
    before = classifier.loss_gradient(x, y)
    with torch.no_grad():
        net.head[2].weight.mul_(-1)
    np.testing.assert_allclose(
        classifier.loss_gradient(x, y), stock(net).loss_gradient(x, np.eye(10, dtype=np.float32)[y]), atol=1e-5
    )
    assert not np.allclose(classifier.loss_gradient(x, y), before)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("fused", [False, True])
def test_gradients_follow_every_step_of_an_optimizer(digits, kind, fused):
    """Fused steps do not raise PyTorch's count of changes."""
    net = make_small_net()
    classifier = estimators.classifier(net, SHAPE, 10, device="cpu")
    x, y = digits[2][:8], digits[3][:8]
    optimizer = kind(net.parameters(), 0.01, fused=fused)
    for _ in range(2):
        before = classifier.loss_gradient(x, y)
        nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
        after = classifier.loss_gradient(x, y)
        np.testing.assert_allclose(after, stock(net).loss_gradient(x, np.eye(10, dtype=np.float32)[y]), atol=1e-5)
        assert not np.allclose(after, before)


class Noisy(nn.Module):
    """A random defence: what reaches the network is another image each time."""

    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


@contextmanager
def batch_norms():
    """A list of the batch norms that PyTorch computes meanwhile."""
    computed, batch_norm = [], nn.functional.batch_norm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "batch_norm", lambda *a, **k: computed.append(1) or batch_norm(*a, **k))
        yield computed


def test_batch_norm_is_folded_into_convolutions_in_exact_and_in_fast(trained_net, digits):
    for precision in ("exact", "fast"):
        classifier = estimators.classifier(trained_net, SHAPE, 10, precision, device="cpu")
        with batch_norms() as computed:
            classifier.loss_gradient(digits[2][:4], digits[3][:4])
        assert not computed


def test_a_random_model_is_folded_too(digits):
    module = nn.Sequential(Noisy(), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10)).eval()
    classifier = estimators.classifier(module, SHAPE, 10, device="cpu")
    with batch_norms() as computed:
        gradients = [classifier.loss_gradient(digits[2][:4], digits[3][:4]) for _ in range(2)]
    assert not computed and not np.array_equal(*gradients)


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)

    def forward(self, x):
        x = self.bn(self.conv(x))
        return self.head(x.mean((2, 3)) if x.sum() > -1e9 else x.amax((2, 3)))


def test_a_model_with_a_forward_of_its_own_is_left_as_it_is(digits):
    net = Untraceable().eval()
    classifier = estimators.classifier(net, SHAPE, 10, device="cpu")
    x, y = digits[2][:8], np.eye(10, dtype=np.float32)[digits[3][:8]]
    with batch_norms() as computed:
        gradient = classifier.loss_gradient(x, y)
    assert computed
    np.testing.assert_allclose(gradient, stock(net).loss_gradient(x, y), atol=1e-5)


@pytest.mark.parametrize(
    "attack",
    [
        lambda c: ArtDeepFool(c, max_iter=10, verbose=False),
        lambda c: CarliniL2Method(c, max_iter=3, binary_search_steps=2, verbose=False),
        lambda c: AutoProjectedGradientDescent(c, eps=0.1, eps_step=0.05, max_iter=5, nb_random_init=1, verbose=False),
        lambda c: UniversalPerturbation(c, "deepfool", {"verbose": False}, max_iter=1, eps=0.3, verbose=False),
    ],
)
def test_it_passes_for_arts_own_in_arts_attacks(classifier, trained_net, digits, attack):
    x, y = digits[2][:16], digits[3][:16]
    found = []
    for estimator in (classifier, stock(trained_net)):
        np.random.seed(0)
        random.seed(0)  # the universal perturbation shuffles with it
        found.append(attack(estimator).generate(x, np.eye(10)[y]))
    np.testing.assert_allclose(*found, atol=1e-4)


def test_art_trains_and_clones_it(digits):
    net = make_small_net()
    wrapped = estimators.TorchClassifier(
        net, nn.CrossEntropyLoss(), SHAPE, 10, optimizer=torch.optim.Adam(net.parameters(), 0.01), precision="fast"
    )
    AdversarialTrainer(wrapped, attacks.create("fgsm", wrapped, eps=0.02)).fit(
        digits[0][:256], digits[1][:256], nb_epochs=2
    )
    clone = wrapped.clone_for_refitting()
    assert type(clone) is type(wrapped) and clone.precision == "fast"
    clone.fit(digits[0], digits[1], nb_epochs=3)
    assert (clone.predict(digits[2]).argmax(1) == digits[3]).mean() > 0.5


def test_a_model_file_comes_back_as_an_estimator(tmp_path):
    spec = models.ModelSpec("resnet32", classes=7)
    net = models.create(spec, seed=5)
    models.save(tmp_path / "models" / "classifier.safetensors", net, spec)
    loaded = estimators.load(tmp_path, device="cpu")
    x = np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32)
    np.testing.assert_array_equal(loaded.predict(x), net(torch.from_numpy(x)).detach().numpy())
    with pytest.raises(UsageError, match="no model at"):
        estimators.load(tmp_path, "other")
    (tmp_path / "models" / "page.safetensors").write_text("<html></html>")
    with pytest.raises(UsageError, match="not a model"):
        estimators.load(tmp_path, "page")


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cuda:x"])
def test_a_device_that_is_not_here_is_named(device):
    with pytest.raises(UsageError, match=f"device '{device}'.*allowed: auto, cpu"):
        resolve_device(device)


def test_an_unknown_precision_is_named(trained_net):
    with pytest.raises(ValueError, match="precision"):
        estimators.classifier(trained_net, SHAPE, 10, precision="half")


def test_bfloat16_gradients_agree_and_predictions_stay_float32(trained_net, classifier, digits, monkeypatch):
    from advbench import device

    monkeypatch.setattr(device, "has_bfloat16", lambda _: True)
    x, y = digits[2], digits[3]
    fast = estimators.classifier(trained_net, SHAPE, 10, precision="fast", device="cpu")
    half, whole = fast.loss_gradient(x, y), classifier.loss_gradient(x, y)
    assert half.dtype == np.float32
    assert not np.allclose(half, whole, rtol=1e-4)  # bfloat16 was really used
    assert (np.sign(half) == np.sign(whole)).mean() > 0.9
    np.testing.assert_array_equal(fast.predict(x), classifier.predict(x))


def test_arts_own_estimator_is_on_the_device_that_is_named(trained_net, digits):
    made = estimators.stock(trained_net.train(), SHAPE, 10, torch.device("cpu"))
    assert type(made) is PyTorchClassifier and made.device == torch.device("cpu") and not trained_net.training
    np.testing.assert_array_equal(made.predict(digits[2]), stock(trained_net).predict(digits[2]))
