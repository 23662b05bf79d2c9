import numpy as np
import pyautoattack
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from conftest import SHAPE, Linear
from torch import nn

from advbench import attacks, estimators, metrics
from advbench.attacks import AutoAttack, autoattack
from advbench.attacks.autoattack import COMPONENTS
from advbench.errors import UsageError

EPS = 0.1


@pytest.fixture
def short(monkeypatch):
    """Fewer steps and queries, here and in the authors' code."""
    monkeypatch.setattr(autoattack, "_STEPS", 30)
    monkeypatch.setattr(autoattack, "_QUERIES", 300)


def test_it_beats_pgd_within_its_bound_and_is_reproducible(classifier, digits, short):
    x, y = digits[2][:12], digits[3][:12]
    state = np.random.get_state()[1].copy()
    attack = attacks.create("autoattack", classifier, EPS)
    adversarial = attack.generate(x, y)
    assert adversarial.dtype == np.float32 and adversarial.min() >= 0 and adversarial.max() <= 1
    assert np.abs(adversarial - x).max() <= EPS + 1e-6
    assert np.array_equal(adversarial, attack.generate(x, y))
    assert np.array_equal(state, np.random.get_state()[1])
    pgd = ProjectedGradientDescent(classifier, np.inf, EPS, EPS / 4, max_iter=20, verbose=False).generate(x, y)
    left = [(classifier.predict(images).argmax(1) == y).mean() for images in (adversarial, pgd)]
    assert left[0] <= left[1]


def by_the_authors(classifier, x, y, norm, eps, name):
    """What the authors' code leaves of images that are right, and its passes forward and back."""
    count = {"forward": 0, "backward": 0}
    module = estimators.whole_model(classifier)

    def back(gradient):
        count["backward"] += len(gradient)

    def model(x):
        out = module(x)
        count["forward"] += len(out)
        if out.requires_grad:
            out.register_hook(back)
        return out

    alone = pyautoattack.AutoAttack(model, eps=eps, norm=norm, seed=0, device="cpu", version="custom", attacks=[name])
    alone.apgd.n_restarts = alone.fab.n_restarts = 1  # as in version "standard"
    alone.square.n_queries = autoattack._QUERIES
    options = {"norm": norm, "eps": eps, "seed": 0, "device": "cpu", "logger": alone.logger}
    if norm == "L1":
        options["use_largereps"] = True
    for each in (alone.apgd, alone.apgd_targeted):  # what the constructor derives from the number of steps
        each.__init__(model, n_iter=autoattack._STEPS, **options)
    if norm == "L1":
        alone.apgd.n_restarts = alone.apgd_targeted.n_target_classes = 5
    alone.fab.n_iter = autoattack._STEPS
    _, predicted = alone.run_standard_evaluation(torch.from_numpy(x), torch.from_numpy(y))
    return predicted.numpy() == y, count


@pytest.mark.parametrize("gradients", ["model", "exact", "fast"])
@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("norm, eps", [("Linf", 0.07), ("L2", 0.4), ("L1", 1.4)])
def test_a_component_leaves_no_more_than_the_authors_code(
    trained_net, digits, norm, eps, name, gradients, short, monkeypatch
):
    """With the model's own gradients it leaves the same images for fewer passes; rounding changes how Square wanders."""
    if gradients == "model":
        monkeypatch.setattr(autoattack, "gradient_module", estimators.whole_model)
    precision = "fast" if gradients == "fast" else "exact"
    classifier = estimators.classifier(trained_net, SHAPE, 10, precision, device="cpu")
    x, y = digits[2][:16], digits[3][:16]
    x, y = (array[classifier.predict(x).argmax(1) == y] for array in (x, y))
    order = {"Linf": np.inf, "L2": 2, "L1": 1}[norm]
    attack = AutoAttack(classifier, order, eps, components=(name,))
    with metrics.counted(classifier) as passes:
        adversarial, beaten = attack.beat(x, y)
    left, theirs = by_the_authors(classifier, x, y, norm, eps, name)
    assert (~beaten).sum() <= left.sum() < len(x)
    if gradients == "model":
        np.testing.assert_array_equal(~beaten, left)
        assert passes.forward < theirs["forward"] and passes.backward <= theirs["backward"]
    np.testing.assert_array_equal(classifier.predict(adversarial).argmax(1) != y, beaten)
    np.testing.assert_array_equal(attack.beaten[name], beaten)
    size = np.linalg.norm((adversarial - x).reshape(len(x), -1), order, axis=1)
    assert size.max() <= eps * (1 + 1e-5) and (size[~beaten] == 0).all()


