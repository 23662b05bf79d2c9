import pytest
import torch
from conftest import SHAPE, make_small_net

from advbench import estimators
from advbench.trainers import train_with_adam


def train(digits, epochs, seed=0, **arguments):
    classifier = estimators.classifier(make_small_net(), SHAPE, 10, device="cpu")
    history = train_with_adam(classifier, digits[0], digits[1], 50, epochs, seed=seed, **arguments)
    return classifier, history


def test_it_learns_and_its_history_is_of_the_validation_images(digits):
    classifier, history = train(digits, 5, validation=digits[2:])
    accuracy = (classifier.predict(digits[2]).argmax(1) == digits[3]).mean()
    assert history[-1]["accuracy"] == pytest.approx(accuracy) and accuracy > 0.85
    assert not classifier.model.training


def test_a_shorter_training_is_the_beginning_of_a_longer_one(digits, tmp_path):
    path = tmp_path / "checkpoint"
    short, history = train(digits, 2, checkpoint=path)
    longer, whole = train(digits, 3)
    assert [entry["loss"] for entry in history] == [entry["loss"] for entry in whole[:2]]
    resumed, _ = train(digits, 3, checkpoint=path)
    for name, tensor in longer.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name])
    assert not torch.equal(short.model.head[2].weight, longer.model.head[2].weight)


def test_another_order_is_another_classifier(digits):
    one, other = (train(digits, 1, seed)[0].model.head[2].weight for seed in (0, 1))
    assert not torch.equal(one, other)


def test_the_wrong_argument_is_named(digits):
    with pytest.raises(ValueError, match="lr must be"):
        train(digits, 1, lr=0)
