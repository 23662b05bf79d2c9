"""The gradient is the model's own, whatever the model is and however it was changed; its memory format is not touched."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from art.estimators.classification import PyTorchClassifier
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils.checkpoint import checkpoint

from advbench import attacks, estimators, trainers
from advbench.estimators import fast, training_format, weights_read_once
from advbench.models.resnet import ResNet32

SHAPE = (3, 12, 12)
X = np.random.default_rng(0).random((6, *SHAPE), dtype=np.float32)
Y = np.arange(6)
ONE_HOT = np.eye(10, dtype=np.float32)[Y]


def plain(seed=0):
    """All layers are of known kinds, so that everything is computed here and batch norm is folded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"),
            nn.BatchNorm2d(8),
            nn.SiLU(),
            nn.Sequential(nn.Conv2d(8, 8, 3, groups=2, bias=False), nn.BatchNorm2d(8, affine=False), nn.Tanh()),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(200, 10),
        )
        net(torch.rand(16, *SHAPE))  # statistics that are not those of the beginning
    return net.eval()


def arts(module):
    return PyTorchClassifier(module, nn.CrossEntropyLoss(), SHAPE, 10, clip_values=(0, 1), device_type="cpu")


def ours(module, precision="exact"):
    return estimators.classifier(module, SHAPE, 10, precision, device="cpu")


def assert_is_the_models(classifier, module):
    wanted, found = arts(module).loss_gradient(X, ONE_HOT), classifier.loss_gradient(X, Y)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def _set(m):
    m[4] = nn.MaxPool2d(2)


def _statistics(m):
    m[1].running_var.data.mul_(9)


def _swapped(m):
    m[0].weight, m[0].bias = nn.Parameter(-m[0].weight.detach()), nn.Parameter(m[0].bias.detach() + 1)


def _storage(m):
    m[6].weight.untyped_storage().copy_(torch.randn_like(m[6].weight).untyped_storage())


def _state_dict(m):
    m.load_state_dict(plain(1).state_dict(), assign=True)


def _train_mode(m):
    m[1].momentum, m[1].track_running_stats = 0.9, False
    m[1].running_mean = m[1].running_var = None


def _layer_forward(m):
    m[2].forward = torch.cos


def _conv_forward(m):
    m[0]._conv_forward = lambda x, w, b: F.conv2d(x, -w, b, padding=1)


def _conv_hook(m):
    m[0].register_forward_hook(lambda layer, inputs, output: output.sin())  # between convolution and batch norm


def _inner_hook(m):
    m[3].register_forward_pre_hook(lambda layer, inputs: (inputs[0] * 3,))


def _kind(m):
    m[2].__class__ = nn.Softplus
    m[2].beta, m[2].threshold = 1.0, 20.0


def _pruned(m):
    prune.l1_unstructured(m[0], "weight", amount=0.5)


def _parametrised(m):
    parametrizations.weight_norm(m[3][0])
    m[3][0].parametrizations.weight.original0.data.mul_(2)


CHANGES = [
    *(_set, _statistics, _swapped, _storage, _state_dict, _train_mode, _layer_forward, _conv_forward, _conv_hook),
    *(_inner_hook, _kind, _pruned, _parametrised),
]


@pytest.mark.parametrize("change", CHANGES)
def test_gradients_see_every_change_of_the_model(change):
    module = plain()
    classifier = ours(module)
    assert_is_the_models(classifier, module)
    before = classifier.loss_gradient(X, Y)
    change(module)
    assert_is_the_models(classifier, module)
    assert np.abs(classifier.loss_gradient(X, Y) - before).max() > 1e-2 * np.abs(before).max()


def test_a_hook_on_all_modules_is_seen():
    module = plain()
    classifier = ours(module)
    double = lambda layer, inputs, output: 2 * output if isinstance(layer, nn.SiLU) else output  # noqa: E731
    handle = nn.modules.module.register_module_forward_hook(double)
    try:
        assert_is_the_models(classifier, module)
    finally:
        handle.remove()


