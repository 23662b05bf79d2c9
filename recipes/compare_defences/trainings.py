"""The defences that are a network trained in another way."""

from __future__ import annotations

import io
from abc import abstractmethod
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from art.attacks.evasion import FastGradientMethod
from art.defences.preprocessor import GaussianAugmentation
from art.defences.trainer import (
    AdversarialTrainer,
    AdversarialTrainerFBFPyTorch,
    AdversarialTrainerMadryPGD,
    AdversarialTrainerTRADESPyTorch,
)
from art.defences.transformer.evasion import DefensiveDistillation
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import attacks, trainers
from advbench.attacks import GANAttack
from advbench.models.lipschitz import LipschitzCNN
from advbench.recipes.compare_defences import against
from advbench.recipes.compare_defences.materials import Comparison, Defence, Defended, Kind
from advbench.study import History


class Network(Defence):
    """A network that is trained from the weights that all networks start from."""

    kind: Kind = "training"
    trained = True
    adaptive = against.restarts

    def network(self, made: Comparison) -> nn.Module:
        return made.network(model=self.model)

    def defend(self, made: Comparison, module: nn.Module) -> Defended:
        classifier = made.wrapped(module, made.spec)
        return Defended(classifier, classifier)


class Undefended(Network):
    name, library = "none", "advbench"
    kind: Kind = "none"
    text = "Adam on clean images"

    def train(self, made: Comparison, module: Any, checkpoint: Path) -> History:
        images, classifier = made.train, made.wrapped(module, made.spec)
        options = {**made.schedule(), "lr": made.config.lr, "seed": made.study.seed_of("none")}
        return trainers.train_with_adam(classifier, images.x, images.y, **options, checkpoint=checkpoint)


class ByArt(Network):
    """A network that one of ART's trainers trains, or ART's estimator itself."""

    library = "art"

    @abstractmethod
    def trainer(self, made: Comparison, classifier: PyTorchClassifier) -> Any: ...

    def train(self, made: Comparison, module: nn.Module, checkpoint: Path) -> None:
        trainer = self.trainer(made, made.stock(module, optimizer=made.adam(module)))
        with redirect_stderr(io.StringIO()):  # ART's progress bars, which cannot be switched off
            trainer.fit(made.train.x, made.one_hot(), **made.schedule())


class Augmentation(ByArt):
    name = "gaussian-augmentation"
    text = "GaussianAugmentation: noisy copies join the training images"

    def trainer(self, made: Comparison, classifier: PyTorchClassifier) -> PyTorchClassifier:
        noise = GaussianAugmentation(made.bounds.sigma, augmentation=True, ratio=1.0, clip_values=(0.0, 1.0))
        return made.stock(classifier.model, optimizer=classifier.optimizer, preprocessor=noise)


class Distillation(Network):
    """Teacher and student at the temperature (Papernot et al., 2016); the student is used at temperature 1."""

    name, library = "defensive-distillation", "art"
    text = "DefensiveDistillation: a student learns a teacher's probabilities at a high temperature"
    adaptive = against.at_temperature

    def train(self, made: Comparison, module: nn.Module, checkpoint: Path) -> None:
        x, config = made.train.x, made.config

        def hot(network: nn.Module) -> PyTorchClassifier:
            probabilities = nn.Sequential(against.Scaled(network, config.temperature), nn.Softmax(1))
            return made.stock(probabilities, optimizer=made.adam(network), loss=SoftCrossEntropy())

        teacher, student = hot(made.network()), hot(module)
        teacher.fit(x, made.one_hot(), **made.schedule())
        DefensiveDistillation(teacher, **made.schedule())(x, student)


class SoftCrossEntropy(nn.Module):
    """Cross-entropy of probabilities (N, classes) with soft labels of the same shape."""

    def forward(self, p: Tensor, y: Tensor) -> Tensor:
        return -(y * p.clamp_min(1e-30).log()).sum(1).mean()


class OnFgsm(ByArt):
    name = "adversarial-training"
    text = "AdversarialTrainer: FGSM images replace half of each batch"

    def trainer(self, made: Comparison, classifier: PyTorchClassifier) -> AdversarialTrainer:
        return AdversarialTrainer(classifier, FastGradientMethod(classifier, eps=made.bounds.fit_eps), ratio=0.5)


