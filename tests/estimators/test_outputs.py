"""Outputs that are no logits, told from those that are, and made logits."""

import numpy as np
import pytest
import torch
from conftest import Answer, Linear
from torch import nn

from advbench.data.find import Images
from advbench.errors import UsageError
from advbench.estimators import contract

CPU = torch.device("cpu")


def test_log_probabilities_are_taken_as_logits_and_their_gradient_is_the_logits(pictures):
    plain, notes = contract.classifier(Linear().eval(), pictures, CPU)
    logs, said = contract.classifier(Answer(lambda z: z.log_softmax(1)).eval(), pictures, CPU)
    assert notes == [] and "log-probabilities" in said[0] and "exact" in said[0]
    ours, theirs = (each.loss_gradient(pictures.x[:], pictures.y) for each in (logs, plain))
    np.testing.assert_allclose(ours, theirs, atol=1e-2 * np.abs(theirs).max())


def low(z):
    return z.bfloat16().softmax(1).float()


@pytest.mark.parametrize(
    "change, said",
    [
        (low, "returns probabilities .*--outputs probabilities"),
        (lambda z: z.half().softmax(1).float(), "returns probabilities .*--outputs probabilities"),
        (lambda z: 100 * z.softmax(1), "probabilities times 100 .*--outputs probabilities"),
        (lambda z: 255 * low(z), "probabilities times 25[45].* .*--outputs probabilities"),
        (lambda z: z.sigmoid(), "as a sigmoid a class does.*--outputs sigmoid"),
        (lambda z: z[:, :2].sigmoid(), "as a sigmoid a class does.*--outputs sigmoid"),
        (lambda z: z.softmax(1).clamp(1e-2, 1 - 1e-2), "returns probabilities .*--outputs probabilities"),
        (lambda z: ((9 * z).softmax(1) * 100).round() / 100, "returns probabilities .*--outputs probabilities"),
        (lambda z: z.sigmoid().log(), "logarithm of a sigmoid a class.*--outputs log-sigmoid"),
        (nn.functional.logsigmoid, "logarithm of a sigmoid a class.*--outputs log-sigmoid"),
        (lambda z: -nn.functional.softplus(-z), "logarithm of a sigmoid a class.*--outputs log-sigmoid"),
        (lambda z: -z.log_softmax(1), "negative log-probabilities: change their sign"),
        (lambda z: 2 * z.softmax(1) - 1, r"are a softmax up to scale.*--outputs logits"),
        (lambda z: (100 * z.sigmoid())[:, :, None].mean(2), "are a sigmoid up to scale.*--outputs logits"),
        (lambda z: z[:, 0].sigmoid(), "one number an image; --outputs sigmoid .*probability"),
        (lambda z: z[:, 0], "one number an image; --outputs logits .*logit"),
    ],
)
def test_outputs_that_are_no_logits_are_recognised_with_the_way_out(pictures, change, said):
    two = Images("two", pictures.x, pictures.y % 2)
    with pytest.raises(UsageError, match=said) as error:
        contract.classifier(Answer(change).eval(), two, CPU)
    assert "\n" not in str(error.value)


class SmallLogits(nn.Module):
    """Logits between 0 and 1, which are no sigmoid: squeezenet's last layers are a rectifier and a mean."""

    def __init__(self, last):
        super().__init__()
        self.net, self.last = Linear(), last

    def forward(self, x):
        return self.last(0.01 * self.net(x)[:, :, None, None] + 0.1)


@pytest.mark.parametrize(
    "last, notes",
    [
        (nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 1),
        (nn.Sequential(nn.ReLU6(), nn.Flatten()), 1),
        (nn.Sequential(nn.Flatten(), nn.Sigmoid()), None),
        (nn.Sequential(nn.Hardsigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), None),
        (nn.Sequential(nn.Sigmoid(), nn.Flatten(), nn.Dropout()), None),
    ],
)
def test_small_logits_are_told_from_a_sigmoid_by_the_last_function(pictures, last, notes):
    module = SmallLogits(last).eval()
    if notes is None:
        with pytest.raises(UsageError, match="as a sigmoid a class does"):
            contract.classifier(module, pictures, CPU)
        return
    _, said = contract.classifier(module, pictures, CPU)
    assert len(said) == notes and "returns no negative number" in said[0]


def test_a_linear_layer_whose_few_logits_are_between_0_and_1_returns_logits(pictures):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval()
    with torch.no_grad():
        module[1].weight.mul_(0.01)
        module[1].bias.fill_(0.2)
    _, said = contract.classifier(module, pictures, CPU)
    assert "returns no negative number" in said[0]


