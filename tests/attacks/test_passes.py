"""The passes of every attack, counted at the module, against the number that its algorithm needs."""

import numpy as np
import pytest
from conftest import SHAPE, Counter, Linear
from torch import nn

from advbench import attacks, estimators, metrics
from advbench.attacks.autoattack import COMPONENTS
from advbench.detectors import SubnetworkDetector


def counting(net, classes=10):
    return estimators.classifier(Counter(net), SHAPE, classes, device="cpu")


def passes(classifier, attack, x, y):
    """Forward and backward passes an image."""
    with metrics.counted(classifier) as same:
        attack.generate(x, y)
    module = classifier.model
    assert (same.forward, same.backward) == (module.forwards, module.backwards)
    return module.forwards / len(x), module.backwards / len(x)


@pytest.mark.parametrize(
    "name, options, wanted",
    [
        ("fgsm", {}, (1, 1)),
        ("bim", {}, (10, 10)),
        ("bim-l2", {"max_iter": 7}, (7, 7)),
        ("pgd", {"max_iter": 20}, (20, 20)),
        ("pgd-l2", {"max_iter": 3}, (3, 3)),
        ("pgd-l1", {"max_iter": 4}, (4, 4)),
    ],
)
@pytest.mark.parametrize("batch", [8, 128])
def test_a_step_is_one_pass_forward_and_one_back(trained_net, digits, name, options, wanted, batch):
    classifier = counting(trained_net)
    attack = attacks.create(name, classifier, 0.1, batch_size=batch, **options)
    assert passes(classifier, attack, digits[2][:20], digits[3][:20]) == wanted


@pytest.mark.parametrize("norm", [2, np.inf])
def test_deepfool_needs_one_linearisation_of_a_linear_model(interior, norm):
    """The model predicts before and after; between, one pass linearises with a gradient for each class, one sees the flip."""
    classifier = counting(Linear().eval(), 4)
    assert passes(classifier, attacks.DeepFool(classifier, norm), interior, None) == (4, 3)


@pytest.mark.parametrize("norm", [2, np.inf])
def test_a_step_of_deepfool_is_two_passes_forward_and_one_back_for_each_candidate(trained_net, digits, norm):
    classifier = counting(trained_net)
    forwards, backwards = passes(
        classifier, attacks.DeepFool(classifier, norm, candidates=4, batch_size=16), digits[2][:60], None
    )
    steps = backwards / 4
    assert 1 < steps < 8 and forwards == pytest.approx(2 + 2 * steps)


def test_a_step_of_carlini_and_wagner_is_one_pass_forward_and_one_back(trained_net, digits):
    classifier = counting(trained_net)
    attack = attacks.CarliniWagnerL2(classifier, max_iter=30, binary_search_steps=2, learning_rate=0.02)
    assert passes(classifier, attack, digits[2][:16], digits[3][:16]) == (60, 60)


