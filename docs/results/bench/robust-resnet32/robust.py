"""ResNet-32 of the zoo, trained on with PGD images: three steps within 8/255."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from advbench import attacks, data, estimators
from advbench.models.find import find
from advbench.trainers import Schedule, WeightedAdversarialTrainer

EPOCHS = 8


def robust() -> torch.nn.Module:
    net = find("zoo:resnet32-cifar10").module
    net.load_state_dict(load_file("robust.safetensors"))
    return net


if __name__ == "__main__":
    train, rate = data.load("cifar10").images(slice(None)), Schedule(EPOCHS, lr=0.05, weight_decay=5e-4).rate
    net = find("zoo:resnet32-cifar10").module
    sgd = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    classifier = estimators.classifier(net, (3, 32, 32), 10, "fast", "cpu", sgd)
    pgd = attacks.create("pgd", classifier, 8 / 255, 4 / 255, 3, 128)
    trainer = WeightedAdversarialTrainer(classifier, [pgd], (0.0, 1.0), bfloat16=True)
    trainer.fit(train.x, train.y, nb_epochs=EPOCHS, rate=rate, checkpoint=Path("robust.ckpt"))
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, "robust.safetensors")
