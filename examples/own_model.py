"""How robust is a network of your own? Train one on the digits, attack it, and report the worst case for each image.

``python examples/own_model.py`` takes half a minute. ``advbench evaluate`` does more: more attacks, checks and a page.
"""

import numpy as np
import torch
from torch import nn

from advbench import attacks, data, estimators, metrics

EPS = 0.1
"""The largest change of a pixel, for images in [0, 1]."""


def make() -> nn.Module:
    """Any module from images in [0, 1], float32 (N, C, H, W), to logits (N, classes); normalisation belongs into it."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def train(net: nn.Module, images: data.Images, epochs: int = 20) -> None:
    """Your own training; nothing of it is particular to advbench."""
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    x, y = torch.from_numpy(images.x), torch.from_numpy(images.y)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()


def main() -> dict[str, metrics.Figure]:
    """Train, attack and print; returns the printed figures."""
    torch.manual_seed(0)
    np.random.seed(0)  # ART draws the random start of PGD from here
    net = make()
    train(net, data.load("digits", "train", shape=(1, 8, 8)).images())
    test = data.load("digits", "test", shape=(1, 8, 8)).images()

    # ART's PyTorchClassifier, so every attack and defence of ART takes it as well
    classifier = estimators.classifier(net.eval(), input_shape=(1, 8, 8), classes=10, device="cpu")

    # each attack is run on the images that all attacks before it left correct: the last figure is the worst case
    figures = metrics.robust_accuracy(
        classifier,
        {
            "fgsm": [attacks.create("fgsm", classifier, EPS)],
            "pgd": [attacks.create("pgd", classifier, EPS, max_iter=20)] * 2,  # with two restarts
        },
        test.x,
        test.y,
    )
    for name, figure in figures.items():
        print(f"{name:6} accuracy {figure.value:.3f}, 95 % interval {figure.ci_low:.3f} to {figure.ci_high:.3f}")

    deepfool = attacks.create("deepfool-linf", classifier).generate(test.x, test.y)
    distance = metrics.median(np.abs(deepfool - test.x).max(axis=(1, 2, 3)))
    print(f"half of the images need a change of at most {distance.value:.3f} in every pixel (DeepFool)")
    return figures


if __name__ == "__main__":
    main()