WITHSTOOD = {
    "apgd-ce": (2 + 101, 101),  # predict, the proof, the start and 100 steps
    "apgd-t": (2 + 9 * 101, 9 * 101),
    "fab-t": (2 + 9 * 200, 9 * 100),
    "square": (2 + 5001 + 1, 0),
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_an_image_that_withstands_a_component_costs_its_steps(trained_net, digits, name):
    classifier = counting(trained_net)
    x, y = digits[2][:2], digits[3][:2]
    right = classifier.predict(x).argmax(1) == y
    classifier.model.forwards = 0
    attack = attacks.AutoAttack(classifier, eps=1e-4, components=(name,))
    assert right.all() and passes(classifier, attack, x, y) == WITHSTOOD[name]


def test_whom_a_component_beats_costs_it_nothing_more(trained_net, digits):
    classifier = counting(trained_net)
    attack = attacks.AutoAttack(classifier, eps=0.4)
    forwards, backwards = passes(classifier, attack, digits[2][:32], digits[3][:32])
    assert attack.beaten["apgd-ce"].mean() > 0.8 and backwards < 5 and forwards < backwards + 5


def test_the_count_is_that_of_the_model_and_leaves_no_trace(classifier, digits):
    x = digits[2][:5]
    with metrics.counted(classifier) as outer:
        classifier.predict(x)
        with metrics.counted(classifier) as inner:
            classifier.loss_gradient(x, digits[3][:5])
    assert (outer.forward, outer.backward, outer.both) == (10, 5, 15)
    assert (inner.forward, inner.backward) == (5, 5)
    classifier.predict(x)
    assert outer.both == 15 and not classifier._model._forward_hooks


def test_a_stock_classifier_is_counted_too(trained_net, digits):
    stock = estimators.stock(trained_net, SHAPE, 10, "cpu")
    with metrics.counted(stock) as count:
        stock.predict(digits[2][:3])
        attacks.PGD(stock, np.inf, 0.1, 0.03, max_iter=2, verbose=False).generate(digits[2][:3], digits[3][:3])
    assert (count.forward, count.backward) == (9, 6)


@pytest.fixture
def first_layer(trained_net):
    """A layer of the trained network that counts the images that pass it, however the network is computed."""
    counter = Counter(nn.Identity())
    handle = trained_net.stages[0][1].register_forward_hook(lambda layer, inputs, outputs: counter(outputs))
    yield counter
    handle.remove()


@pytest.fixture(scope="module")
def detector(classifier):
    return SubnetworkDetector(classifier, 1, seed=0)


STEPS = 6


@pytest.mark.parametrize(
    "make, wanted",
    [
        (lambda c, d: attacks.SelectivePGD(c, d, max_iter=STEPS), (STEPS + 1, STEPS)),  # the last iterate is judged
        (lambda c, d: attacks.OrthogonalPGD(c, d, max_iter=STEPS), (STEPS + 1, 2 * STEPS)),
        (lambda c, d: attacks.DynamicDetectorAttack(c, d, max_iter=STEPS), (STEPS, 2 * STEPS)),
        (lambda c, d: attacks.DynamicDetectorAttack(c, d, max_iter=STEPS, sigma=0.0), (STEPS, STEPS)),
        (lambda c, d: attacks.DynamicDetectorAttack(c, d, max_iter=STEPS, sigma=1.0), (STEPS, STEPS)),
    ],
)
def test_a_step_on_classifier_and_detector_is_one_pass_forward_and_one_back_a_goal(
    classifier, detector, digits, first_layer, make, wanted
):
    make(classifier, detector).generate(digits[2][:10], digits[3][:10])
    assert (first_layer.forwards / 10, first_layer.backwards / 10) == wanted


@pytest.mark.parametrize("name", ["fmn-linf", "fmn-l2", "fmn-l1", "fmn-l0", "ddn-l2", "sigma-zero"])
def test_a_step_towards_the_smallest_perturbation_is_one_pass_forward_and_one_back(trained_net, digits, name):
    """The model predicts before and after; where it does not confirm what was found, it is attacked itself."""
    classifier = counting(trained_net)
    x, y = digits[2][:20], digits[3][:20]
    right = classifier.predict(x).argmax(1) == y
    classifier.model.forwards = 0
    found = passes(classifier, attacks.create(name, classifier, max_iter=STEPS), x[right], y[right])
    assert found == (2 + STEPS, STEPS)


def test_a_query_of_sparse_rs_is_one_pass_forward(trained_net, digits):
    classifier = counting(trained_net)
    attack = attacks.create("sparse-rs", classifier, 1, max_iter=STEPS)
    x, y = digits[2][:20], digits[3][:20]
    stays = classifier.predict(attack.generate(x, y)).argmax(1) == y
    classifier.model.forwards = 0
    assert stays.any() and passes(classifier, attack, x[stays][:1], y[stays][:1])[0] <= 1 + STEPS


def test_an_image_leaves_pgd_with_the_pass_that_sees_it_beaten(trained_net, digits):
    """Each pass forward is one back, but for the two with which the model confirms: the find, and at the end the rest."""
    classifier = counting(trained_net)
    x, y = digits[2][:20], digits[3][:20]
    attack = attacks.create("pgd", classifier, 0.3, max_iter=40)
    _, beaten = attack.beat(x, y)
    module = classifier.model
    assert beaten.all() and module.backwards < 20 * 8 and module.forwards <= module.backwards + 20


def test_a_learned_attack_costs_the_classifier_nothing(trained_net, digits):
    classifier = counting(trained_net)
    attack = attacks.GANAttack(classifier, t=0.3, width=4)
    attack.finish_training()
    assert passes(classifier, attack, digits[2][:10], None) == (0, 0)


def test_hopskipjump_sees_labels_alone(trained_net, digits):
    classifier = counting(trained_net)
    attack = attacks.create("hopskipjump", classifier, max_iter=1)
    attack.set_params(max_eval=40, init_eval=10, init_size=20)
    forwards, backwards = passes(classifier, attack, digits[2][:2], digits[3][:2])
    assert backwards == 0 and 10 < forwards < 400


def test_every_attack_is_counted_here():
    """Of the registry: each kind that computes; of the package: each class."""
    counted = {"fgsm", "pgd", "hopskipjump", "autoattack", "deepfool", "fmn", "ddn", "sigma_zero", "sparse_rs"}
    assert {spec.kind.partition(":")[0].rpartition(".")[2] for spec in attacks.ATTACKS.values()} == counted
    classes = {name for name in dir(attacks) if isinstance(getattr(attacks, name), type)} - {"AttackSpec"}
    ours = {"SelectivePGD", "OrthogonalPGD", "AutoAttack", "CarliniWagnerL2", "DeepFool", "DynamicDetectorAttack"}
    assert classes == {*ours, "DDN", "FMN", "GANAttack", "PGD", "SigmaZero", "SparseRS"}
