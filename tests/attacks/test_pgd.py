import numpy as np
import pytest
from art.attacks.evasion import ProjectedGradientDescent

from advbench import attacks


@pytest.mark.parametrize(
    "options",
    [
        {"norm": np.inf, "eps": 0.1, "eps_step": 0.03},
        {"norm": 2, "eps": 0.5, "eps_step": 0.2},
        {"norm": np.inf, "eps": 0.1, "eps_step": 0.03, "num_random_init": 1},
        {"norm": np.inf, "eps": 0.1, "eps_step": 0.03, "num_random_init": 2},
        {"norm": np.inf, "eps": 0.1, "eps_step": 0.03, "targeted": True},
    ],
)
def test_it_is_arts_to_the_bit(classifier, digits, options):
    x, y = digits[2][:40], (digits[3][:40] + bool(options.get("targeted"))) % 10
    results = []
    for kind in (attacks.PGD, ProjectedGradientDescent):
        np.random.seed(0)  # ART draws its random starts from NumPy's global generator
        attack = kind(classifier, max_iter=5, batch_size=16, verbose=False, **options)
        results.append(attack.generate(x, np.eye(10, dtype=np.float32)[y]))
    assert results[0].dtype == results[1].dtype == np.float32
    np.testing.assert_array_equal(*results)


def test_nothing_is_predicted_for_a_log_line(classifier, digits, monkeypatch):
    calls = []
    predict = classifier.predict
    monkeypatch.setattr(classifier, "predict", lambda x, **options: (calls.append(len(x)), predict(x, **options))[1])
    attacks.create("pgd", classifier, 0.1).generate(digits[2][:8], digits[3][:8])
    assert not calls
    attacks.create("pgd", classifier, 0.1).generate(digits[2][:8])
    assert calls == [8]  # without labels those that are predicted are attacked


def test_a_mask_is_arts_own(classifier, digits):
    x, y = digits[2][:4], digits[3][:4]
    mask = np.zeros_like(x)
    mask[:, :, :4] = 1
    adversarial = attacks.create("bim", classifier, 0.1).generate(x, y, mask=mask)
    assert (adversarial[:, :, 4:] == x[:, :, 4:]).all() and (adversarial != x).any()
