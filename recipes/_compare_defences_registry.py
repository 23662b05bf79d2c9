"""The rows of ``compare_defences``: how each defence is made, and which attack knows it."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.attacks.evasion import FastGradientMethod
from art.defences.detector.evasion import (
    BeyondDetectorPyTorch,
    BinaryActivationDetector,
    BinaryInputDetector,
    SubsetScanningDetector,
)
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
from advbench.detectors import SubnetworkDetector
from advbench.detectors.network import DetectorSubnetwork
from advbench.recipes import _compare_defences_attacks as against
from advbench.recipes import _compare_defences_beyond as beyond
from advbench.recipes._compare_defences_lab import Attack, Defence, Defended, Laboratory
from advbench.seeds import own_global_state
from advbench.trainers import (
    AlternatingTrainer,
    MixedAdversarialTrainer,
    WeightedAdversarialTrainer,
    train_with_adam,
)

History = list[dict[str, Any]] | None
NO_GRADIENT = "no gradient of its score reaches the image: the adaptive attack is a best effort without one"


# preprocessors, put before the undefended network


class FeatureSqueezing32(FeatureSqueezing):
    """ART's, its result in float32: under NumPy 2 it is float64, which the network refuses."""

    def __call__(self, x: np.ndarray, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        squeezed, y = super().__call__(x, y)
        return squeezed.astype(np.float32), y


def preprocessing(make: Callable[[Laboratory], Preprocessor], says: str, note: str = "") -> Defence:
    def defend(lab: Laboratory, module: None) -> Defended:
        return Defended(lab.stock(lab.undefended.model, preprocessor=make(lab)), lab.undefended)

    return Defence("preprocessor", "art", says, defend, against.bpda, note=note)


def jpeg(lab: Laboratory) -> Preprocessor:
    return JpegCompression((0.0, 1.0), lab.config.jpeg_quality, channels_first=True)


def squeezing(lab: Laboratory) -> Preprocessor:
    return FeatureSqueezing32((0.0, 1.0), lab.bounds.bit_depth)


def smoothing(lab: Laboratory) -> Preprocessor:
    return SpatialSmoothing(lab.config.smoothing_window, channels_first=True, clip_values=(0.0, 1.0))


# trainings, from the weights that the undefended network started from


def training(
    library: str, train: Callable[[Laboratory, Any, Path], History], says: str, attack: Attack, note: str = ""
) -> Defence:
    def defend(lab: Laboratory, module: nn.Module) -> Defended:
        classifier = lab.classifier(module)
        return Defended(classifier, classifier)

    kind = "training" if train is not clean else "none"
    return Defence(kind, library, says, defend, attack, Laboratory.network, train, note)


def clean(lab: Laboratory, module: nn.Module, checkpoint: Path) -> History:
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


def with_art(make: Callable[[Laboratory, PyTorchClassifier], Any], sgd: bool = False) -> Callable[..., History]:
    """A training by one of ART's trainers, or by ART's estimator itself."""

    def train(lab: Laboratory, module: nn.Module, checkpoint: Path) -> History:
        slow = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, weight_decay=5e-4) if sgd else lab.adam(module)
        trainer = make(lab, lab.stock(module, slow))
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


def alternating(lab: Laboratory, classifier: PyTorchClassifier) -> AlternatingTrainer:
    config, seed = lab.config, lab.study.seed_of("alternating")
    attack = GANAttack(classifier, lab.bounds.fit_eps, clip=True, width=config.attacker_width, lr=config.lr, seed=seed)
    return AlternatingTrainer(classifier, attack, clean_share=0.5, lr=config.lr, seed=seed)


# detectors, put beside the undefended network


@dataclass(frozen=True)
class Scored:
    """A detector with one number an image (N,), high for adversarial."""

    detector: Any
    score: Callable[[Any, np.ndarray], np.ndarray]

    def scores(self, x: np.ndarray) -> np.ndarray:
        return self.score(self.detector, np.array(x))


def detector(
    library: str,
    make: Callable[[Laboratory, Any], Any],
    score: Callable[[Any, np.ndarray], np.ndarray],
    says: str,
    attack: Attack,
    network: Callable[[Laboratory], nn.Module] | None = None,
    fit: Callable[[Laboratory, Any, Path], History] | None = None,
    note: str = "",
) -> Defence:
    def defend(lab: Laboratory, module: Any) -> Defended:
        scored = Scored(make(lab, module), score)
        return Defended(lab.undefended, lab.undefended, scored, lab.threshold(scored))

    def train(lab: Laboratory, module: Any, checkpoint: Path) -> History:
        assert fit is not None
        return fit(lab, module, checkpoint)

    return Defence("detector", library, says, defend, attack, network, train, note)


