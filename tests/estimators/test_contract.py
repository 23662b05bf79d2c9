import re
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import SHAPE, Answer, Linear
from torch import nn
from torch.utils.checkpoint import checkpoint

from advbench import attacks
from advbench.data.find import Images
from advbench.data.pixels import Pixels
from advbench.errors import UsageError
from advbench.estimators import contract
from advbench.estimators.adapters import InteriorModel
from advbench.evaluation.subject import unchanged
from advbench.metrics.binarization import binarization_test

CPU = torch.device("cpu")


def test_weights_without_values_are_refused(pictures):
    with pytest.raises(UsageError, match="weights without values, on the device 'meta'"):
        contract.classifier(Linear().to("meta"), pictures, CPU)


def test_lazy_layers_without_weights_are_refused(pictures):
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(4)).eval()
    with pytest.raises(UsageError, match="lazy layers without weights"), unchanged(model):
        contract.classifier(model, pictures, CPU)
    model(torch.from_numpy(pictures.x[:1]))
    contract.classifier(model, pictures, CPU)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda z: z.softmax(1), "returns probabilities .*return the logits before it"),
        (lambda z: (z, z), "returns a tuple of 2, not logits"),
        (lambda z: {"scores": z}, "returns a dict of 1, not logits"),
        (lambda z: {"logits": (z, z)}, "returns a dict of 1, not logits"),
        (lambda z: OrderedDict(logits=z[:, :, None]), r"must return logits \(32, classes\) .* found \(32, 4, 1\)"),
        (lambda z: z * float("nan"), "NaN or infinity for 32 of 32 images"),
        (lambda z: z[:, :1], "one number an image"),
        (lambda z: z[:, :, None], r"must return logits \(32, classes\) for 32 images, found \(32, 4, 1\)"),
        (lambda z: z.T, r"must return logits \(32, classes\) for 32 images, found \(4, 32\)"),
        (lambda z: z[:, :3], r"labels go up to 3 and the model has 3 outputs, 0\.\.2"),
        (lambda z: z.to("meta"), "images on cpu and answers on meta; take .to"),
        (lambda z: torch.complex(z, z), "returns complex numbers"),
        (lambda z: z @ torch.ones(5, 5), r"does not take images of shape \(1, 8, 8\) on cpu .*--shape C,H,W.*: .*mat1"),
    ],
)
def test_an_answer_that_is_no_logits_is_one_line(pictures, change, said):
    with pytest.raises(UsageError, match=said) as error:
        contract.classifier(Answer(change).eval(), pictures, CPU)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("answer", [dict, SimpleNamespace])
def test_logits_by_name_are_evaluated(pictures, answer):
    """As models of Hugging Face return them, beside a loss or hidden features."""
    plain = Linear().eval()
    named = Answer(lambda z: answer(loss=None, logits=z)).eval()
    (usual, _), (found, notes) = (contract.classifier(model, pictures, CPU) for model in (plain, named))
    assert notes == [f"the model returns more than logits ({answer.__name__}): its field 'logits' is evaluated"]
    x = pictures.x[:]
    assert np.array_equal(found.predict(x), usual.predict(x))
    gradients = (model.loss_gradient(x, pictures.y) for model in (found, usual))
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-7)


def test_labels_from_one_and_classes_of_another_data_set_are_named(pictures):
    with pytest.raises(UsageError, match="labels run from 1 to 4 .*subtract 1 from y"):
        contract.classifier(Linear().eval(), Images("p", pictures.x, pictures.y + 1), CPU)
    with pytest.raises(UsageError, match="4 outputs and p 3 classes.*--labels"):
        contract.classifier(Linear().eval(), Images("p", pictures.x, pictures.y % 3, classes=3), CPU)


def test_train_mode_and_other_types_are_handled_and_reported(pictures):
    _, notes = contract.classifier(Linear().double().train(), pictures, CPU)
    assert [note.split(":")[0] for note in notes] == ["the model was in float64", "the model was in train mode"]


