"""Our PGD and AutoAttack beside torchattacks, foolbox and pyautoattack run by themselves, on one model and the same images.

``python tests/agreement.py OUT.csv MODEL DATA EPS [N]``, MODEL and DATA as in ``advbench evaluate``; the extra ``peers`` is
needed. Ends with exit code 1 where two figures are further apart than half a point.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import foolbox
import numpy as np
import pandas as pd
import pyautoattack
import torch
import torchattacks

from advbench import attacks
from advbench.data import find as images
from advbench.device import resolve_device
from advbench.estimators import contract
from advbench.metrics import still_correct
from advbench.models import find as network
from advbench.seeds import own_global_state

STEPS, RESTARTS = 50, 10
ALLOWED = 0.005


def robust(right: Callable[[torch.Tensor], torch.Tensor], tries: list[Callable[[], torch.Tensor]]) -> float:
    """The share of images that no try turned, each try on all of them."""
    kept: torch.Tensor | None = None
    for attacked in tries:
        mask = right(attacked())
        kept = mask if kept is None else kept & mask
    assert kept is not None
    return float(kept.double().mean())


def figures(model: str, source: str, eps: float, n: int) -> Iterator[dict[str, object]]:
    """One row an attack and library: accuracy that is left on the same images."""
    found = network.find(model)
    pictures = images.find(source, found.shape, (), n, 0)
    classifier, _ = contract.classifier(found.module, pictures, resolve_device("auto"))
    module, alpha = found.module.eval(), eps / 4
    x, y = torch.from_numpy(pictures.x[:]), torch.from_numpy(pictures.y)

    def right(adversarial: torch.Tensor) -> torch.Tensor:
        if float((adversarial - x).abs().max()) > eps * (1 + 1e-4):
            raise SystemExit("an attack left its bound")
        return torch.from_numpy(classifier.predict(adversarial.numpy()).argmax(1)) == y

    def row(attack: str, library: str, accuracy: float) -> dict[str, object]:
        return {
            "model": model,
            "data": source,
            "n": len(y),
            "eps": eps,
            "attack": attack,
            "library": library,
            "accuracy": accuracy,
        }

    name = f"PGD, {STEPS} steps of eps / 4, {RESTARTS} restarts"
    with own_global_state(0):
        yield row("none", "advbench", float((classifier.predict(x.numpy()).argmax(1) == pictures.y).mean()))
        ours = [attacks.create("pgd", classifier, eps, alpha, STEPS)] * RESTARTS
        yield row(name, "advbench", float(list(still_correct(classifier, ours, x.numpy(), pictures.y))[-1].mean()))
        peer = torchattacks.PGD(module, eps=eps, alpha=alpha, steps=STEPS, random_start=True)
        yield row(name, "torchattacks", robust(right, [lambda: peer(x, y).detach()] * RESTARTS))
        other = foolbox.attacks.LinfPGD(abs_stepsize=alpha, steps=STEPS, random_start=True)
        bounded = foolbox.PyTorchModel(module, bounds=(0, 1))
        yield row(name, "foolbox", robust(right, [lambda: other(bounded, x, y, epsilons=eps)[1].detach()] * RESTARTS))
    ensemble = attacks.create("autoattack", classifier, eps)
    yield row(
        "AutoAttack standard",
        "advbench",
        float(list(still_correct(classifier, [ensemble], x.numpy(), pictures.y))[-1].mean()),
    )
    alone = pyautoattack.AutoAttack(module, eps=eps, norm="Linf", seed=0, device=torch.device("cpu"))
    yield row("AutoAttack standard", "pyautoattack", robust(right, [lambda: alone.run_standard_evaluation(x, y)[0]]))


def main(out: Path, model: str, source: str, eps: float, n: int) -> int:
    rows = []
    for each in figures(model, source, eps, n):
        rows.append(each)
        print(f"{each['attack']:45} {each['library']:13} {each['accuracy']:.4f}", flush=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(out, index=False)
    apart = pd.DataFrame(rows).groupby("attack").accuracy.agg(np.ptp).max()
    print(f"largest difference between libraries: {100 * apart:.2f} points, allowed {100 * ALLOWED:g}")
    return int(apart > ALLOWED)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(Path(arguments[0]), *arguments[1:3], float(arguments[3]), int((arguments[4:] or ["1000"])[0])))