def fit_binary(make: Callable[[Laboratory, Any], Any]) -> Callable[[Laboratory, Any, Path], History]:
    """The training of ART's binary detectors."""

    def fit(lab: Laboratory, module: Any, checkpoint: Path) -> History:
        x, y = lab.labelled()
        hot = np.eye(2, dtype=np.float32)[y]
        make(lab, module).fit(x, hot, batch_size=lab.config.batch, nb_epochs=lab.config.detector_epochs)
        return None

    return fit


def margin(binary: Any, x: np.ndarray) -> np.ndarray:
    """The logit of adversarial less that of clean."""
    logits = binary.detect(x)[0]["predictions"]
    return logits[:, 1] - logits[:, 0]


def on_input(lab: Laboratory, module: nn.Module) -> BinaryInputDetector:
    return BinaryInputDetector(lab.stock(module, lab.adam(module), classes=2))


def layered(lab: Laboratory) -> PyTorchClassifier:
    """The undefended network as a sequence, the only form whose inner layers ART finds."""
    network = lab.undefended.model
    return lab.stock(nn.Sequential(*network.stages, network.head))


def tap_shape(lab: Laboratory) -> tuple[int, ...]:
    with torch.no_grad():
        zero = torch.zeros(1, *lab.spec.input_shape, device=lab.study.device)
        return tuple(lab.network().features(zero, lab.config.position).shape[1:])


def on_tap(lab: Laboratory, module: nn.Module) -> BinaryActivationDetector:
    binary = lab.stock(module, lab.adam(module), classes=2, shape=tap_shape(lab))
    return BinaryActivationDetector(layered(lab), binary, str(lab.config.position - 1))


def tap_network(lab: Laboratory) -> nn.Module:
    channels, height, _ = tap_shape(lab)
    with own_global_state(lab.study.seed_of("binary-activation")):
        return DetectorSubnetwork(channels, height).to(lab.study.device)


def scanning(lab: Laboratory, module: None) -> SubsetScanningDetector:
    background = lab.train.first(lab.config.detector_images).x
    last = str(len(lab.undefended.model.stages) - 1)
    return SubsetScanningDetector(layered(lab), background, last, verbose=False)


def supervised(lab: Laboratory) -> beyond.SelfSupervised:
    shape, classes = lab.spec.input_shape, lab.spec.classes
    return beyond.SelfSupervised(lab.network(), shape, classes, lab.study.seed_of("beyond"))


def fit_beyond(lab: Laboratory, module: beyond.SelfSupervised, checkpoint: Path) -> History:
    config, seed = lab.config, lab.study.seed_of("beyond")
    beyond.train(module, lab.train.x, lab.train.y, config.batch, config.epochs, config.lr, seed)
    return None


def with_views(lab: Laboratory, module: beyond.SelfSupervised) -> BeyondDetectorPyTorch:
    views = lab.config.beyond_views
    found = BeyondDetectorPyTorch(
        lab.stock(copy.deepcopy(lab.undefended.model)),  # it moves what it is given to a GPU where there is one
        lab.stock(module),
        beyond.augmented,
        aug_num=views,
        var_K=max(1, round(0.4 * views)),
    )
    found.device = lab.study.device
    module.to(lab.study.device)
    found.threshold = 0.0  # ours is fixed on the scores; without one it refuses to score
    return found


def dissimilarity(detector: BeyondDetectorPyTorch, x: np.ndarray) -> np.ndarray:
    """Less the K-th largest similarity of an image's views with it, always of the same random views."""
    with own_global_state():
        return -detector.detect(x)[0]


def subnetwork(lab: Laboratory, module: nn.Module | None = None) -> SubnetworkDetector:
    config = lab.config
    made = SubnetworkDetector(lab.undefended, config.position, config.lr, lab.study.seed_of("subnetwork"))
    if module is not None:
        made.subnetwork = module
    return made


def fresh_subnetwork(lab: Laboratory) -> nn.Module:
    return subnetwork(lab).subnetwork


def fit_static(lab: Laboratory, module: nn.Module, checkpoint: Path) -> History:
    config = lab.config
    return subnetwork(lab, module).fit(
        *lab.labelled(), batch_size=config.batch, nb_epochs=config.detector_epochs, checkpoint=checkpoint
    )


