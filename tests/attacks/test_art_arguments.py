"""ART's arguments reach our attacks and trainers, or are refused in one line."""

import re

import art.attacks.evasion as art_attacks
import numpy as np
import pytest
import torch
from art.defences.postprocessor import HighConfidence, ReverseSigmoid, Rounded
from art.defences.preprocessor import FeatureSqueezing, SpatialSmoothing
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from conftest import SHAPE, Linear, make_small_net
from torch import nn

from advbench import attacks, estimators, metrics
from advbench.attacks.fgsm import FGSM
from advbench.attacks.pgd import PGD
from advbench.detectors import SubnetworkDetector
from advbench.trainers import AlternatingTrainer, StaticAdversarialTrainer, WeightedAdversarialTrainer, train_with_adam


class Gamma(PreprocessorPyTorch):
    """x ** 1.5, differentiable."""

    def __init__(self):
        super().__init__(is_fitted=True, apply_fit=False, apply_predict=True)

    def forward(self, x, y=None):
        return (x + 1e-3) ** 1.5, y


def arts(module, **options):
    options = {"clip_values": (0, 1), **options}
    return PyTorchClassifier(module, nn.CrossEntropyLoss(), SHAPE, 10, device_type="cpu", **options)


def ours(module, **options):
    options = {"clip_values": (0, 1), **options}
    return estimators.TorchClassifier(module, nn.CrossEntropyLoss(), SHAPE, 10, device_type="cpu", **options)


@pytest.mark.parametrize("make", [arts, ours])
@pytest.mark.parametrize("defence", [Rounded(decimals=1), HighConfidence(), ReverseSigmoid()])
@pytest.mark.parametrize("kind", [attacks.DeepFool, attacks.CarliniWagnerL2, attacks.AutoAttack])
def test_a_postprocessing_that_our_attacks_would_leave_out_is_refused(kind, make, defence, trained_net):
    with pytest.raises(ValueError, match=f"{kind.__name__} follows .* {type(defence).__name__} changes them"):
        kind(make(trained_net, postprocessing_defences=defence))


@pytest.mark.parametrize("make", [arts, ours])
@pytest.mark.parametrize(
    "options",
    [
        {"preprocessing": (0.4, 0.5)},
        {"preprocessing": (np.full((1, 1, 1), 0.4, np.float32), np.full((1, 1, 1), 0.5, np.float32))},
        {"preprocessing_defences": [Gamma()]},
        {"preprocessing_defences": [SpatialSmoothing(3, channels_first=True)]},
    ],
)
def test_our_attacks_follow_the_preprocessing_that_predict_has(make, options, trained_net, digits):
    x, y = digits[2][:12], digits[3][:12]
    classifier = make(trained_net, **options)
    right = classifier.predict(x).argmax(1) == y
    for attack in (
        attacks.DeepFool(classifier),
        attacks.CarliniWagnerL2(classifier, max_iter=60, learning_rate=0.05),
        attacks.create("pgd", classifier, 0.3),
    ):
        robust = (classifier.predict(attack.generate(x, y)).argmax(1) == y) & right
        assert robust.mean() <= 0.25, type(attack)
    gradient = classifier.loss_gradient(x, np.eye(10, dtype=np.float32)[y])
    wanted = arts(trained_net, **options).loss_gradient(x, np.eye(10, dtype=np.float32)[y])
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    "attack", [attacks.DeepFool, attacks.CarliniWagnerL2, attacks.AutoAttack], ids=lambda attack: attack.__name__
)
def test_what_an_attack_would_not_follow_is_refused(attack, trained_net, digits):
    x, y = digits[2][:2], digits[3][:2]
    with pytest.raises(ValueError, match=f"{attack.__name__} takes no mask"):
        attack(arts(trained_net)).generate(x, y, mask=np.ones_like(x))
    with pytest.raises(ValueError, match=r"images in \[0, 1\], and clip_values are 0..255"):
        attack(arts(trained_net, clip_values=(0, 255)))
    with pytest.raises(ValueError, match=r"clip_values are 0..0.5"):
        attack(arts(trained_net, clip_values=(np.zeros(SHAPE), np.full(SHAPE, 0.5))))
    table = PyTorchClassifier(nn.Linear(13, 4), nn.CrossEntropyLoss(), (13,), 4, device_type="cpu")
    with pytest.raises(ValueError, match=r"images \(C, H, W\), not for inputs of shape \(13,\)"):
        attack(table)