@pytest.mark.parametrize(
    "owner, name", [(nn.Conv2d, "_conv_forward"), (nn.SiLU, "forward"), (nn.BatchNorm2d, "__call__"), (F, "linear")]
)
def test_what_is_replaced_for_all_modules_is_seen(owner, name, monkeypatch):
    module, usual = plain(), getattr(owner, name)
    classifier = ours(module)
    before = classifier.loss_gradient(X, Y)
    monkeypatch.setattr(owner, name, lambda *args: usual(*args).cosh())
    assert_is_the_models(classifier, module)
    assert np.abs(classifier.loss_gradient(X, Y) - before).max() > 1e-2 * np.abs(before).max()


class Own(torch.Tensor):
    """A weight that says how it is multiplied."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        found = super().__torch_function__(function, types, args, kwargs or {})
        return found.sin() if function in (F.linear, F.conv2d) else found


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_weights_of_other_kinds_of_tensors_are_the_models_own(precision):
    module = plain()
    for layer in (module[0], module[6]):
        layer.weight = nn.Parameter(layer.weight.detach().as_subclass(Own))
    assert_is_the_models(ours(module), module)
    sparse = nn.Sequential(nn.Flatten(), nn.Linear(432, 10)).eval()
    sparse[1].weight = nn.Parameter(F.threshold(sparse[1].weight.detach(), 0, 0).to_sparse_csr(), requires_grad=False)
    assert_is_the_models(ours(sparse, precision), sparse)


class Sharing(nn.Sequential):
    """A subclass with its own forward."""

    def forward(self, x):
        return -super().forward(1 - x)


class Views(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(400, 10)

    def forward(self, x):
        return self.head(self.bn(self.conv(x)).tanh().view(len(x), -1))


class Unfolds(Views):
    """Reads the strides of what it is given."""

    def forward(self, x):
        x = torch.as_strided(x, (len(x), 3, 12, 12), (432, 144, 12, 1))
        return super().forward(x)


class InPlace(Views):
    def forward(self, x):
        x.mul_(2).sub_(1).sin_()
        return super().forward(x)


class Squeezes(Views):
    def forward(self, x):
        return super().forward(x).squeeze()


class Half(Views):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


class Quiet(Views):
    """Its train() returns nothing, and it holds what cannot be copied."""

    def __init__(self):
        super().__init__()
        self.numbers = (n for n in range(3))

    def train(self, mode=True):
        super().train(mode)

    def get_extra_state(self):
        return "a note"

    def set_extra_state(self, state):
        pass


def behind_layers(kind):
    """A network of known layers around one with its own forward, which must get what it gets without us."""
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.SiLU(), kind()).eval()


KINDS = [Views, Unfolds, InPlace, Squeezes, Half, Quiet]


@pytest.mark.parametrize("precision", ["exact", "fast"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_forward_of_its_own_gets_what_it_always_gets(kind, precision, monkeypatch):
    from advbench import device

    monkeypatch.setattr(device, "has_bfloat16", lambda _: True)
    torch.manual_seed(0)
    for module in (kind(), behind_layers(kind)):
        module.eval()
        classifier = ours(module, precision)
        gradient = classifier.loss_gradient(X, Y)
        with torch.enable_grad():
            x = torch.from_numpy(X).clone().requires_grad_(True)
            F.cross_entropy(module(x.clone()).float(), torch.from_numpy(Y)).backward()
        wanted = x.grad.numpy()
        tolerance = 0.2 if precision == "fast" and isinstance(module, nn.Sequential) else 2e-2 if kind is Half else 1e-4
        np.testing.assert_allclose(gradient, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())
        one = classifier.loss_gradient(X[:1], Y[:1])  # a mean over one image
        np.testing.assert_allclose(one / len(X), gradient[:1], rtol=0, atol=max(tolerance, 1e-2) * np.abs(wanted).max())
        assert classifier.predict(X[:1]).shape == (1, 10) and np.isfinite(classifier.predict(X)).all()


@pytest.mark.parametrize("kind", [Views, Squeezes, Quiet])
@pytest.mark.parametrize("make", [arts, ours])
def test_our_attacks_run_on_models_that_view_and_squeeze(kind, make):
    torch.manual_seed(0)
    module = kind()
    module.eval()
    classifier = make(module)
    for attack in (
        attacks.DeepFool(classifier, max_iter=3),
        attacks.CarliniWagnerL2(classifier, max_iter=3),
        attacks.create("pgd", classifier, 0.1),
    ):
        assert np.isfinite(attack.generate(X)).all()


def test_a_softmax_is_never_in_bfloat16(monkeypatch):
    from advbench import device

    monkeypatch.setattr(device, "has_bfloat16", lambda _: True)
    seen = []

    class Probabilities(nn.Module):
        def forward(self, z):
            seen.append(z.dtype)
            return torch.exp(z - z.logsumexp(1, keepdim=True))

    for last in (nn.Softmax(1), Probabilities()):
        module = nn.Sequential(plain(), last).eval()
        last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
        ours(module, "fast").loss_gradient(X, Y)
    assert set(seen) == {torch.float32}


def test_a_recording_of_branches_is_never_made():
    class Member(nn.Module):
        def __init__(self):
            super().__init__()
            self.members, self.turn = nn.ModuleList([plain(i) for i in range(3)]), 0

        def forward(self, x):
            self.turn += 1
            return self.members[self.turn % 3](x)

    module = Member().eval()
    classifier = ours(module)
    found = []
    for _ in range(6):
        wanted = arts(module.members[(module.turn + 1) % 3]).loss_gradient(X, ONE_HOT)
        found.append(classifier.loss_gradient(X, Y))
        np.testing.assert_allclose(found[-1], wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    assert len({each.tobytes() for each in found}) == 3


class Checkpointed(nn.Module):
    """A reentrant checkpoint, which forbids ``torch.autograd.grad``, around half of a network."""

    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        return self.net[4:](checkpoint(self.net[:4], x, use_reentrant=True))


def test_torchscript_and_reentrant_checkpoints_have_their_own_gradient():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(plain()), torch.jit.trace(plain(), torch.rand(2, *SHAPE))
    for module in (*scripted, Checkpointed().eval()):
        wanted, found = arts(plain()).loss_gradient(X, ONE_HOT), ours(module).loss_gradient(X, Y)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("make", [arts, ours])
def test_attacks_and_trainers_pass_reentrant_checkpoints(make):
    own, other = make(Checkpointed().eval()), make(plain())
    for attack in (attacks.DeepFool, attacks.CarliniWagnerL2):
        found, wanted = (attack(classifier, max_iter=5).generate(X) for classifier in (own, other))
        assert np.abs(wanted - X).max() > 1e-3
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    trained = []
    for module in (Checkpointed().eval(), plain()):
        optimizer = torch.optim.SGD(module.parameters(), 0.1)
        classifier = estimators.classifier(module, SHAPE, 10, device="cpu", optimizer=optimizer)
        fgsm = attacks.create("fgsm", classifier, 0.1)
        trainers.MixedAdversarialTrainer(classifier, fgsm).fit(X, Y, nb_epochs=1, batch_size=6, seed=0)
        trained.append(torch.cat([parameter.detach().flatten() for parameter in module.parameters()]))
    torch.testing.assert_close(*trained, rtol=1e-4, atol=1e-5)
    assert torch.utils.checkpoint.CheckpointFunction.__name__ == "CheckpointFunction"


def test_the_gradient_reaches_no_weight_and_leaves_the_module_as_it_was():
    module = ResNet32().eval()
    state = {name: (tensor.clone(), tensor.stride()) for name, tensor in module.state_dict().items()}
    estimators.classifier(module, (3, 32, 32), 10, device="cpu").loss_gradient(
        np.zeros((2, 3, 32, 32), np.float32), Y[:2]
    )
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[name][0]) and tensor.stride() == state[name][1]


class Changes(nn.Module):
    """Changes the weights of another layer while it runs."""

    def __init__(self, other):
        super().__init__()
        self.others = [other]

    def forward(self, x):
        self.others[0].weight.data *= 1.5
        return x


@pytest.mark.parametrize("half", [False, True])
def test_weights_are_read_once_where_nothing_can_change_them_meanwhile(monkeypatch, half):
    folded = []
    monkeypatch.setattr(fast, "fuse_conv_bn_weights", lambda *given: folded.append(1) or fuse_conv_bn_weights(*given))
    net = ResNet32().eval()
    module, x = estimators.GradientModel(net), torch.rand(3, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16, enabled=half), torch.no_grad():
        wanted, norms = module(x), len(folded)
        with weights_read_once(net):
            assert all(torch.equal(module(x), wanted) for _ in range(3))
            assert len(folded) == 2 * norms > 0
        next(layer for layer in net.modules() if type(layer) is nn.Conv2d).weight.data.mul_(2)
        assert not torch.equal(module(x), wanted)


def test_weights_are_read_at_every_pass_where_a_layer_of_the_user_may_change_them():
    layer = nn.Conv2d(3, 4, 3)
    net = nn.Sequential(Changes(layer), layer, nn.Flatten(), nn.Linear(400, 10)).eval()
    module, x = estimators.GradientModel(net), torch.from_numpy(X)
    with torch.no_grad(), weights_read_once(net):
        first = module(x)
        assert not torch.allclose(module(x), first)


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (3, 4, 1, 1), (3, 1, 1, 8)])
@pytest.mark.parametrize("wanted", [torch.contiguous_format, torch.channels_last])
def test_a_format_has_its_strides_where_both_would_do(shape, wanted):
    n, c, h, w = shape
    for x in (torch.rand(shape), torch.rand(n, h, w, c).permute(0, 3, 1, 2)):
        found = estimators.in_format(x, wanted)
        assert torch.equal(found, x)
        assert found.stride() == torch.empty(shape).to(memory_format=wanted, copy=True).stride() or c == h * w == 1


@pytest.mark.parametrize("make, used", [(plain, torch.channels_last), (Views, torch.contiguous_format)])
def test_the_format_of_a_training_is_undone_even_after_an_error(make, used):
    module = make()
    strides = [tensor.stride() for tensor in module.state_dict().values()]
    with pytest.raises(KeyError), training_format(module) as memory_format:
        assert memory_format is used
        raise KeyError
    assert [tensor.stride() for tensor in module.state_dict().values()] == strides


def test_a_module_that_was_channels_last_stays_so():
    module = plain().to(memory_format=torch.channels_last)
    with training_format(module):
        pass
    assert module[3][0].weight.is_contiguous(memory_format=torch.channels_last)
    assert_is_the_models(ours(module), plain())


def test_a_sequential_subclass_is_predicted_and_differentiated_by_its_own_forward():
    module = Sharing(*plain()).eval()
    classifier = ours(module)
    with torch.no_grad():
        np.testing.assert_array_equal(classifier.predict(X), module(torch.from_numpy(X)).numpy())
    wrapped = nn.Sequential()
    wrapped.add_module("net", module)  # ART calls this child by its own forward
    assert_is_the_models(classifier, wrapped)
    stock = estimators.stock(module, SHAPE, 10, "cpu")
    np.testing.assert_array_equal(stock.predict(X), classifier.predict(X))
    hooked = plain()
    hooked.register_forward_hook(partial(lambda layer, inputs, output: -output))
    np.testing.assert_array_equal(ours(hooked).predict(X), -ours(plain()).predict(X))
