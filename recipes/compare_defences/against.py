"""The attacks that know the defence; a defence takes one of these functions as its method ``adaptive``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import attacks
from advbench.attacks import OrthogonalPGD, SelectivePGD
from advbench.detectors import SubnetworkDetector
from advbench.recipes.compare_defences.materials import Adversarial, Comparison, Defence, Defended
from advbench.study import Training

TEXTS = {
    "pgd-restarts": "white-box PGD from several starts",
    "bpda": "PGD from several starts through the real preprocessor, with the identity in its place on the way back",
    "pgd-scaled-logits": "PGD from several starts on logits divided by the temperature, where gradients do not vanish",
    "pgd-expectation": "PGD from several starts through the reformer, each gradient a mean over draws; the reformer is "
    "random: each figure is one draw an image, and the worst case counts every draw",
    "selective-pgd": "on classifier and detector at once",
    "orthogonal-pgd": "on classifier and detector at once",
    "selected-pgd": "of many PGD images the one that the detector suspects least, for detectors from whose score no gradient "
    "reaches the image; a best effort: its failure does not show that such a detector holds",
    "surrogate-detector": "selective PGD on a detector that imitates the real one, a best effort as well",
}
"""What each attack does."""


class Scaled(nn.Module):
    """A network whose logits are divided by a temperature: the same decisions, gradients that do not vanish."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) / self.temperature


def restarts(defence: Defence, made: Comparison, defended: Defended, eps: float) -> Adversarial:
    """PGD with restarts on the network itself, which gives all its gradients (Madry et al., 2018)."""
    return {"pgd-restarts": _restarted(made, defended, _pgd(made, defended.network, eps))}


def at_temperature(defence: Defence, made: Comparison, defended: Defended, eps: float) -> Adversarial:
    """PGD with restarts on logits divided by the temperature of training (Carlini & Wagner, 2016), and on them as they are."""
    scaled = made.wrapped(Scaled(defended.network.model, made.config.temperature), made.spec)
    found = _restarted(made, defended, _pgd(made, scaled, eps))
    return {"pgd-scaled-logits": found, **restarts(defence, made, defended, eps)}


def bpda(defence: Defence, made: Comparison, defended: Defended, eps: float) -> Adversarial:
    """PGD with restarts through the real preprocessor, with the identity in its place backward (Athalye et al., 2018)."""
    target, options = defended.classifier, {"num_random_init": 1, "batch_size": 128, "verbose": False}
    pgd = ProjectedGradientDescent(target, np.inf, eps, eps / 4, max_iter=made.config.adaptive_steps, **options)
    return {"bpda": _restarted(made, defended, pgd)}


def end_to_end(defence: Defence, made: Comparison, defended: Defended, eps: float) -> Adversarial:
    """PGD with restarts through a random defence; its estimator averages gradients over draws (Athalye et al., 2018)."""
    return {"pgd-expectation": _restarted(made, defended, _pgd(made, defended.classifier, eps))}


def _pgd(made: Comparison, target: PyTorchClassifier, eps: float) -> EvasionAttack:
    return attacks.create("pgd", target, eps, max_iter=made.config.adaptive_steps)


def _restarted(made: Comparison, defended: Defended, attack: EvasionAttack) -> np.ndarray:
    """Each image after the first start that beat the defence, or after the last."""
    x, y = made.test.x, made.test.y
    found, left = np.array(x), np.arange(len(x))
    for _ in range(made.config.restarts):
        found[left] = attack.generate(x[left], y[left])
        left = left[~defended.beaten(found[left], y[left])]
        if not len(left):
            break
    return found


def joint_gradients(defence: Defence, made: Comparison, defended: Defended, eps: float) -> Adversarial:
    """Selective and orthogonal PGD on classifier and detector at once (Bryniarski et al., 2021)."""
    both, steps = (defended.network, defended.detector.detector), made.config.joint_steps
    kinds = {"selective-pgd": SelectivePGD, "orthogonal-pgd": OrthogonalPGD}
    found = {kind: attack(*both, eps=eps, max_iter=steps) for kind, attack in kinds.items()}
    return {kind: attack.generate(made.test.x, made.test.y) for kind, attack in found.items()}


def gradient_free(defence: Defence, made: Comparison, defended: Defended, eps: float) -> Adversarial:
    """The attacks that are possible where no gradient of the detector reaches the image.

    Of PGD runs on the classifier from random starts, stopped early or late, the image that the detector suspects least;
    and selective PGD on a surrogate detector that was trained to rank images as the detector does.
    """
    x, y, steps = made.test.x, made.test.y, made.config.joint_steps
    lowest, selected = np.full(len(x), np.inf), np.array(x)
    for attempt in range(4 * made.config.restarts):
        stop = max(1, steps >> (3 - attempt % 4))  # an eighth, a quarter, a half and all of the steps
        candidates = attacks.create("pgd", defended.network, eps, max_iter=stop).generate(x, y)
        scores = np.where(defended.wrong(candidates, y), defended.detector.scores(candidates), np.inf)
        better = scores < lowest
        lowest[better], selected[better] = scores[better], candidates[better]
    attack = SelectivePGD(defended.network, _surrogate(made, defence.name, defended), eps=eps, max_iter=steps)
    return {"selected-pgd": selected, "surrogate-detector": attack.generate(x, y)}


def _surrogate(made: Comparison, name: str, defended: Defended) -> SubnetworkDetector:
    """A subnetwork at the tap that tells the half of the images which the detector suspects more from the other half."""
    config, seed = made.config, made.study.seed_of("surrogate", name)

    def train(checkpoint: Path) -> Training:
        x, _ = made.labelled()
        rank = defended.detector.scores(x).argsort(kind="stable").argsort(kind="stable")
        suspected = (rank >= len(x) // 2).astype(np.int64)
        surrogate = SubnetworkDetector(made.baseline, config.position, config.lr, seed)
        history = surrogate.fit(x, suspected, **made.schedule(config.detector_epochs), checkpoint=checkpoint)
        return surrogate.save, history

    return SubnetworkDetector.load(made.run.trained(f"surrogate-{name}", train), made.baseline)
