"""Every class on a GPU: small, few, and skipped without one. ``ADVBENCH_GPU=cpu`` runs what makes sense there on a CPU.

``python tests/gpu/run.py`` runs them and ``bench`` on a machine that is lent for some minutes.
"""

import os
import warnings

import numpy as np
import pytest
import torch
from conftest import SHAPE, make_small_net
from torch import nn

import advbench
from advbench import attacks, estimators
from advbench.detectors import SubnetworkDetector
from advbench.metrics.surrogate import surrogate
from advbench.trainers import Schedule, train_classifier

DEVICE = os.environ.get("ADVBENCH_GPU", "cuda")
on_cuda = pytest.mark.skipif(DEVICE != "cuda", reason="counts what only CUDA has")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no GPU"),
]

SHORT = {"max_iter": 3}


@pytest.fixture(scope="module", params=["exact", "fast"])
def on_device(request):
    return estimators.classifier(make_small_net(), SHAPE, 10, request.param, DEVICE)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.random((16, *SHAPE), np.float32), rng.integers(0, 10, 16)


def test_predictions_and_gradients_are_those_of_the_cpu(on_device, images):
    x, y = images
    cpu = estimators.classifier(make_small_net(), SHAPE, 10, device="cpu")
    wanted = cpu.predict(x)
    np.testing.assert_allclose(on_device.predict(x), wanted, atol=1e-3 * np.abs(wanted).max())
    gradient, other = on_device.loss_gradient(x, y), cpu.loss_gradient(x, y)
    slack = 1e-3 if on_device.precision == "exact" else 0.1
    assert np.linalg.norm(gradient - other) <= slack * np.linalg.norm(other)


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_an_attack_stays_in_its_bound(on_device, images, name):
    spec = attacks.ATTACKS[name]
    eps = {"linf": 0.1, "l2": 1.0, "l1": 5.0, "l0": 4}[spec.norm] if spec.bounded else None
    attack = attacks.create(name, on_device, eps, max_iter=3 if spec.max_iter else None)
    if "components" in attack.attack_params:
        attack.set_params(components=("apgd-ce",))
    if name.startswith("hopskipjump"):
        attack.set_params(max_iter=1, max_eval=20, init_eval=5, init_size=10)
    x, y = (each[:4] for each in images)
    found = attack.generate(x, y)
    assert found.shape == x.shape and found.dtype == np.float32 and np.isfinite(found).all()
    if eps is not None:
        order = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}[spec.norm]
        assert np.linalg.norm((found - x).reshape(4, -1), order, axis=1).max() <= eps * 1.001


def test_attacks_on_classifier_and_detector(on_device, images):
    x, y = images
    detector = SubnetworkDetector(on_device, 1, seed=0)
    detector.fit(np.concatenate([x, x]), np.repeat([0, 1], len(x)), nb_epochs=1)
    assert np.isfinite(detector.scores(x)).all()
    for kind in (attacks.SelectivePGD, attacks.OrthogonalPGD, attacks.DynamicDetectorAttack):
        assert np.abs(kind(on_device, detector, eps=0.1, **SHORT).generate(x, y) - x).max() <= 0.1001
    carlini = attacks.CarliniWagnerL2(on_device, max_iter=3, binary_search_steps=1)
    assert np.isfinite(carlini.generate(x, y)).all()


def test_a_learned_attack_is_trained(on_device, images):
    attack = attacks.GANAttack(on_device, t=0.3, width=4)
    attack.fit(*images, batch_size=8, nb_epochs=1)
    assert np.isfinite(attack.generate(images[0])).all()


def test_a_network_is_trained(images):
    x, y = np.round(images[0] * 255).astype(np.uint8), images[1]
    history = train_classifier(
        make_small_net(),
        (x, y),
        (x, y),
        Schedule(epochs=1, lr=0.1, weight_decay=1e-4, batch_size=8, pad=1, flip=False),
        device=DEVICE,
    )
    assert np.isfinite(history[0]["validation_accuracy"])


def test_an_evaluation_with_its_checks(images):
    found = advbench.evaluate(make_small_net(), images, eps=0.1, attacks="fast", checks=4, device=DEVICE)
    assert found.clean_accuracy.n == 16 and len(found.checks) > 8


def test_a_surrogate_is_trained(on_device, images):
    other = surrogate(on_device, images[0], seed=0, steps=2)
    assert other.predict(images[0]).shape == (16, 10)


def test_fast_computes_in_bfloat16_and_channels_last(on_device, images, monkeypatch):
    if on_device.precision != "fast":
        pytest.skip("of precision fast")
    seen, convolve = [], nn.Conv2d._conv_forward

    def watched(layer, x, weight, bias):
        out = convolve(layer, x, weight, bias)
        seen.append((x.is_contiguous(memory_format=torch.channels_last), out.dtype))
        return out

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", watched)
    on_device.loss_gradient(*images)
    half = torch.bfloat16 if DEVICE == "cuda" else seen[0][1]
    assert len(seen) == 2 and all(found == (True, half) for found in seen)


@on_cuda
@pytest.mark.parametrize("name", ["bim", "bim-l2", "fgsm"])
def test_no_step_waits_for_the_gpu(on_device, images, name):
    """The transfers at the beginning and the end wait, and the same number of times for three steps as for nine."""

    def waits(steps):
        attack = attacks.create(name, on_device, 0.1, max_iter=steps)
        attack.generate(*images)  # kernels are chosen
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                attack.generate(*images)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing CUDA operation" in str(each.message) for each in caught)

    assert waits(3) == waits(9) < 20