def test_weights_made_in_inference_mode_are_copied_for_the_gradient_and_given_back(pictures):
    with torch.inference_mode():
        model = nn.Sequential(nn.BatchNorm2d(1), Linear().double()).eval()
    usual = nn.Sequential(nn.BatchNorm2d(1), Linear().double()).eval()
    usual.load_state_dict(model.state_dict())
    before = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    gradients = []
    for each in (model, usual):
        with unchanged(each):
            estimator, notes = contract.classifier(each, pictures, CPU)
            gradients.append(estimator.loss_gradient(pictures.x[:], pictures.y))
        assert any("inference_mode" in note for note in notes) == (each is model)
    np.testing.assert_array_equal(*gradients)
    assert gradients[0].any()
    after = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert all(after[name] is tensor for name, tensor in before.items())


def test_a_model_that_refuses_eval_mode_is_named(pictures):
    class Stubborn(Linear):
        def train(self, mode=True):
            return super().train(True)

    with pytest.raises(UsageError, match=r"stays in train mode after eval\(\) \(Stubborn\)"):
        contract.classifier(Stubborn(), pictures, CPU)


def test_a_random_model_is_the_mean_of_its_draws(pictures):
    torch.manual_seed(0)
    estimator, notes = contract.classifier(Answer(lambda z: z + torch.randn_like(z)).eval(), pictures, CPU)
    assert "mean of 10 draws" in notes[0]
    single = Answer(lambda z: z + torch.randn_like(z)).eval()(torch.from_numpy(pictures.x[:])).detach().numpy()
    wanted = Linear()(torch.from_numpy(pictures.x[:])).detach().numpy()
    averaged = np.abs(estimator.predict(pictures.x[:]) - wanted).mean()
    assert averaged < np.abs(single - wanted).mean() / 2  # sqrt(10) times nearer


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_small_draw_makes_a_model_random_and_a_rounding_does_not_whatever_the_scale(pictures, scale):
    def drawn(share):
        return Answer(lambda z: scale * (z + share * torch.rand_like(z))).eval()

    _, of_a_draw = contract.classifier(drawn(0.01), pictures, CPU)
    _, of_a_rounding = contract.classifier(drawn(1e-7), pictures, CPU)
    assert "mean of 10 draws" in of_a_draw[0] and of_a_rounding == []


def test_a_model_that_looks_at_the_whole_batch_is_not_random(pictures):
    _, notes = contract.classifier(Answer(lambda z: z - z.mean(0)).eval(), pictures, CPU)
    assert notes == []


@pytest.mark.parametrize("cut", [lambda z: z.detach(), lambda z: torch.tensor(z.detach().numpy())])
def test_a_model_without_gradient_gets_the_gradient_zero_and_says_so(pictures, cut):
    estimator, notes = contract.classifier(Answer(cut).eval(), pictures, CPU)
    assert notes[0].startswith("NO GRADIENT")
    assert not estimator.loss_gradient(pictures.x[:], pictures.y).any()
    np.testing.assert_array_equal(
        estimator.predict(pictures.x[:]).argmax(1), Linear()(torch.from_numpy(pictures.x[:])).argmax(1)
    )


def black_and_white(interior):
    """Images of which a third of the pixels are 0 and a third 1."""
    third = np.random.default_rng(0).integers(0, 3, interior.shape)
    return np.where(third == 2, interior, third).astype(np.float32)


