"""The squared error of report 000 by hand, and where its gradient vanishes."""

import numpy as np
import torch
from art.attacks.evasion import FastGradientMethod
from torch import nn

from advbench import estimators
from advbench.trainers.losses import SoftmaxMSE


def test_it_is_the_squared_error_of_the_softmax():
    """Logits (log 2, 0) have softmax (2/3, 1/3); for label 0 both errors are 1/3."""
    logits, y = torch.tensor([[2.0, 1.0], [2.0, 1.0]]).log(), torch.tensor([0, 1])
    loss = SoftmaxMSE()(logits, y)
    torch.testing.assert_close(loss, torch.tensor(1 / 9 + 4 / 9))
    torch.testing.assert_close(SoftmaxMSE()(logits, torch.eye(2)[y]), loss)


def test_the_gradient_at_an_image_does_not_depend_on_its_batch():
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = torch.tensor([0, 1, 2, 3, 0])
    (whole,) = torch.autograd.grad(SoftmaxMSE()(logits, y), logits)
    (alone,) = torch.autograd.grad(SoftmaxMSE()(logits[:1], y[:1]), logits)
    torch.testing.assert_close(whole[0], alone[0])


class Margin(nn.Module):
    """Logits (scale * x, 0, 0, 0) for images of one pixel."""

    def forward(self, x):
        return nn.functional.pad(x.flatten(1) * 200, (0, 3))


def test_a_saturated_softmax_leaves_no_gradient_where_cross_entropy_has_one():
    x, wrong = np.ones((1, 1, 1, 1), np.float32), np.array([1])
    gradients = {}
    for name, loss in (("mse", SoftmaxMSE()), ("ce", None)):
        classifier = estimators.classifier(Margin(), (1, 1, 1), 4, device="cpu", loss=loss, clip_values=None)
        gradients[name] = classifier.loss_gradient(x, wrong).item()
        adversarial = FastGradientMethod(classifier, np.inf, 0.1).generate(x, wrong)
        assert adversarial.item() == np.float32(1 + 0.1 * np.sign(gradients[name]))
    assert gradients["mse"] == 0 and gradients["ce"] > 0