@pytest.mark.parametrize("name", ["fgsm", "bim", "bim-l2", "pgd", "pgd-l1", "deepfool-linf", "fmn-linf"])
def test_labels_are_taken_in_every_form_of_art_and_checked(name, classifier, digits):
    """ART takes the label -1 for the last class, and ends in an IndexError where an index is too large."""
    x, y = digits[2][:6], digits[3][:6]
    steps = {} if attacks.ATTACKS[name].max_iter is None else {"max_iter": 3}
    attack = attacks.create(name, classifier, 0.1 if attacks.ATTACKS[name].bounded else None, **steps)

    def made(labels):
        np.random.seed(0)
        return attack.generate(x, labels)

    for form in (y.tolist(), y[:, None], y.astype(np.float32), np.eye(10)[y], np.eye(10, dtype=np.float32)[y].tolist()):
        np.testing.assert_array_equal(made(form), made(y))
    for wrong, said in (
        (y - 10, r"y must lie in 0\.\.9"),
        (y + 10, r"y must lie in 0\.\.9"),
        (y[:4], "6 labels"),
        (y + 0.5, "whole"),
    ):
        with pytest.raises(ValueError, match=said):
            made(wrong)
    if hasattr(attack, "beat"):
        with pytest.raises(ValueError, match=r"y must lie in 0\.\.9"):
            attack.beat(x, y - 10)


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd-l2"])
def test_behind_preprocessing_in_numpy_arguments_are_checked_as_well(name, trained_net, digits):
    attack = attacks.create(name, ours(trained_net, preprocessing_defences=SpatialSmoothing()), 0.1)
    x, y = digits[2][:4], digits[3][:4]
    assert (attack.generate(x, y) != x).any()
    for given, said in (
        ((x * 255, y), "divide by 255"),
        ((x, y - 10), r"y must lie in 0\.\.9"),
        ((x, y[:2]), "4 labels"),
    ):
        with pytest.raises(ValueError, match=said):
            attack.generate(*given)
    with pytest.raises(ValueError, match="takes no maks"):
        attack.generate(x, y, maks=x)
    mask = np.zeros(SHAPE, np.float32)
    mask[..., :4] = 1
    np.testing.assert_array_equal(attack.generate(x, y, mask=mask)[..., 4:], x[..., 4:])


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd-l2"])
def test_a_mask_is_broadcast_and_what_is_no_mask_is_refused(name, classifier, digits):
    x, y = digits[2][:4], digits[3][:4]
    attack = attacks.create(name, classifier, 0.3)
    whole = np.zeros_like(x)
    whole[..., :4] = 1

    def made(mask):
        np.random.seed(0)
        return attack.generate(x, y, mask=mask)

    wanted = made(whole)
    assert (wanted[..., 4:] == x[..., 4:]).all() and (wanted != x).any()
    for mask in (whole[:1], whole[0], whole[0, 0, :1], whole[0, 0, 0], whole.astype(bool), whole[0].tolist()):
        np.testing.assert_array_equal(made(mask), wanted)
    with pytest.raises(
        ValueError, match=r"mask must have the shape of the images \(4, 1, 8, 8\) or of one, not \(3,\)"
    ):
        made(np.ones(3))
    with pytest.raises(ValueError, match="takes no maks"):
        attack.generate(x, y, maks=whole)


