"""Five small networks for the 8 x 8 digits, each trained by another library's recipe."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from art.attacks.evasion import FastGradientMethod
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import PyTorchClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from torch import nn


def _copied(layers: list[tuple[np.ndarray, np.ndarray]]) -> nn.Module:
    """Layers of scikit-learn, weights (in, out) and biases each, as a module."""
    parts: list[nn.Module] = [nn.Flatten()]
    for weight, bias in layers:
        linear = nn.Linear(*weight.shape)
        linear.load_state_dict({"weight": torch.tensor(weight.T), "bias": torch.tensor(bias)})
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def logistic(x: np.ndarray, y: np.ndarray) -> nn.Module:
    fitted = LogisticRegression(max_iter=200).fit(x.reshape(len(x), -1), y)
    return _copied([(fitted.coef_.T, fitted.intercept_)])


def perceptron(x: np.ndarray, y: np.ndarray) -> nn.Module:
    fitted = MLPClassifier((64, 64), max_iter=25, random_state=0).fit(x.reshape(len(x), -1), y)
    return _copied(list(zip(fitted.coefs_, fitted.intercepts_, strict=True)))


def _convolutional() -> nn.Module:
    torch.manual_seed(0)
    first, second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10))


def _by_art() -> PyTorchClassifier:
    net = _convolutional()
    adam = torch.optim.Adam(net.parameters(), 3e-3)
    return PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 8, 8), 10, adam, clip_values=(0, 1), device_type="cpu")


def art(x: np.ndarray, y: np.ndarray) -> nn.Module:
    classifier = _by_art()
    classifier.fit(x, np.eye(10, dtype=np.float32)[y], batch_size=64, nb_epochs=10)
    return classifier.model


def art_adversarial(x: np.ndarray, y: np.ndarray) -> nn.Module:
    classifier = _by_art()
    trainer = AdversarialTrainer(classifier, FastGradientMethod(classifier, np.inf, 0.1, batch_size=64), ratio=0.5)
    trainer.fit(x, np.eye(10, dtype=np.float32)[y], batch_size=64, nb_epochs=6)
    return classifier.model


def torchattacks_pgd(x: np.ndarray, y: np.ndarray) -> nn.Module:
    import torchattacks

    net = _convolutional()
    attack = torchattacks.PGD(net, eps=0.1, alpha=0.03, steps=5, random_start=True)
    adam = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(6):
        for part in torch.randperm(len(x)).split(64):
            images, labels = torch.from_numpy(x[part]), torch.from_numpy(y[part])
            loss = nn.functional.cross_entropy(net(attack(images, labels)), labels)
            adam.zero_grad()
            loss.backward()
            adam.step()
    return net


NETWORKS: dict[str, Callable[[np.ndarray, np.ndarray], nn.Module]] = {
    "scikit-learn, logistic regression": logistic,
    "scikit-learn, perceptron": perceptron,
    "ART, convolutional": art,
    "ART, AdversarialTrainer": art_adversarial,
    "torchattacks, PGD training": torchattacks_pgd,
}
"""Each takes training images (N, 1, 8, 8) in [0, 1] and labels (N,)."""