def test_each_component_beats_what_those_before_it_left(classifier, digits, caplog, short):
    x, y = digits[2][:24], (digits[3][:24] + (np.arange(24) < 5)) % 10
    attack = AutoAttack(classifier, eps=0.07, batch_size=16)
    adversarial, beaten = attack.beat(x, y)
    wrong = classifier.predict(x).argmax(1) != y
    assert list(attack.beaten) == list(COMPONENTS) and wrong[:5].all()
    parts = np.stack([wrong, *attack.beaten.values()])
    assert (parts.sum(0) <= 1).all()
    np.testing.assert_array_equal(parts.any(0), beaten)
    np.testing.assert_array_equal(adversarial[wrong], x[wrong])
    assert attack.beaten["apgd-ce"].sum() > 3 and "Square" not in caplog.text
    left, (_, last) = ~wrong, (attack, beaten)
    for name in COMPONENTS:  # one after the other by themselves
        alone = AutoAttack(classifier, eps=0.07, batch_size=16, components=(name,))
        found = alone.beat(x[left], y[left])[1]
        np.testing.assert_array_equal(found, attack.beaten[name][left])
        left[np.flatnonzero(left)[found]] = False
    np.testing.assert_array_equal(~left, last)


@pytest.mark.parametrize("name", COMPONENTS)
def test_what_the_model_does_not_confirm_is_not_beaten_and_goes_on(trained_net, digits, monkeypatch, name, short):
    classifier = estimators.classifier(trained_net, SHAPE, 10, device="cpu")
    x, y = digits[2][:3], digits[3][:3]
    clean = classifier.predict(x)
    monkeypatch.setattr(classifier, "predict", lambda x, **options: clean[np.arange(len(x)) % 3])
    y = clean[:1].argmax(1).repeat(1)  # one image, about which the model never errs
    attack = AutoAttack(classifier, eps=0.5, components=(name,))
    with metrics.counted(classifier) as passes:
        adversarial, beaten = attack.beat(x[:1], y)
    assert not beaten.any() and (adversarial == x[:1]).all()
    whole = {"apgd-ce": 31, "apgd-t": 9 * 31, "fab-t": 9 * 60, "square": 301}[name]
    assert passes.forward == 1 + whole


def test_a_gradient_path_that_is_not_the_model_is_not_taken(trained_net, digits, monkeypatch):
    classifier = estimators.classifier(trained_net, SHAPE, 10, device="cpu")
    x, y = digits[2][:12], digits[3][:12]
    wanted = AutoAttack(classifier, eps=0.06, components=("apgd-ce",)).beat(x, y)[1]
    another = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    monkeypatch.setattr(autoattack, "gradient_module", lambda estimator: another)
    np.testing.assert_array_equal(AutoAttack(classifier, eps=0.06, components=("apgd-ce",)).beat(x, y)[1], wanted)


def test_a_random_model_is_judged_once_for_each_component(trained_net, digits, monkeypatch, caplog):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = trained_net

        def forward(self, x):
            return self.net(x + 0.3 * torch.randn_like(x))

    random = estimators.classifier(Noisy(), SHAPE, 10, device="cpu")
    shown, predict = [], type(random).predict
    monkeypatch.setattr(
        random, "predict", lambda x, **options: (shown.append(len(x)), predict(random, x, **options))[1]
    )
    attack = AutoAttack(random, eps=1e-4, components=("apgd-ce", "apgd-t"))
    attack.beat(digits[2][:24], digits[3][:24])
    assert len(shown) <= 3 and "the model is random" in caplog.text
    assert 0 < attack.beaten["apgd-ce"].sum() < 24


class Times(nn.Module):
    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x):
        return self.factor * self.net(x)


@pytest.mark.parametrize("norm, eps", [(np.inf, 0.08), (2, 0.5), (1, 1.8)])
def test_confident_logits_hide_nothing_from_apgd_ce(trained_net, digits, norm, eps, short):
    """In float32 the cross-entropy of logits times 30 is zero at most images, and so is its gradient."""
    x, y = digits[2][:64], digits[3][:64]
    beaten = []
    for factor in (1, 30, 1e6):
        classifier = estimators.classifier(Times(trained_net, factor), SHAPE, 10, device="cpu")
        beaten.append(AutoAttack(classifier, norm, eps, components=("apgd-ce",)).beat(x, y)[1].sum())
    # At another temperature the steps are others; the authors' code finds half of these images at 30, a tenth at 1e6.
    assert min(beaten[1:]) >= 0.9 * beaten[0] > 0