def fit_dynamic(lab: Laboratory, module: nn.Module, checkpoint: Path) -> History:
    config, eps = lab.config, lab.bounds.fit_eps
    images = lab.train.first(config.detector_images)
    return subnetwork(lab, module).fit_dynamic(
        images.x,
        images.y,
        batch_size=config.batch,
        nb_epochs=config.dynamic_epochs,
        eps=eps,
        eps_step=eps / 4,
        max_iter=config.fit_steps,
        checkpoint=checkpoint,
    )


DEFENCES = {
    "none": training("advbench", clean, "Adam on clean images", against.restarts),
    "jpeg-compression": preprocessing(jpeg, "JpegCompression: every image is stored as a JPEG first"),
    "feature-squeezing": preprocessing(
        squeezing,
        "FeatureSqueezing: fewer bits a pixel",
        "ART's returns float64 under NumPy 2, which a float32 network refuses: its result is cast to float32 here",
    ),
    "spatial-smoothing": preprocessing(smoothing, "SpatialSmoothing: the median of each pixel's neighbours"),
    "gaussian-augmentation": training(
        "art", with_art(augmentation), "GaussianAugmentation: noisy copies join the training images", against.restarts
    ),
    "defensive-distillation": training(
        "art",
        distilled,
        "DefensiveDistillation: a student learns a teacher's probabilities at a high temperature",
        against.at_temperature,
    ),
    "adversarial-training": training(
        "art", with_art(on_fgsm), "AdversarialTrainer: FGSM images replace half of each batch", against.restarts
    ),
    "madry-pgd": training(
        "art", with_art(on_pgd), "AdversarialTrainerMadryPGD: PGD images replace each batch", against.restarts
    ),
    "trades": training(
        "art",
        with_art(trades),
        "AdversarialTrainerTRADES: the loss on clean images and the divergence to attacked ones",
        against.restarts,
        "its images come from PGD on the cross-entropy, those of the paper from PGD on the divergence",
    ),
    "fbf": training(
        "art",
        with_art(fast, sgd=True),
        "AdversarialTrainerFBF: one random step an image, fast learning rates",
        against.restarts,
        "ART's never puts the network into training mode, so batch norm keeps the statistics that it began with",
    ),
    "weighted": training(
        "advbench", with_ours(weighted), "half the loss on clean, half on FGSM images", against.restarts
    ),
    "mixed": training("advbench", with_ours(mixed), "clean and FGSM images in one batch", against.restarts),
    "alternating": training(
        "advbench", with_ours(alternating), "an attacking network learns along, batch by batch", against.restarts
    ),
    "binary-input": detector(
        "art",
        on_input,
        margin,
        "BinaryInputDetector: a second network on the image",
        against.joint_gradients,
        lambda lab: lab.network(2),
        fit_binary(on_input),
    ),
    "binary-activation": detector(
        "art",
        on_tap,
        margin,
        "BinaryActivationDetector: a second network on inner activations",
        against.gradient_free,
        tap_network,
        fit_binary(on_tap),
        f"{NO_GRADIENT}; ART takes the activations through NumPy",
    ),
    "subset-scanning": detector(
        "art",
        scanning,
        lambda scan, x: scan.detect(x)[0]["scores"],
        "SubsetScanningDetector: unusually many unusual activations at the last tap",
        against.gradient_free,
        note=f"{NO_GRADIENT}; it counts activations",
    ),
    "beyond": detector(
        "art",
        with_views,
        dissimilarity,
        "BeyondDetector: augmented copies of an image must look alike to a self-supervised network",
        against.gradient_free,
        supervised,
        fit_beyond,
        f"{NO_GRADIENT}; ART's never asks the classifier, the label that copies must agree on is the second network's own",
    ),
    "ad-static": detector(
        "advbench",
        subnetwork,
        lambda ours, x: ours.scores(x),
        "AD(k): a subnetwork on inner activations (Metzen et al., 2017)",
        against.joint_gradients,
        fresh_subnetwork,
        fit_static,
    ),
    "ad-dynamic": detector(
        "advbench",
        subnetwork,
        lambda ours, x: ours.scores(x),
        "AD(k), trained against an adversary that attacks it as it learns",
        against.joint_gradients,
        fresh_subnetwork,
        fit_dynamic,
    ),
}
"""In the order of the page; no defence first."""