@pytest.mark.parametrize(
    "outputs, change, logits",
    [
        ("probabilities", lambda z: z.softmax(1), lambda z: z),
        ("probabilities", lambda z: 100 * z.softmax(1), lambda z: z),
        ("log-probabilities", lambda z: z.log_softmax(1), lambda z: z),
        ("probabilities", lambda z: (z / 9).half().softmax(1), lambda z: z / 9),
        ("probabilities", low, lambda z: z),
        ("sigmoid", lambda z: z.sigmoid(), lambda z: z),
        ("log-sigmoid", nn.functional.logsigmoid, lambda z: z),
        ("log-sigmoid", lambda z: z[:, 0].sigmoid().log(), lambda z: torch.stack([0 * z[:, 0], z[:, 0]], 1)),
        ("logits", lambda z: z.sigmoid(), lambda z: z.sigmoid()),
        ("sigmoid", lambda z: z[:, 0].sigmoid(), lambda z: torch.stack([0 * z[:, 0], z[:, 0]], 1)),
        ("probabilities", lambda z: z[:, :1].sigmoid(), lambda z: torch.stack([0 * z[:, 0], z[:, 0]], 1)),
        ("logits", lambda z: z[:, :1], lambda z: torch.stack([0 * z[:, 0], z[:, 0]], 1)),
    ],
)
def test_named_outputs_have_the_decisions_and_gradients_of_the_logits(pictures, outputs, change, logits):
    two = Images("two", pictures.x, pictures.y % 2)
    ours, notes = contract.classifier(Answer(change).eval(), two, CPU, outputs)
    theirs, _ = contract.classifier(Answer(logits).eval(), two, CPU, "logits")
    assert notes[0].startswith(f"--outputs {outputs}: the model returns") and len(notes) == 1
    found, wanted = (each.predict(two.x[:]) for each in (ours, theirs))
    np.testing.assert_array_equal(found.argmax(1), wanted.argmax(1))
    np.testing.assert_allclose(np.diff(found), np.diff(wanted), atol=2e-2)
    found, wanted = (each.loss_gradient(two.x[:], two.y) for each in (ours, theirs))
    np.testing.assert_allclose(found, wanted, atol=1e-2 * np.abs(wanted).max())


@pytest.mark.parametrize(
    "outputs, change",
    [
        ("probabilities", lambda z: z),
        ("probabilities", lambda z: z.sigmoid()),
        ("sigmoid", lambda z: z),
        ("sigmoid", lambda z: z[:, :1] * 9),
        ("log-probabilities", lambda z: z.log_softmax(1) - 1),
        ("log-sigmoid", lambda z: z),
    ],
)
def test_named_outputs_that_do_not_fit_are_refused(pictures, outputs, change):
    two = Images("two", pictures.x, pictures.y % 2)
    with pytest.raises(UsageError, match=f"^--outputs {outputs} does not fit: the model returns"):
        contract.classifier(Answer(change).eval(), two, CPU, outputs)


@pytest.mark.parametrize(
    "change",
    [
        lambda z: (20 * z).relu(),
        lambda z: 0 * z + torch.tensor([0.3, 1.1, 0.2, 0.9]),
        lambda z: 20 * (z - z.amin(1, keepdim=True)),
        lambda z: 1e-3 * z + 2,
    ],
)
def test_logits_that_are_never_negative_are_taken_with_a_note(pictures, change):
    _, notes = contract.classifier(Answer(change).eval(), pictures, CPU)
    assert any("returns no negative number" in note for note in notes)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda z: -z.exp(), "returns no positive number"),
        (lambda z: 5 * z.tanh(), "ENDS IN A TANH"),
        (lambda z: z / z.norm(dim=1, keepdim=True), None),
        (lambda z: z - z.mean(1, keepdim=True), None),
        (
            lambda z: z[:, :2].softmax(1)[:, :1] * z + z[:, :2].softmax(1)[:, 1:] * z.flip(1),
            None,
        ),  # a mixture of experts
        (lambda z: z * z.sigmoid(), None),  # SiLU by hand
    ],
)
def test_other_last_functions_are_taken_for_logits(pictures, change, said):
    _, notes = contract.classifier(Answer(change).eval(), pictures, CPU)
    assert len(notes) == (said is not None) and all(said in note for note in notes)


def test_saturated_probabilities_are_counted(pictures):
    for outputs, change in (
        ("log-sigmoid", lambda z: nn.functional.logsigmoid(3e3 * z)),
        ("sigmoid", lambda z: (3e3 * z).sigmoid()),
        ("probabilities", lambda z: (3e3 * z).softmax(1)),
    ):
        _, notes = contract.classifier(Answer(change).eval(), pictures, CPU, outputs)
        assert any("images have probabilities of exactly 0 and 1" in note for note in notes)
