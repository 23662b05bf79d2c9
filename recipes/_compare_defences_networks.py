"""The defences of ``compare_defences`` that stand before the undefended network or take its place."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.attacks.evasion import FastGradientMethod
from art.defences.preprocessor import FeatureSqueezing, GaussianAugmentation, JpegCompression, SpatialSmoothing
from art.defences.preprocessor.preprocessor import Preprocessor
from art.defences.trainer import (
    AdversarialTrainer,
    AdversarialTrainerFBFPyTorch,
    AdversarialTrainerMadryPGD,
    AdversarialTrainerTRADESPyTorch,
)
from art.defences.transformer.evasion import DefensiveDistillation
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench.attacks import GANAttack
from advbench.attacks.registry import create
from advbench.estimators import expectation
from advbench.models.lipschitz import LipschitzCNN
from advbench.preprocessors import VAEReformer
from advbench.recipes import _compare_defences_attacks as against
from advbench.recipes._compare_defences_lab import Attack, Defence, Defended, History, Kind, Laboratory, Library
from advbench.trainers import (
    AlternatingTrainer,
    GradAlignTrainer,
    MixedAdversarialTrainer,
    WeightedAdversarialTrainer,
    train_with_adam,
)


class FeatureSqueezing32(FeatureSqueezing):
    """ART's, its result in float32: under NumPy 2 it is float64, which the network refuses."""

    def __call__(self, x: np.ndarray, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        squeezed, y = super().__call__(x, y)
        return squeezed.astype(np.float32), y


def preprocessing(make: Callable[[Laboratory], Preprocessor], says: str, note: str = "") -> Defence:
    """A row: one of ART's preprocessors in the chain of the undefended network's estimator."""

    def defend(lab: Laboratory, module: None) -> Defended:
        return Defended(lab.stock(lab.undefended.model, preprocessor=make(lab)), lab.undefended)

    return Defence("preprocessor", "art", says, defend, against.bpda, note=note)


def jpeg(lab: Laboratory) -> Preprocessor:
    return JpegCompression((0.0, 1.0), lab.config.jpeg_quality, channels_first=True)


def squeezing(lab: Laboratory) -> Preprocessor:
    return FeatureSqueezing32((0.0, 1.0), lab.bounds.bit_depth)


def smoothing(lab: Laboratory) -> Preprocessor:
    return SpatialSmoothing(lab.config.smoothing_window, channels_first=True, clip_values=(0.0, 1.0))


def reformer(says: str) -> Defence:
    """A row: our VAE before the undefended network, gradients averaged over draws of its latent space."""

    def fresh(lab: Laboratory) -> nn.Module:
        return _reformer(lab).network

    def train(lab: Laboratory, module: nn.Module, checkpoint: Path) -> History:
        config, vae = lab.config, _reformer(lab)
        vae.network = module
        return vae.train(
            lab.train.x,
            config.batch,
            config.epochs,
            config.lr,
            seed=lab.study.seed_of("reformer order"),
            checkpoint=checkpoint,
        )

    def defend(lab: Laboratory, module: nn.Module) -> Defended:
        whole = nn.Sequential(module, lab.undefended.model).eval()
        judge = expectation(whole, lab.spec.input_shape, lab.spec.classes, lab.config.draws, lab.study.device)
        return Defended(judge, lab.undefended)

    return Defence("preprocessor", "advbench", says, defend, against.end_to_end, fresh, train)


def _reformer(lab: Laboratory) -> VAEReformer:
    return VAEReformer(lab.spec.input_shape, device=str(lab.study.device), seed=lab.study.seed_of("reformer"))


def training(
    library: Library,
    train: Callable[[Laboratory, Any, Path], History],
    says: str,
    attack: Attack,
    note: str = "",
    kind: Kind = "training",
    model: str | None = None,
) -> Defence:
    """A row: a network that was trained so, from the weights that all networks start from; of another kind if named."""

    def defend(lab: Laboratory, module: nn.Module) -> Defended:
        classifier = lab.classifier(module)
        return Defended(classifier, classifier)

    return Defence(kind, library, says, defend, attack, partial(Laboratory.network, model=model), train, note, model)


def clean(lab: Laboratory, module: nn.Module, checkpoint: Path) -> History:
    """The undefended network."""
    config = lab.config
    return train_with_adam(
        lab.classifier(module),
        lab.train.x,
        lab.train.y,
        batch_size=config.batch,
        nb_epochs=config.epochs,
        lr=config.lr,
        seed=lab.study.seed_of("none"),
        checkpoint=checkpoint,
    )


def bounded(lab: Laboratory, module: LipschitzCNN, checkpoint: Path) -> History:
    """The network of known Lipschitz constant, on clean images."""
    history = clean(lab, module, checkpoint)
    module.settle()
    return history


def with_art(make: Callable[[Laboratory, PyTorchClassifier], Any], sgd: bool = False) -> Callable[..., History]:
    """A training by one of ART's trainers, or by ART's estimator itself."""

    def train(lab: Laboratory, module: nn.Module, checkpoint: Path) -> History:
        optimizer = lab.adam(module)
        if sgd:  # for a trainer that sets learning rates fit for it
            optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
        trainer = make(lab, lab.stock(module, optimizer))
        with redirect_stderr(io.StringIO()):  # ART's progress bars, which take no order to be still
            trainer.fit(lab.train.x, lab.one_hot(lab.train.y), batch_size=lab.config.batch, nb_epochs=lab.config.epochs)
        return None

    return train


def augmentation(lab: Laboratory, classifier: PyTorchClassifier) -> PyTorchClassifier:
    noise = GaussianAugmentation(lab.bounds.sigma, augmentation=True, ratio=1.0, clip_values=(0.0, 1.0))
    return lab.stock(classifier.model, classifier.optimizer, preprocessor=noise)


def on_fgsm(lab: Laboratory, classifier: PyTorchClassifier) -> AdversarialTrainer:
    return AdversarialTrainer(classifier, FastGradientMethod(classifier, eps=lab.bounds.fit_eps), ratio=0.5)


def on_pgd(lab: Laboratory, classifier: PyTorchClassifier) -> AdversarialTrainerMadryPGD:
    eps = lab.bounds.fit_eps
    return AdversarialTrainerMadryPGD(classifier, eps=eps, eps_step=eps / 4, max_iter=lab.config.fit_steps)


def trades(lab: Laboratory, classifier: PyTorchClassifier) -> AdversarialTrainerTRADESPyTorch:
    attack = create("pgd", classifier, lab.bounds.fit_eps, max_iter=lab.config.fit_steps)
    return AdversarialTrainerTRADESPyTorch(classifier, attack, lab.config.trades_beta)


def fast(lab: Laboratory, classifier: PyTorchClassifier) -> AdversarialTrainerFBFPyTorch:
    return AdversarialTrainerFBFPyTorch(classifier, eps=lab.bounds.fit_eps)


class Probabilities(nn.Module):
    """Softmax of a network's logits at a temperature."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, x: Tensor) -> Tensor:
        return (self.network(x) / self.temperature).softmax(1)


class SoftCrossEntropy(nn.Module):
    """Cross-entropy of probabilities (N, classes) with soft labels of the same shape."""

    def forward(self, p: Tensor, y: Tensor) -> Tensor:
        return -(y * p.clamp_min(1e-30).log()).sum(1).mean()


def distilled(lab: Laboratory, module: nn.Module, checkpoint: Path) -> History:
    """Teacher and student at the temperature (Papernot et al., 2016); the student is used at temperature 1."""
    config = lab.config

    def hot(network: nn.Module) -> PyTorchClassifier:
        return lab.stock(Probabilities(network, config.temperature), lab.adam(network), SoftCrossEntropy())

    teacher, student = hot(lab.network()), hot(module)
    teacher.fit(lab.train.x, lab.one_hot(lab.train.y), batch_size=config.batch, nb_epochs=config.epochs)
    DefensiveDistillation(teacher, config.batch, config.epochs)(lab.train.x, student)
    return None


def with_ours(make: Callable[[Laboratory, PyTorchClassifier], Any]) -> Callable[..., History]:
    """A training by one of our trainers."""

    def train(lab: Laboratory, module: nn.Module, checkpoint: Path) -> History:
        classifier = lab.classifier(module, optimizer=lab.adam(module))
        return make(lab, classifier).fit(
            lab.train.x,
            lab.train.y,
            batch_size=lab.config.batch,
            nb_epochs=lab.config.epochs,
            seed=lab.study.seed_of("order"),
            checkpoint=checkpoint,
        )

    return train


def weighted(lab: Laboratory, classifier: PyTorchClassifier) -> WeightedAdversarialTrainer:
    fgsm = FastGradientMethod(classifier, eps=lab.bounds.fit_eps)
    return WeightedAdversarialTrainer(classifier, [fgsm], (0.5, 0.5))


def mixed(lab: Laboratory, classifier: PyTorchClassifier) -> MixedAdversarialTrainer:
    return MixedAdversarialTrainer(classifier, FastGradientMethod(classifier, eps=lab.bounds.fit_eps))


def aligned(lab: Laboratory, classifier: PyTorchClassifier) -> GradAlignTrainer:
    return GradAlignTrainer(classifier, lab.bounds.fit_eps)


def alternating(lab: Laboratory, classifier: PyTorchClassifier) -> AlternatingTrainer:
    config, seed = lab.config, lab.study.seed_of("alternating")
    attack = GANAttack(classifier, lab.bounds.fit_eps, clip=True, width=config.attacker_width, lr=config.lr, seed=seed)
    return AlternatingTrainer(classifier, attack, clean_share=0.5, lr=config.lr, seed=seed)
