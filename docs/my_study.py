"""Does rounding the pixels defend? An attack, a defence and a study of one's own, in one file."""

from functools import partial

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from safetensors.torch import load_model, save_model

from advbench import attacks, estimators, metrics
from advbench.study.registry import Config, Eps, recipe
from advbench.report import Attacked, bundle
from advbench.trainers import Schedule, train_classifier


class RandomCorners(EvasionAttack):
    """Tries random corners of the l-inf ball until one fools the classifier; needs no gradient."""

    _estimator_requirements = ()

    def __init__(self, estimator, eps, tries):
        super().__init__(estimator=estimator)
        self.eps, self.tries = eps, tries

    def generate(self, x, y=None, **kwargs):
        rng, adversarial = np.random.default_rng(0), x.copy()
        for _ in range(self.tries):
            right = self.estimator.predict(adversarial).argmax(1) == y
            corners = x + np.float32(self.eps) * rng.choice(np.float32([-1, 1]), x.shape)
            adversarial[right] = corners.clip(0, 1)[right]
        return adversarial


class Rounded(torch.nn.Module):
    """A defence: what it is put before sees pixels of four levels only."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model((3 * x).round() / 3)


class Rounding(Config):
    eps: Eps = 0.2
    tries: int = 30
    epochs: int = 10


QUESTION = "Does rounding the pixels of an image defend a classifier, or does it only hide the gradient?"


@recipe("rounding", "digits", (1, 8, 8), {"quick": Rounding(), "paper": Rounding(tries=500)}, QUESTION)
def rounding(study):
    config, run, x, y = study.config, study.run, np.float32(study.test.x) / 255, study.test.y
    torch.manual_seed(study.seed)
    layers = torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
    net = torch.nn.Sequential(*layers)

    def train(checkpoint):
        schedule = Schedule(epochs=config.epochs, lr=0.1, weight_decay=1e-4, batch_size=64, pad=0, flip=False)
        data, held_out = (study.train.x[200:], study.train.y[200:]), (study.train.x[:200], study.train.y[:200])
        return partial(save_model, net), train_classifier(net, data, held_out, schedule, checkpoint=checkpoint)

    load_model(net, run.trained("classifier", train))
    nets = {"plain": net, "rounded": Rounded(net)}
    classifiers = {name: estimators.classifier(each.eval(), x.shape[1:], 10) for name, each in nets.items()}
    attacked = [
        Attacked(
            name, config.eps, run.arrays(f"{name}-{model}", lambda: {"x": attack.generate(x, y)})["x"], victim, model
        )
        for model, victim in classifiers.items()
        for name, attack in {
            "fgsm": attacks.create("fgsm", victim, config.eps),
            "corners": RandomCorners(victim, config.eps, config.tries),
        }.items()
    ]

    def accuracies():
        for model, victim in classifiers.items():
            yield metrics.accuracy(victim.predict(x).argmax(1), y).row("clean accuracy", model=model)
        for a in attacked:
            figure = metrics.accuracy(a.classifier.predict(a.x).argmax(1), y)
            yield figure.row("accuracy", model=a.model, attack=a.attack, eps=a.eps)

    table = run.rows("accuracy", accuracies)[["model", "attack", "metric", "value", "ci_low", "ci_high"]]
    run.exhibit("accuracy", "Accuracy under attack", "FGSM needs the gradient, random corners do not.", table=table)
    run.explorer(lambda: bundle(x, y, study.test.classes, attacked))
