"""A small network that imitates a classifier, to attack in its place (Papernot et al., 2017, https://arxiv.org/abs/1602.02697)."""

from __future__ import annotations

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from advbench import estimators

_SIDE = 32  # to about which images are averaged: training at 240 x 240 took longer than every other check together
_SPREAD = 5.0  # of the logits, at least: behind a temperature all probabilities are alike, and nothing can be learnt


def surrogate(
    classifier: PyTorchClassifier,
    x: np.ndarray,
    seed: int,
    steps: int = 200,
    noise: float = 0.05,
    logits: np.ndarray | None = None,
) -> estimators.TorchClassifier:
    """A two-layer convolutional network trained on the classifier's own probabilities for the images and noisy copies.

    It sees images larger than 63 x 63 at a fraction of their resolution.

    :param x: float32 (N, C, H, W) in [0, 1]; no labels are needed.
    :param steps: of Adam, 64 images each.
    :param noise: standard deviation of the copies' Gaussian noise.
    :param logits: of the classifier for the images (N, classes), where they are known already.
    :return: of the same shape and classes, differentiable whatever the classifier does.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.from_numpy(x)
    copies = (images + noise * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    if logits is None:
        logits = classifier.predict(x)
    logits = np.concatenate([logits, classifier.predict(copies.numpy())])
    images = torch.cat([images, copies])
    spread = float(np.ptp(logits, axis=1).mean())
    if 0 < spread < _SPREAD:
        logits *= _SPREAD / spread
    wanted = torch.from_numpy(logits).softmax(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(x.shape[1], 32, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(1024, classifier.nb_classes),
        )
    smaller = nn.AvgPool2d(max(1, min(x.shape[2:]) // _SIDE))
    images = smaller(images)
    network.to(classifier.device)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,), generator=generator)
        outputs = network(images[chosen].to(classifier.device))
        loss = nn.functional.cross_entropy(outputs, wanted[chosen].to(classifier.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network = nn.Sequential(smaller, network)
    return estimators.classifier(network, x.shape[1:], classifier.nb_classes, device=classifier.device)