@pytest.mark.parametrize(
    "cut",
    [
        lambda x: x.clamp(0, 1),
        lambda x: x.clamp(min=0).clamp(max=1),
        lambda x: torch.nn.functional.hardtanh(x, 0, 1),
        lambda x: 1 - torch.relu(1 - torch.relu(x)),
        lambda x: ((x - 0.5) / 0.25).clamp(-2, 2) * 0.25 + 0.5,
        lambda x: torch.cat([x, x[:0]]).clip(0, 1),
        torch.relu,
        lambda x: x.clamp(max=1),
    ],
)
@pytest.mark.parametrize("where", ["everywhere", "in the attack alone"])
def test_pixels_at_the_ends_have_the_gradient_that_a_clamp_takes_from_them(interior, cut, where):
    x, y = black_and_white(interior), np.arange(32) % 4
    images = Images("pictures", Pixels(x if where == "everywhere" else interior), y)
    estimator, notes = contract.classifier(Answer(before=cut).eval(), images, CPU)
    plain, none = contract.classifier(Linear().eval(), images, CPU)
    assert len(notes) == 1 and "0 or 1 is lost" in notes[0] and none == []
    np.testing.assert_allclose(estimator.loss_gradient(x, y), plain.loss_gradient(x, y), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(estimator.predict(x), Answer(before=cut)(torch.from_numpy(x)).detach().numpy())


@pytest.mark.parametrize("cut", [lambda x: x, lambda x: x.clamp(-1, 2), lambda x: x.sigmoid(), lambda x: x**2])
def test_a_gradient_that_is_not_lost_at_the_ends_is_the_models_own(interior, cut):
    """That of a square is 0 at 0, just inside nearly so, and kept at 1."""
    images = Images("pictures", Pixels(black_and_white(interior)), np.arange(32) % 4)
    module = Answer(before=cut).eval()
    estimator, notes = contract.classifier(module, images, CPU)
    assert notes == [] and not [part for part in estimator.model.modules() if isinstance(part, InteriorModel)]


class Enabled(nn.Module):
    """A model that differentiates while it predicts, as some purifying defences do, on its own thread or not."""

    def __init__(self, threaded):
        super().__init__()
        self.net, self.threaded = Linear(), threaded

    def forward(self, x):
        def answer():
            with torch.enable_grad():
                z = x if x.requires_grad else x.detach().requires_grad_(True)
                (gradient,) = torch.autograd.grad(self.net(z).sum(), z, create_graph=True)
                return self.net(z + 0.1 * gradient) - 6

        if not self.threaded:
            return answer()
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(answer).result()


@pytest.mark.parametrize("threaded", [False, True])
def test_a_model_that_switches_gradients_on_is_predicted_and_differentiated(pictures, threaded):
    x, y, module = pictures.x[:], pictures.y, Enabled(threaded).eval()
    estimator, notes = contract.classifier(module, pictures, CPU)
    assert notes == []
    np.testing.assert_allclose(estimator.predict(x), module(torch.from_numpy(x)).detach().numpy(), rtol=1e-5)
    assert estimator.loss_gradient(x, y).any(axis=(1, 2, 3)).all()


class OtherForGradients(nn.Module):
    """A model that knows when it is attacked."""

    def __init__(self, is_attacked):
        super().__init__()
        self.net, self.is_attacked = Linear(), is_attacked

    def forward(self, x):
        return self.net(1 - x if self.is_attacked(x) else x)


@pytest.mark.parametrize(
    "is_attacked", [lambda x: torch.is_grad_enabled(), lambda x: x.requires_grad, lambda x: x.grad_fn is not None]
)
def test_a_model_that_computes_something_else_for_gradients_has_none(pictures, is_attacked):
    estimator, notes = contract.classifier(OtherForGradients(is_attacked).eval(), pictures, CPU)
    assert len(notes) == 1 and "NO GRADIENT" in notes[0] and "returns other outputs" in notes[0]
    assert not estimator.loss_gradient(pictures.x[:], pictures.y).any()
    wanted = Linear()(torch.from_numpy(pictures.x[:])).detach().numpy()
    np.testing.assert_array_equal(estimator.predict(pictures.x[:]), wanted)


@pytest.mark.parametrize(
    "mean, std, said",
    [
        ((124.0,), (58.0,), r"--mean is of images in \[0, 1\], found 124; divide by 255"),
        ((0.5, 0.5), (0.5,), r"--mean must have one number a channel \(3\), found 2"),
        ((0.5,), (0.0,), "--std must be greater than 0"),
        ((-0.5,), (0.5,), "--mean is of images in .0, 1., found -0.5$"),
    ],
)
def test_a_wrong_normalisation_is_named(mean, std, said):
    with pytest.raises(UsageError, match=said):
        contract.normalised(nn.Identity(), mean, std, 3)


def test_normalisation_is_in_front_of_the_model():
    x = torch.rand(2, *SHAPE)
    torch.testing.assert_close(contract.normalised(nn.Identity(), (0.25,), (0.5,), 1)(x), (x - 0.25) / 0.5)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda z: torch.tensor(z.numpy() * 1.0), "NO GRADIENT reaches the images .Can't call numpy"),
        (lambda z: z.squeeze(), None),
        (lambda z: z.double(), None),
        (lambda z: z.to(torch.bfloat16), None),
        (lambda z: checkpoint(torch.sin, z, use_reentrant=True), None),
        (lambda z: z.mul_(2), None),
    ],
)
def test_unusual_models_are_evaluated_as_they_are(interior, change, said):
    module = Answer(change).eval()
    for n in (8, 1):
        images = Images("pictures", Pixels(interior[:n]), np.arange(n) % 4)
        estimator, notes = contract.classifier(module, images, CPU)
        assert len(notes) == (said is not None) and all(re.search(said, note) for note in notes)
        with torch.no_grad():
            wanted = module(torch.from_numpy(images.x[:])).reshape(n, 4)
        np.testing.assert_array_equal(estimator.predict(images.x[:]), wanted.float().numpy())
        moved = np.abs(estimator.loss_gradient(images.x[:], images.y)).max()
        assert (moved == 0) == bool(said and "NO" in said)
        assert attacks.create("deepfool-l2", estimator, max_iter=2).generate(images.x[:]).shape == images.x[:].shape