class OnPgd(ByArt):
    name = "madry-pgd"
    text = "AdversarialTrainerMadryPGD: PGD images replace each batch"

    def trainer(self, made: Comparison, classifier: PyTorchClassifier) -> AdversarialTrainerMadryPGD:
        eps = made.bounds.fit_eps
        return AdversarialTrainerMadryPGD(classifier, eps=eps, eps_step=eps / 4, max_iter=made.config.fit_steps)


class Trades(ByArt):
    name = "trades"
    text = "AdversarialTrainerTRADES: the loss on clean images and the divergence to attacked ones"
    note = "its images come from PGD on the cross-entropy, those of the paper from PGD on the divergence"

    def trainer(self, made: Comparison, classifier: PyTorchClassifier) -> AdversarialTrainerTRADESPyTorch:
        pgd = attacks.create("pgd", classifier, made.bounds.fit_eps, max_iter=made.config.fit_steps)
        return AdversarialTrainerTRADESPyTorch(classifier, pgd, made.config.trades_beta)


class FastIsBetterThanFree(ByArt):
    name = "fbf"
    text = "AdversarialTrainerFBF: one random step an image, fast learning rates"
    note = "ART's never puts the network into training mode, so batch norm keeps the statistics that it began with"

    def trainer(self, made: Comparison, classifier: PyTorchClassifier) -> AdversarialTrainerFBFPyTorch:
        module = classifier.model  # the trainer sets learning rates that are fit for SGD
        sgd = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
        return AdversarialTrainerFBFPyTorch(made.stock(module, optimizer=sgd), eps=made.bounds.fit_eps)


class ByUs(Network):
    """A network that one of our trainers trains."""

    library = "advbench"

    @abstractmethod
    def trainer(self, made: Comparison, classifier: PyTorchClassifier) -> Any: ...

    def train(self, made: Comparison, module: nn.Module, checkpoint: Path) -> History:
        trainer = self.trainer(made, made.wrapped(module, made.spec, optimizer=made.adam(module)))
        images, seed = made.train, made.study.seed_of("order")
        return trainer.fit(images.x, images.y, **made.schedule(), seed=seed, checkpoint=checkpoint)


class Weighted(ByUs):
    name = "weighted"
    text = "half the loss on clean, half on FGSM images"

    def trainer(self, made: Comparison, classifier: PyTorchClassifier) -> trainers.WeightedAdversarialTrainer:
        fgsm = FastGradientMethod(classifier, eps=made.bounds.fit_eps)
        return trainers.WeightedAdversarialTrainer(classifier, [fgsm], (0.5, 0.5))


class Mixed(ByUs):
    name = "mixed"
    text = "clean and FGSM images in one batch"

    def trainer(self, made: Comparison, classifier: PyTorchClassifier) -> trainers.MixedAdversarialTrainer:
        return trainers.MixedAdversarialTrainer(classifier, FastGradientMethod(classifier, eps=made.bounds.fit_eps))


class Alternating(ByUs):
    name = "alternating"
    text = "an attacking network learns along, batch by batch"

    def trainer(self, made: Comparison, classifier: PyTorchClassifier) -> trainers.AlternatingTrainer:
        eps, width = made.bounds.fit_eps, made.config.attacker_width
        same = {"lr": made.config.lr, "seed": made.study.seed_of("alternating")}
        attack = GANAttack(classifier, eps, clip=True, width=width, **same)
        return trainers.AlternatingTrainer(classifier, attack, clean_share=0.5, **same)


class Aligned(ByUs):
    name = "fgsm-rs-gradalign"
    text = "FGSM from a random start, with gradients that keep their direction within the bound"
    note = "lambda is the paper's for CIFAR-10 and stays at 2 beyond 16/255"

    def trainer(self, made: Comparison, classifier: PyTorchClassifier) -> trainers.GradAlignTrainer:
        return trainers.GradAlignTrainer(classifier, made.bounds.fit_eps)


class Lipschitz(Undefended):
    name, model = "lipschitz", "lipschitz"
    kind: Kind = "training"
    text = "every layer of norm one: a known Lipschitz constant and a certified l2 radius"
    note = "a network of its own, not that of the other rows"

    def train(self, made: Comparison, module: LipschitzCNN, checkpoint: Path) -> History:
        history = super().train(made, module, checkpoint)
        module.settle()
        return history


TRAININGS = (
    *(Augmentation(), Distillation(), OnFgsm(), OnPgd(), Trades(), FastIsBetterThanFree()),
    *(Weighted(), Mixed(), Alternating(), Aligned(), Lipschitz()),
)