@pytest.mark.parametrize("attack", [attacks.DeepFool, attacks.CarliniWagnerL2])
def test_a_model_of_one_output_is_refused(attack, digits):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    classifier = PyTorchClassifier(module, nn.BCEWithLogitsLoss(), SHAPE, 2, clip_values=(0, 1), device_type="cpu")
    with pytest.raises(ValueError, match=re.escape("2 classes and returns 1 outputs; where z is the only one")):
        attack(classifier).generate(digits[2][:2])


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.MSELoss, nn.MultiMarginLoss])
def test_labels_have_the_form_that_the_loss_takes(loss, digits):
    x, y = digits[2][:10], digits[3][:10]
    net = make_small_net()
    made = estimators.classifier(net, SHAPE, 10, device="cpu", loss=loss())
    wanted = PyTorchClassifier(net, loss(), SHAPE, 10, device_type="cpu").loss_gradient(
        x, np.eye(10, dtype=np.float32)[y]
    )
    for labels in (y, y.astype(np.int32), np.eye(10, dtype=np.float32)[y]):
        np.testing.assert_allclose(made.loss_gradient(x, labels), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_one_logit_of_two_classes_has_its_gradient(digits):
    """ART's own estimator raises here: its labels lack the dimension of the output."""
    x, y = digits[2][:6], np.array([0, 1, 1, 0, 1, 0])
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    made = estimators.TorchClassifier(module, nn.BCEWithLogitsLoss(), SHAPE, 2, device_type="cpu")
    images = torch.from_numpy(x).requires_grad_(True)
    nn.functional.softplus((1 - 2 * torch.from_numpy(y)) * module(images)[:, 0]).mean().backward()
    for labels in (y, np.eye(2, dtype=np.float32)[y], y[:, None].astype(np.float32)):
        np.testing.assert_allclose(made.loss_gradient(x, labels), images.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_arguments_and_defaults_are_arts(trained_net, digits):
    positional = (trained_net, nn.CrossEntropyLoss(), SHAPE, 10, None, False, "O1", "dynamic", True, (0.2, 0.8))
    made = estimators.TorchClassifier(*positional)
    np.testing.assert_allclose(made.clip_values, (0.2, 0.8))
    default = estimators.TorchClassifier(*positional[:4])
    assert default.clip_values is None and "mean=0.0, std=1.0" in repr(default)
    whole = (digits[2][:4] * 255).astype(np.uint8)
    np.testing.assert_allclose(default.predict(whole), arts(trained_net).predict(whole), rtol=1e-5)
    table = estimators.TorchClassifier(nn.Linear(13, 4), nn.CrossEntropyLoss(), (13,), 4, device_type="cpu")
    x = np.random.default_rng(0).random((5, 13))
    assert table.loss_gradient(x, np.arange(5) % 4).shape == table.predict(x).shape[:1] + (13,)
    art_attacks.ProjectedGradientDescent(table, eps=0.1, max_iter=2, verbose=False).generate(x.astype(np.float32))


def test_trainers_and_detectors_refuse_preprocessing_that_they_would_leave_out():
    def make():
        net = make_small_net()
        return arts(net, optimizer=torch.optim.SGD(net.parameters(), 0.1), preprocessing=(0.5, 0.5))

    x, y = np.zeros((2, *SHAPE), np.float32), np.arange(2)
    for refused in (
        lambda: train_with_adam(make(), x, y),
        lambda: StaticAdversarialTrainer(make()),
        lambda: WeightedAdversarialTrainer(make(), [], (1.0,)),
        lambda: SubnetworkDetector(make(), 1),
        lambda: AlternatingTrainer(one := make(), attacks.GANAttack(one, width=4)),
    ):
        with pytest.raises(
            ValueError, match="without ART preprocessing .StandardisationMeanStdPyTorch.; make it a layer"
        ):
            refused()


EPS = 5e-4  # within which a half of the interior images have their boundary


class Difference(nn.Module):
    """One output of two: the second logit less the first, or its sigmoid."""

    def __init__(self, two, as_probability):
        super().__init__()
        self.two, self.as_probability = two, as_probability

    def forward(self, x):
        z = self.two(x)
        z = (z[:, 1] - z[:, 0])[:, None]
        return z.sigmoid() if self.as_probability else z


def steps(kind, classifier, **options):
    more = {"eps_step": EPS / 4, "max_iter": 4, "verbose": False} if kind is PGD else {}
    return kind(classifier, **{"eps": EPS, **more, **options})


@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss, nn.BCELoss])
@pytest.mark.parametrize("labels", ["indices", "column", "one-hot", "none"])
def test_one_output_is_attacked_and_judged_as_its_two_logits(loss, labels, interior):
    two = Linear(2).eval()
    pair = estimators.classifier(two, SHAPE, 2, device="cpu")
    one = estimators.TorchClassifier(
        Difference(two, loss is nn.BCELoss), loss(), SHAPE, 2, clip_values=(0, 1), device_type="cpu"
    )
    y = pair.predict(interior).argmax(1)
    given = {"indices": y, "column": y[:, None], "one-hot": np.eye(2)[y], "none": None}[labels]
    for kind in (PGD, FGSM):
        wanted = steps(kind, pair).generate(interior, y)
        np.testing.assert_allclose(steps(kind, one).generate(interior, given), wanted, atol=1e-6)
    adversarial, beaten = steps(PGD, one).beat(interior, given)
    np.testing.assert_array_equal(beaten, pair.predict(adversarial).argmax(1) != y)
    assert 0 < beaten.sum() < len(y)
    if given is not None and labels != "column":
        *_, left = metrics.still_correct(one, [steps(PGD, one)], interior, given)
        np.testing.assert_array_equal(left, ~beaten)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("options", [{}, {"targeted": True}, {"mask": np.arange(13) % 2}, {"num_random_init": 2}])