class CastsItself(Linear):
    """Weights in half precision, and a forward that converts its images."""

    def forward(self, x):
        return super().forward(x.to(self.layer.weight.dtype)).float()


def test_a_model_that_takes_the_images_in_its_own_precision_stays_in_it(pictures):
    module = CastsItself().bfloat16().eval()
    _, notes = contract.classifier(module, pictures, CPU)
    assert notes == [] and module.layer.weight.dtype is torch.bfloat16


def test_images_are_not_changed_by_a_model_that_writes_on_them(pictures):
    class Writes(Linear):
        def forward(self, x):
            return super().forward(x.sub_(0.5).mul_(3))

    before = pictures.x[:].copy()
    estimator, notes = contract.classifier(Writes().eval(), pictures, CPU)
    np.testing.assert_array_equal(pictures.x[:], before)
    assert notes == [] and np.abs(estimator.loss_gradient(before, pictures.y)).max() > 0


@pytest.mark.parametrize("nested", [False, True])
def test_compiled_models_are_evaluated(pictures, nested):
    compiled = torch.compile(Linear().eval(), backend="aot_eager")
    module = nn.Sequential(compiled).eval() if nested else compiled
    estimator, notes = contract.classifier(module, pictures, CPU)
    plain, _ = contract.classifier(Linear().eval(), pictures, CPU)
    np.testing.assert_allclose(
        *(each.loss_gradient(pictures.x[:], pictures.y) for each in (estimator, plain)), rtol=1e-4, atol=1e-6
    )
    assert notes == []
    attacks.create("deepfool-l2", estimator, max_iter=2).generate(pictures.x[:4])


def _exported(module):
    batch = {0: torch.export.Dim.DYNAMIC}
    return torch.export.export(module.eval(), (torch.rand(2, *SHAPE),), dynamic_shapes=(batch,)).module()


def _without_gradients(z):
    torch.set_grad_enabled(False)
    return z


def _in_double(z):
    torch.set_default_dtype(torch.float64)
    return z


@pytest.mark.parametrize(
    "make", [lambda: _exported(Linear()), lambda: Answer(_without_gradients), lambda: Answer(_in_double)]
)
def test_programs_and_models_that_switch_the_whole_process_have_their_own_figures(pictures, make):
    torch.manual_seed(0)
    estimator, notes = contract.classifier(make(), pictures, CPU)
    torch.manual_seed(0)
    plain, _ = contract.classifier(Linear().eval(), pictures, CPU)
    assert not any("GRADIENT" in note for note in notes)
    x, y = pictures.x[:], pictures.y
    np.testing.assert_allclose(estimator.predict(x), plain.predict(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(estimator.loss_gradient(x, y), plain.loss_gradient(x, y), rtol=1e-4, atol=1e-7)
    for classifier in (estimator, plain):
        attack = attacks.create("deepfool-l2", classifier, max_iter=3).generate(x, y)
        binarization_test(
            classifier, lambda c, eps, steps: attacks.create("pgd", c, eps, max_iter=steps), x[:1], 0.1, "linf", 0
        )
    assert np.isfinite(attack).all()
    assert torch.is_grad_enabled() and torch.get_default_dtype() is torch.float32
