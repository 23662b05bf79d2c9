"""How often do the checks of ``advbench evaluate`` fail on an undefended network? ``python tests/seeds.py [SEEDS] [IMAGES]``

Each seed trains a small network on scikit-learn's digits and makes every check on it, by default 200 seeds and the command's
64 images. A check that fails on more than one in 200 would accuse sound figures; exit code 1 then.
"""

from __future__ import annotations

import sys
from collections import Counter

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from advbench import data, estimators
from advbench.data.find import find
from advbench.evaluation import exhibits
from advbench.evaluation.checking import run_checks
from advbench.evaluation.options import Options
from advbench.evaluation.subject import Subject

SHAPE = (1, 8, 8)


def network(x: torch.Tensor, y: torch.Tensor, seed: int) -> nn.Module:
    """A convolutional network that is right on about 95 % of digits it has not seen, and that small steps fool."""
    torch.manual_seed(seed)
    convolution = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
    module = nn.Sequential(convolution, nn.Flatten(), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(200):
        some = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        F.cross_entropy(module(x[some]), y[some]).backward()
        optimizer.step()
    return module.eval()


def main(seeds: int = 200, images: int = 64) -> int:
    train = data.load("digits", "train", shape=SHAPE).images()
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    failures: Counter[str] = Counter()
    made: Counter[str] = Counter()
    for seed in range(seeds):
        options = Options(model="digits", data="digits", n=images, checks=images)
        classifier = estimators.classifier(network(x, y, seed), SHAPE, 10, device="cpu")
        subject = Subject(classifier, find("digits", SHAPE, n=images, seed=seed), options, seed)
        for check in exhibits.checks(pd.DataFrame(run_checks(subject))):
            made[check.name] += 1
            failures[check.name] += not check.passed
            if not check.passed:
                print(f"seed {seed}, {check.name}: {check.measured}", flush=True)
        if seed % 20 == 19:
            print(f"{seed + 1} seeds", dict(+failures), flush=True)
    print(f"\nof {seeds} seeds, {images} images each")
    for name, count in made.items():
        print(f"{name:40} failed {failures[name]} times of {count}")
    return int(max(failures.values()) > 1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(*map(int, sys.argv[1:])))
