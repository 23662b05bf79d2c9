"""The defences that report 003 and its neighbours name as future work, each attacked by somebody who knows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import ProjectedGradientDescentNumpy
from art.defences.preprocessor import GaussianAugmentation, JpegCompression
from torch import nn

from advbench import attacks, estimators, evaluation, models
from advbench.expectation import expectation
from advbench.models.lipschitz import LipschitzCNN
from advbench.preprocessors import VAEReformer
from advbench.recipes._weighted_cifar_lab import STANDARD, Laboratory, training_images
from advbench.runs import Training
from advbench.seeds import derive, own_global_state
from advbench.study import Study
from advbench.trainers import WeightedAdversarialTrainer

Defence = Literal["gaussian", "lipschitz", "reformer", "jpeg"]

SIGMA = 0.1
QUALITY = 75
DRAWS = 10
CERTIFIED = 36 / 255
"""The l2 radius at which certificates on CIFAR-10 are usually compared."""

KNOWN = {
    "gaussian": f"trained on clean images and as many with Gaussian noise of {SIGMA:g}; adaptive is PGD on it",
    "lipschitz": "a network of known Lipschitz constant; adaptive is PGD on it",
    "reformer": f"a VAE in front of the undefended network; adaptive is PGD through both, gradients over {DRAWS} draws",
    "jpeg": f"JPEG of quality {QUALITY} in front of the undefended network; adaptive is PGD that takes it for the identity",
}


def train_defence(study: Study, item: tuple[Defence, int]) -> None:
    """What a defence has to learn; JPEG learns nothing."""
    defence, seed = item
    if defence != "jpeg":
        study.run.trained(_stage(defence, seed), lambda checkpoint: _train(study, defence, seed, checkpoint))


def _train(study: Study, defence: Defence, seed: int, checkpoint: Path) -> Training:
    config, images = study.config, training_images(study)
    epochs, order = config.defence_epochs, derive(seed, defence, "batches")
    if defence == "reformer":
        reformer = VAEReformer(images.x.shape[1:], device=str(study.device), seed=derive(seed, defence))
        return reformer.save, reformer.train(images.x, nb_epochs=epochs, seed=order, checkpoint=checkpoint)
    name = "lipschitz" if defence == "lipschitz" else "small-cnn"
    spec = models.ModelSpec(name, images.x.shape[1:], len(study.train.classes), (0.0,), (1.0,))
    module = models.create(spec, derive(seed, name)).to(study.device)
    optimizer = torch.optim.Adam(module.parameters(), 1e-3, fused=True)
    classifier = estimators.classifier(module, spec.input_shape, spec.classes, device=study.device, optimizer=optimizer)
    x, y = images.x, images.y
    if defence == "gaussian":
        with own_global_state(derive(seed, "noise")):
            x, y = GaussianAugmentation(SIGMA, ratio=1.0, clip_values=(0.0, 1.0))(x, y)
    trainer = WeightedAdversarialTrainer(classifier, [], (1.0,))
    history = trainer.fit(
        x, y, batch_size=config.batch, nb_epochs=epochs, seed=order, checkpoint=checkpoint, label=_stage(defence, seed)
    )
    if isinstance(module, LipschitzCNN):
        module.settle()
    return lambda path: models.save(path, module, spec), history


def _stage(defence: Defence, seed: int) -> str:
    return f"defence-{defence}-seed{seed}"


def defences(lab: Laboratory, defence: Defence) -> Iterator[dict[str, Any]]:
    """Accuracy clean, under PGD on the undefended network (naive), and under PGD that knows the defence (adaptive)."""
    config, seed = lab.config, lab.study.seed
    eps, images = config.reference_eps, lab.test.first(config.strong_images)
    judge, adaptive = _defended(lab, defence, eps)
    naive = attacks.create("pgd", lab.classifier(STANDARD, seed), eps, max_iter=config.pgd_iterations, batch_size=500)
    figures = {}
    with own_global_state(lab.study.seed_of("defence", defence)):
        for name, attack in (("clean", None), ("naive", naive), ("adaptive", adaptive)):
            x = images.x if attack is None else attack.generate(images.x, images.y)
            figures[name] = evaluation.accuracy(judge.predict(x, batch_size=500).argmax(1), images.y)
    figures["gap"] = evaluation.difference(figures["naive"], figures["adaptive"])
    common = {"exhibit": "defences", "split": "test", "defence": defence, "seed": seed}
    for name, figure in figures.items():
        attacked = {} if name == "clean" else {"attack": name, "norm": "linf", "eps": eps}
        yield figure.row("accuracy" if name != "gap" else "gap", **common, **attacked)
    if isinstance(judge.model, LipschitzCNN):
        bound = judge.model.lipschitz_bound()
        certified = evaluation.certified_accuracy(
            judge.predict(lab.test.x, batch_size=500), lab.test.y, bound, CERTIFIED
        )
        yield certified.row("certified_accuracy", **common, attack="any", norm="l2", eps=CERTIFIED)
        yield evaluation.Figure(bound, 1).row("lipschitz_bound", **common)


def _defended(lab: Laboratory, defence: Defence, eps: float) -> tuple[estimators.TorchClassifier, EvasionAttack]:
    """The defended classifier, which judges, and PGD by somebody who knows all of it."""
    seed, steps, device = lab.study.seed, lab.config.pgd_iterations, lab.study.device
    undefended, path = (
        lab.classifier(STANDARD, seed),
        lab.run.directory / "models" / f"{_stage(defence, seed)}.safetensors",
    )
    shape, classes = undefended.input_shape, undefended.nb_classes
    judge: estimators.TorchClassifier
    if defence == "jpeg":
        compression = JpegCompression((0.0, 1.0), QUALITY, channels_first=True, apply_fit=False)
        judge = estimators.TorchClassifier(
            undefended.model,
            nn.CrossEntropyLoss(),
            shape,
            classes,
            preprocessing_defences=[compression],
            device_type="cpu",
        ).to(device)
        # ART's PGD in torch refuses preprocessors that are not; this one passes gradients by as if it were the identity
        bpda = ProjectedGradientDescentNumpy(
            judge, np.inf, eps, eps / 4, max_iter=steps, num_random_init=1, batch_size=500, verbose=False
        )
        return judge, bpda
    if defence == "reformer":
        reformer = VAEReformer.load(path, str(device))
        judge = expectation(reformer.in_front_of(undefended.model), shape, classes, DRAWS, device)
    else:
        module, _ = models.load(path)
        judge = estimators.classifier(module, shape, classes, device=device)
    return judge, attacks.create("pgd", judge, eps, max_iter=steps, batch_size=500)
