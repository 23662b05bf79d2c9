"""Models that hide: random ones by expectation, steps without gradient by a stand-in, images as files hold them."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import Around
from torch import nn

import advbench
from advbench import estimators
from advbench.cli import main
from advbench.errors import UsageError
from advbench.evaluation import exhibits
from advbench.metrics import where

EPS = (8 / 255, 24 / 255)
QUICK = {"eps": EPS, "attacks": "pgd", "checks": 2}


def noisy(x, sigma=0.2):
    return x + sigma * torch.randn_like(x)


def resized(x):
    """One of three sizes for the whole batch, as in Xie et al. (2018)."""
    size = int(torch.randint(8, 11, ()))
    return nn.functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)


def rounded(x):
    return torch.round(x * 7) / 7


@pytest.fixture(scope="module")
def images(digits):
    return digits[2][:40], digits[3][:40]


def evaluated(net, images, change=None, **more):
    model = net if change is None else Around(net, change)
    return advbench.evaluate(model, images, **{**QUICK, **more})


def rows(result, **columns):
    return where(result._rows, **columns)


@pytest.mark.parametrize("change", [noisy, resized])
def test_a_random_model_is_found_and_its_figures_are_of_many_draws(trained_net, images, change):
    result = evaluated(trained_net, images, change)
    assert any("two predictions of the same images differ" in note for note in result.notes)
    assert "deterministic" in [check.name for check in result.checks if not check.passed]
    single = [figure.value for figure in result.one_draw.values()]
    # clean, against draws of our own: 40 images x 200 draws
    x, y = torch.from_numpy(images[0]), torch.from_numpy(images[1])
    torch.manual_seed(0)
    with torch.no_grad():
        right = torch.stack([Around(trained_net, change)(x).argmax(1) == y for _ in range(200)]).float()
    spread = rows(result, metric="one_draw_spread").iloc[0]
    error = 4 * spread.value / np.sqrt(10) + 0.005
    assert abs(single[0] - float(right.mean())) < error
    assert spread.ci_low <= single[0] <= spread.ci_high
    assert single[0] > single[1] > single[2]
    assert (
        "the model is random, and one draw is right on"
        in next(iter(exhibits.answer(result._rows.query("exhibit != 'check'")))).text
    )


def test_the_gradient_of_a_random_model_is_the_mean_over_draws(linear):
    """Of W (x + noise) the logits are random and the gradient of each is not: the mean gradient is W in closed form."""
    averaged = estimators.AveragedModel(Around(linear.model, lambda x: x * (1 + torch.randn(len(x), 1, 1, 1))), 4000)
    x = torch.full((1, 1, 8, 8), 0.5, requires_grad=True)
    torch.manual_seed(0)
    (gradient,) = torch.autograd.grad(averaged(x)[0, 0], x)
    weight = linear.model.layer.weight[0].view_as(x)
    np.testing.assert_allclose(gradient, weight.detach(), rtol=0.1)


def test_passes_of_a_random_model_are_counted_draw_by_draw(trained_net, images):
    random, plain = evaluated(trained_net, images, noisy, eps=8 / 255), evaluated(trained_net, images, eps=8 / 255)
    per_image = [rows(each, metric="backward_passes", attack="all").value.item() for each in (random, plain)]
    assert per_image[0] > 5 * per_image[1]


def test_an_honest_models_figures_are_as_they_were(trained_net, images):
    """Neither a stand-in nor the measurements of what was found change a model with a gradient."""
    plain = evaluated(trained_net, images)
    assert plain.per_image.equals(evaluated(trained_net, images, backward=lambda model, x: model(x)).per_image)
    assert plain.per_image.equals(evaluated(trained_net, images, backward="identity").per_image)
    assert not plain.one_draw


def test_a_stand_in_breaks_what_rounding_hides(trained_net, images):
    hidden = evaluated(trained_net, images, rounded, checks=12)
    seen = evaluated(trained_net, images, rounded, backward="identity", checks=12)
    given = evaluated(trained_net, images, rounded, backward=lambda model, x: model.net(x))
    plain = evaluated(trained_net, images).robust_accuracy[EPS[1]].value
    values = [each.robust_accuracy[EPS[1]].value for each in (hidden, seen, given)]
    assert values[0] > plain + 0.3 and max(values[1:]) < plain + 0.1
    assert len({each.clean_accuracy.value for each in (hidden, seen, given)}) == 1
    failed = [[check.name for check in each.checks if not check.passed] for each in (hidden, seen)]
    assert "gradients" in failed[0] and "gradients" not in failed[1]


STEPS = {
    "round": rounded,
    "in place": lambda x: (x * 7).round_() / 7,
    "floor": lambda x: torch.floor(x * 7) / 7,
    "floor division": lambda x: x * 255 // 32 * 32 / 255,
    "bytes": lambda x: (x * 255).byte().float() / 255,
    "uint8": lambda x: (x * 255).to(torch.uint8).to(torch.float32) / 255,
    "bits": lambda x: ((x * 255).int() & 0xF0).float() / 255,
    "threshold": lambda x: (x > 0.5).float(),
    "detach": lambda x: x.detach(),
    "data": lambda x: x.data,
}


class Numpy(nn.Module):
    def forward(self, x):
        return torch.from_numpy(np.round(x.detach().cpu().numpy() * 7) / 7)


class NoGrad(nn.Module):
    @torch.no_grad()
    def forward(self, x):
        return 0.9 * x


@pytest.mark.parametrize("step", [*STEPS, "NumPy", "no_grad"])
def test_the_identity_stands_in_for_every_step_and_the_outputs_stay(linear, images, step):
    """Behind the step is W x: forward to the bit, and the gradient is W, in closed form."""
    change = STEPS.get(step) or {"NumPy": Numpy(), "no_grad": NoGrad()}[step]
    model = Around(linear.model, change)
    made = estimators.BackwardModel(model, estimators.identity, "identity")
    x = torch.from_numpy(images[0][:4]).requires_grad_(True)
    outputs = made(x)
    with torch.no_grad():
        assert torch.equal(outputs, model(x)) and torch.equal(made(x), model(x))
    (gradient,) = torch.autograd.grad(outputs[:, 1].sum(), x)
    weight = linear.model.layer.weight[1].expand(4, -1)
    assert torch.nn.functional.cosine_similarity(gradient.flatten(1), weight).min() > 0.999


def inside(x):
    return torch.from_numpy(np.round(x.detach().numpy() * 7) / 7)


@pytest.mark.parametrize(
    "change, backward, said",
    [
        (inside, "identity", "no gradient reaches the images: .* --backward file.py:function"),
        (rounded, lambda model, x: model.net(x.detach()), "has a step without gradient of its own"),
        (rounded, lambda model, x: model.net(x)[:, :3], r"must return logits \(8, 10\) for .model, x., not \(8, 3\)"),
        (rounded, lambda model, x: model.nothing, "fails: AttributeError: .*nothing.*test_hiding.py"),
        (rounded, "nowhere.py:function", "no file nowhere.py"),
        (rounded, "function", "not of the form file.py:callable"),
        (rounded, 3, "is no function"),
    ],
)
def test_a_stand_in_that_does_not_fit_is_one_line(trained_net, images, change, backward, said):
    with pytest.raises(UsageError, match=said) as error:
        evaluated(trained_net, images, change, backward=backward)
    assert "\n" not in str(error.value)


FILE = """
import torch
from conftest import SmallNet