@pytest.mark.parametrize("classes", [2, 3])
def test_a_model_of_few_classes_ends_with_a_verdict(interior, classes, short, caplog):
    module = Linear(4).eval()
    few = estimators.classifier(nn.Sequential(module, Take(classes)), SHAPE, classes, device="cpu")
    y = few.predict(interior[:8]).argmax(1)
    adversarial, beaten = AutoAttack(few, eps=0.5).beat(interior[:8], y)
    np.testing.assert_array_equal(few.predict(adversarial).argmax(1) != y, beaten)
    assert beaten.all()


class Take(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, z):
        return z[:, : self.classes]


class Relative(nn.Module):
    """Logits less their mean over the batch, scaled by its spread: what an image is taken for depends on the others."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        z = self.net(x)
        return (z - z.mean(0)) / (1e-3 + z.std(0, unbiased=False)) if len(x) > 1 else z


def test_what_a_batch_dependent_model_is_said_to_misclassify_it_does(trained_net, digits, short, caplog):
    model = estimators.classifier(Relative(trained_net), SHAPE, 10, device="cpu")
    x, y = digits[2][:12], digits[3][:12]
    adversarial, beaten = AutoAttack(model, eps=0.1).beat(x, y)
    wrong = model.predict(adversarial, batch_size=250).argmax(1) != y
    assert (beaten == wrong).all() or "two predictions differ" in caplog.text


@pytest.mark.parametrize("norm, order", [(np.inf, 1), (2, 2), (1, np.inf)])
@pytest.mark.parametrize("classes", [2, 3])
def test_with_few_classes_it_runs_without_the_loss_that_needs_four(interior, classes, norm, order, short):
    classifier = estimators.classifier(Linear(classes).eval(), SHAPE, classes, device="cpu")
    y = classifier.predict(interior).argmax(1)
    logits = classifier.predict(interior)
    weights = classifier.model.layer.weight.detach().numpy()
    other = np.arange(classes)[None] != y[:, None]
    margin = (logits.max(1, keepdims=True) - logits)[other].reshape(len(y), -1)
    dual = np.linalg.norm(weights[None] - weights[y][:, None], order, axis=2)[other].reshape(len(y), -1)
    nearest = (margin / dual).min(1)  # of a linear model
    attack = AutoAttack(classifier, norm, float(np.median(nearest)))
    np.testing.assert_array_equal(attack.beat(interior, y)[1], nearest < attack.eps)
    assert list(attack.beaten) == ["apgd-ce", "fab-t", "square"]


def test_square_that_beats_what_gradients_left_is_said(trained_net, digits, caplog, short):
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = trained_net

        def forward(self, x):
            return self.net(torch.round(x * 3) / 3)

    masked = estimators.classifier(Steps(), SHAPE, 10, device="cpu")
    attack = AutoAttack(masked, eps=0.2, components=("apgd-ce", "square"))
    attack.beat(digits[2][:12], digits[3][:12])
    assert attack.beaten["square"].any() and "gradients may be masked" in caplog.text


def test_mistakes_are_named(classifier, linear):
    with pytest.raises(ValueError, match="norm must be inf, 2 or 1"):
        AutoAttack(classifier, 3)
    with pytest.raises(ValueError, match="eps must be positive"):
        AutoAttack(classifier, eps=0)
    with pytest.raises(ValueError, match="eps is needed"):
        attacks.create("autoattack", classifier)
    with pytest.raises(UsageError, match="did you mean 'autoattack'"):
        attacks.create("auto-attack", classifier, EPS)
    with pytest.raises(ValueError, match="components must be some of apgd-ce, apgd-t, fab-t, square, not apgd"):
        AutoAttack(classifier, components=("apgd",))
    two = estimators.classifier(linear.model, (1, 8, 8), 2, device="cpu")
    with pytest.raises(ValueError, match="apgd-t needs at least 4 classes"):
        AutoAttack(two, components=("apgd-t",))
    with pytest.raises(ValueError, match="2 classes and returns 4 outputs"):
        AutoAttack(two).generate(np.zeros((1, *SHAPE), np.float32))
