"""The attacks of ``compare_defences`` that know the defence, one for each kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from advbench import attacks
from advbench.attacks import OrthogonalPGD, SelectivePGD
from advbench.checkpoint import load_tensors
from advbench.detectors import SubnetworkDetector
from advbench.recipes._compare_defences_lab import Defended, Laboratory
from advbench.study.run import Training

Adversarial = dict[str, np.ndarray]


class Scaled(nn.Module):
    """A network whose logits are divided by a temperature: the same decisions, gradients that do not vanish."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) / self.temperature


def restarts(lab: Laboratory, name: str, defended: Defended, eps: float) -> Adversarial:
    """PGD with restarts on the network itself, whose gradients are all there (Madry et al., 2018)."""
    return {"pgd-restarts": _restarted(lab, defended, _pgd(lab, defended.network, eps))}


def at_temperature(lab: Laboratory, name: str, defended: Defended, eps: float) -> Adversarial:
    """PGD with restarts on logits divided by the temperature of training (Carlini & Wagner, 2016), and on them as they are."""
    source = lab.classifier(Scaled(defended.network.model, lab.config.temperature))
    scaled = _restarted(lab, defended, _pgd(lab, source, eps))
    return {"pgd-scaled-logits": scaled, **restarts(lab, name, defended, eps)}


def bpda(lab: Laboratory, name: str, defended: Defended, eps: float) -> Adversarial:
    """PGD with restarts through the real preprocessor, the identity in its place backward (Athalye et al., 2018)."""
    attack = ProjectedGradientDescent(
        defended.classifier,
        eps=eps,
        eps_step=eps / 4,
        max_iter=lab.config.adaptive_steps,
        num_random_init=1,
        batch_size=128,
        verbose=False,
    )
    return {"bpda": _restarted(lab, defended, attack)}


def end_to_end(lab: Laboratory, name: str, defended: Defended, eps: float) -> Adversarial:
    """PGD with restarts through a random defence, its gradients means over draws (Athalye et al., 2018)."""
    return {"pgd-expectation": _restarted(lab, defended, _pgd(lab, defended.classifier, eps))}


def joint_gradients(lab: Laboratory, name: str, defended: Defended, eps: float) -> Adversarial:
    """Selective and orthogonal PGD on classifier and detector at once (Bryniarski et al., 2021)."""
    kinds = {"selective-pgd": SelectivePGD, "orthogonal-pgd": OrthogonalPGD}
    return {
        kind: attack(defended.network, defended.detector.detector, eps=eps, max_iter=lab.config.joint_steps).generate(
            lab.test.x, lab.test.y
        )
        for kind, attack in kinds.items()
    }


def gradient_free(lab: Laboratory, name: str, defended: Defended, eps: float) -> Adversarial:
    """What can be done where no gradient of the detector reaches the image.

    Of PGD runs on the classifier from random starts, stopped early or late, the image that the detector suspects least;
    and selective PGD on a surrogate detector that was trained to rank images as the detector does.
    """
    x, y, steps = lab.test.x, lab.test.y, lab.config.joint_steps
    lowest, chosen = np.full(len(x), np.inf), np.array(x)
    for attempt in range(4 * lab.config.restarts):
        stop = max(1, steps >> (3 - attempt % 4))  # an eighth, a quarter, a half and all of the steps
        candidates = _pgd(lab, defended.network, eps, stop).generate(x, y)
        scores = np.where(defended.wrong(candidates, y), defended.detector.scores(candidates), np.inf)
        better = scores < lowest
        lowest[better], chosen[better] = scores[better], candidates[better]
    attack = SelectivePGD(defended.network, _surrogate(lab, name, defended), eps=eps, max_iter=steps)
    return {"selected-pgd": chosen, "surrogate-detector": attack.generate(x, y)}


def _surrogate(lab: Laboratory, name: str, defended: Defended) -> SubnetworkDetector:
    """A subnetwork at the tap that tells the half of the images which the detector suspects more from the other half."""
    config = lab.config
    surrogate = SubnetworkDetector(lab.undefended, config.position, config.lr, lab.study.seed_of("surrogate", name))

    def train(checkpoint: Any) -> Training:
        x, _ = lab.labelled()
        scores = defended.detector.scores(x)
        rank = scores.argsort(kind="stable").argsort(kind="stable")
        suspected = (rank >= len(x) // 2).astype(np.int64)
        history = surrogate.fit(
            x, suspected, batch_size=config.batch, nb_epochs=config.detector_epochs, checkpoint=checkpoint
        )
        return surrogate.save, history

    path = lab.run.trained(f"surrogate-{name}", train)
    surrogate.subnetwork.load_state_dict(load_tensors(path)[0])
    return surrogate


def _pgd(lab: Laboratory, classifier: PyTorchClassifier, eps: float, steps: int | None = None) -> Any:
    return attacks.create("pgd", classifier, eps, max_iter=steps or lab.config.adaptive_steps)


def _restarted(lab: Laboratory, defended: Defended, attack: Any) -> np.ndarray:
    """Each image after the first start that beat the defence, or after the last."""
    x, y = lab.test.x, lab.test.y
    found, left = np.array(x), np.arange(len(x))
    for _ in range(lab.config.restarts):
        found[left] = attack.generate(x[left], y[left])
        left = left[~defended.beaten(found[left], y[left])]
        if not len(left):
            break
    return found
