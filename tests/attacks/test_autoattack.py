import numpy as np
import pytest
from art.attacks.evasion import ProjectedGradientDescent

from advbench import attacks, estimators
from advbench.attacks import AutoAttack
from advbench.errors import UsageError

EPS = 0.1


def test_it_beats_pgd_within_its_bound_and_is_reproducible(classifier, digits):
    x, y = digits[2][:24], digits[3][:24]
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


def test_mistakes_are_named(classifier, linear):
    with pytest.raises(ValueError, match="norm must be inf or 2"):
        AutoAttack(classifier, 1)
    with pytest.raises(ValueError, match="eps must be positive"):
        AutoAttack(classifier, eps=0)
    with pytest.raises(ValueError, match="eps is needed"):
        attacks.create("autoattack", classifier)
    with pytest.raises(UsageError, match="did you mean 'autoattack'"):
        attacks.create("auto-attack", classifier, EPS)
    two = estimators.classifier(linear.model, (1, 8, 8), 2, device="cpu")
    with pytest.raises(ValueError, match="at least 4 classes"):
        AutoAttack(two)