class Rounded(SmallNet):
    def forward(self, x):
        return super().forward(torch.round(x * 7) / 7)

def without(model, x):
    return SmallNet.forward(model, {})
"""


def test_the_command_takes_a_function_of_a_file_and_a_change_of_it_is_another_run(trained_net, images, tmp_path):
    torch.save(trained_net.state_dict(), tmp_path / "w.pt")
    np.savez(tmp_path / "digits.npz", x=images[0], y=images[1])
    net, own = tmp_path / "net.py", tmp_path / "own.py"
    net.write_text(FILE.format("x"))
    own.write_text(FILE.format("x"))
    words = f"evaluate {net}:Rounded --weights {tmp_path}/w.pt --data {tmp_path}/digits.npz --attacks pgd --checks 4 --eps 0.1"
    words = [*words.split(), "--backward", f"{own}:without", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    python = evaluated(trained_net, images, rounded, eps=0.1, backward=lambda model, x: model.net(x))
    assert advbench.Result(tmp_path / "run").robust_accuracy[0.1].value == python.robust_accuracy[0.1].value
    own.write_text(FILE.format("x + 0"))
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 2 and "choose another --out" in again.output


def test_the_row_of_8_bits_is_what_a_file_leaves(trained_net, images):
    """The images kept, written with Pillow's rounding and read again, are judged by the network itself."""
    result = evaluated(trained_net, images, attacks="deepfool-linf,pgd", keep_images=True)
    row = result.in_8_bits
    saved = np.round(np.asarray(result.adversarial) * 255).astype(np.uint8)
    with torch.no_grad():
        wrong = trained_net(torch.from_numpy(saved.astype(np.float32) / 255)).argmax(1).numpy() != images[1]
    for eps in EPS:
        beaten = result.per_image.distance.to_numpy() <= eps
        assert (~beaten).mean() <= row[eps].value <= (~(beaten & wrong)).mean()
    assert row[EPS[0]].value > row[EPS[1]].value


def test_an_attack_between_grey_levels_does_not_reach_a_file(images):
    """A network that is wrong only off the grid of 256 grey levels is beaten in float32 and never in a file."""

    class Off(nn.Module):
        def forward(self, x):
            levels = x * 255
            off = ((levels - torch.round(levels).detach()).abs().amax((1, 2, 3)) - 0.1)[:, None]
            right = torch.tensor([[1.0] + [0.0] * 9])
            return right * -off + right.roll(1, 1) * off

    x = np.rint(images[0] * 255) / 255
    result = advbench.evaluate(Off(), (x.astype(np.float32), np.zeros(40, int)), eps=0.05, attacks="pgd", checks=4)
    assert result.robust_accuracy[0.05].value == 0
    assert result.in_8_bits[0.05].value == 1