@pytest.mark.parametrize(
    "kind, theirs", [(PGD, art_attacks.ProjectedGradientDescentPyTorch), (FGSM, art_attacks.FastGradientMethod)]
)
def test_rows_of_a_table_are_attacked_as_by_art(kind, theirs, norm, options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 4))
    table = PyTorchClassifier(net, nn.CrossEntropyLoss(), (13,), 4, clip_values=(0, 2), device_type="cpu")
    ours = estimators.TorchClassifier(net, nn.CrossEntropyLoss(), (13,), 4, clip_values=(0, 2), device_type="cpu")
    x = np.random.default_rng(0).random((9, 13), np.float32)
    y, made = np.arange(9) % 4, []
    mask = {name: value.astype(np.float32) for name, value in options.items() if name == "mask"}
    given = {name: value for name, value in options.items() if name != "mask"}
    for attack, classifier in ((kind, ours), (theirs, table)):
        np.random.seed(0)
        more = {"eps_step": 0.05, "max_iter": 3, "verbose": False} if kind is PGD else {}
        made.append(attack(classifier, norm=norm, eps=0.2, **more, **given).generate(x, y, **mask))
    size = np.linalg.norm(made[0] - x, norm, axis=1)
    assert size.max() <= 0.2 + 1e-5
    if "num_random_init" in options and norm != 1:  # of several starts ours keeps the best for each row
        assert size.max() > 0.1
    else:
        np.testing.assert_allclose(made[0], made[1], atol=1e-6)


def test_a_defence_of_art_that_returns_float64_computes_in_the_models_type(trained_net, digits):
    x = digits[2][:6]
    squeezed = (np.rint(x * 7) / 7).astype(np.float32)
    made = ours(trained_net, preprocessing_defences=FeatureSqueezing((0, 1), 3))
    wanted = ours(trained_net).predict(squeezed)
    np.testing.assert_allclose(made.predict(x), wanted, rtol=1e-4, atol=1e-4)
