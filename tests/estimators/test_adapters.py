"""Models that attacks cannot take as they are: the same figures as without their limit."""

import numpy as np
import pytest
import torch
from conftest import SHAPE, Linear
from torch import nn

from advbench import estimators
from advbench.errors import UsageError
from advbench.estimators import contract

CPU = torch.device("cpu")


class Exported(nn.Module):
    """Takes batches that ``fits`` allows, as a program that was exported for them."""

    def __init__(self, fits):
        super().__init__()
        self.net, self.fits = Linear(), fits

    def forward(self, x):
        assert self.fits(len(x))
        return self.net(x)


@pytest.mark.parametrize(
    "module, said",
    [
        (Exported(lambda n: n == 1), "one image at a time"),
        (Exported(lambda n: n <= 5), "5 images at a time"),
        (Exported(lambda n: n == 32), "32 images at a time"),
        (torch.export.export(Linear().eval(), (torch.zeros(4, 1, 8, 8),)).module(), "4 images at a time"),
    ],
)
def test_a_model_of_a_fixed_number_of_images_gets_so_many(pictures, module, said):
    """The same logits and gradients as without that limit."""
    estimator, notes = contract.classifier(module, pictures, CPU)
    assert said in notes[-1]
    free = estimators.classifier(Linear().eval(), SHAPE, 4, device="cpu")
    for n in (1, 5, len(pictures.x)):
        x, y = pictures.x[:n], pictures.y[:n]
        np.testing.assert_allclose(estimator.predict(x), free.predict(x), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(estimator.loss_gradient(x, y), free.loss_gradient(x, y), rtol=1e-4, atol=1e-6)


def test_a_model_of_other_images_is_refused_for_any_number(pictures):
    with pytest.raises(UsageError, match=r"does not take images of shape \(1, 8, 8\).*65"):
        contract.classifier(nn.Sequential(nn.Flatten(), nn.Linear(65, 4)).eval(), pictures, CPU)
