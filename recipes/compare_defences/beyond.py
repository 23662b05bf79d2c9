"""The self-supervised network that ART's BEYOND detector needs (He et al., 2024, https://openreview.net/pdf?id=S4LqI6CcJ3)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.data import Images
from advbench.loop import batches, train_in_epochs
from advbench.models.tapped import TappedModule
from advbench.study import History

_WIDTH = 128


def augmented(x: Tensor) -> Tensor:
    """Each image (N, C, H, W) turned by up to 15 degrees, shifted and zoomed by up to a tenth, with a little noise."""
    angle, zoom, across, down = (torch.rand(4, len(x), device=x.device) * 2 - 1).unbind()
    angle, zoom = angle * math.pi / 12, 1 + 0.1 * zoom
    rows = [zoom * angle.cos(), -zoom * angle.sin(), 0.1 * across, zoom * angle.sin(), zoom * angle.cos(), 0.1 * down]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(x.shape), align_corners=False)
    return (F.grid_sample(x, grid, align_corners=False) + 0.02 * torch.randn_like(x)).clamp(0, 1)


class SelfSupervised(nn.Module):
    """A backbone whose representations of two views of an image agree, and a linear classifier on it.

    The attributes ``backbone``, ``projector`` and ``classifier`` are those that ART's detector reads.
    """

    def __init__(self, network: TappedModule, shape: tuple[int, ...], classes: int, seed: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*network.stages, nn.AdaptiveAvgPool2d(4), nn.Flatten())
        device = next(network.parameters()).device
        with torch.no_grad():
            features = self.backbone(torch.zeros(1, *shape, device=device)).shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projector = nn.Sequential(_layer(features), nn.Linear(_WIDTH, _WIDTH))
            self.predictor = nn.Sequential(_layer(_WIDTH), nn.Linear(_WIDTH, _WIDTH))
            self.classifier = nn.Linear(features, classes)
        self.to(device)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.backbone(x))


def _layer(features: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, _WIDTH, bias=False), nn.BatchNorm1d(_WIDTH), nn.ReLU())


def train(module: SelfSupervised, images: Images, batch_size: int, epochs: int, lr: float, seed: int) -> History:
    """SimSiam (Chen & He, 2021, algorithm 1), and in the same pass the classifier on the frozen representation."""
    optimizer = torch.optim.Adam(module.train().parameters(), lr)
    device = next(module.parameters()).device
    x, y = torch.from_numpy(images.x), torch.from_numpy(images.y)

    def step(chosen: Tensor) -> dict[str, Tensor]:
        batch, truth = x[chosen].to(device), y[chosen].to(device)
        first, second = (module.projector(module.backbone(augmented(batch))) for _ in range(2))
        pairs = ((first, second), (second, first))
        agreements = [F.cosine_similarity(module.predictor(one), other.detach()).mean() for one, other in pairs]
        clean = module.backbone(batch).detach()
        loss = F.cross_entropy(module.classifier(clean), truth) - sum(agreements) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}

    def epoch_of(epoch: int) -> Iterator[Tensor]:
        return batches(len(x), batch_size, epoch, None, seed)

    return train_in_epochs("beyond", module, optimizer, epochs, epoch_of, step, dict, checkpoint=None)
