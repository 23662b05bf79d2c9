"""An attack of your own: the momentum iterative method (Dong et al., 2018, https://arxiv.org/abs/1710.06081).

It is an ART attack, so every study, metric and defence takes it. ``python examples/own_attack.py`` compares it with FGSM.
"""

from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.estimators import BaseEstimator, LossGradientsMixin

from advbench import attacks, data, estimators, metrics
from advbench.trainers import Schedule, train_classifier


class Momentum(EvasionAttack):
    """g <- mu g + grad J / |grad J|_1,  x <- Clip_eps(x + alpha sgn(g)).

    :param eps: l-inf bound, for images in [0, 1].
    :param eps_step: alpha.
    :param decay: mu.
    """

    attack_params = [*EvasionAttack.attack_params, "eps", "eps_step", "max_iter", "decay"]
    _estimator_requirements = (BaseEstimator, LossGradientsMixin)

    def __init__(self, estimator: Any, eps: float, eps_step: float, max_iter: int = 10, decay: float = 1.0) -> None:
        super().__init__(estimator=estimator)
        self.eps, self.eps_step, self.max_iter, self.decay = eps, eps_step, max_iter, decay

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        """Adversarial images, float32 in [0, 1] and within eps of x.

        :param y: true labels (N,); the predicted ones where None.
        """
        y = self.estimator.predict(x).argmax(1) if y is None else y
        lowest, highest = np.clip(x - self.eps, 0, 1), np.clip(x + self.eps, 0, 1)
        adversarial, momentum = x.copy(), np.zeros_like(x)
        for _ in range(self.max_iter):
            gradient = self.estimator.loss_gradient(adversarial, y)
            size = np.abs(gradient).mean(axis=(1, 2, 3), keepdims=True)
            momentum = self.decay * momentum + gradient / np.maximum(size, 1e-12)
            adversarial = np.clip(adversarial + self.eps_step * np.sign(momentum), lowest, highest)
        return adversarial.astype(np.float32)


def main() -> dict[str, metrics.Figure]:
    """The accuracy of a small network on clean images, under FGSM and under the attack; printed and returned."""
    train, test = (data.load("digits", split, shape=(1, 8, 8)) for split in ("train", "test"))
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    schedule = Schedule(epochs=10, lr=0.1, weight_decay=1e-4, batch_size=64, pad=0, flip=False)
    train_classifier(net, (train.x[200:], train.y[200:]), (train.x[:200], train.y[:200]), schedule)
    classifier = estimators.classifier(net.eval(), (1, 8, 8), 10, device="cpu")

    images, eps = test.images(), 0.1
    figures = {"clean": metrics.accuracy(classifier.predict(images.x).argmax(1), images.y)}
    for name, attack in {
        "fgsm": attacks.create("fgsm", classifier, eps),
        "momentum": Momentum(classifier, eps, eps_step=eps / 4),
    }.items():
        adversarial = attack.generate(images.x, images.y)
        assert np.abs(adversarial - images.x).max() <= eps + 1e-6, "an attack must keep its bound"
        figures[name] = metrics.accuracy(classifier.predict(adversarial).argmax(1), images.y)
    for name, figure in figures.items():
        print(f"{name:9} accuracy {figure.value:.3f}, 95 % interval {figure.ci_low:.3f} to {figure.ci_high:.3f}")
    return figures


if __name__ == "__main__":
    main()
