"""The materials of ``bench``: the classifier that is attacked, and images that it recognises."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from advbench import models
from advbench.data import Images
from advbench.data import find as images
from advbench.errors import UsageError
from advbench.estimators import TorchClassifier, contract
from advbench.models import find as network
from advbench.models.tapped import TappedModule
from advbench.progress import log
from advbench.recipes.bench.config import Bench
from advbench.study import History, Materials, Pretrained, Study
from advbench.trainers import Schedule, train_classifier


class Attacked(Materials[Bench]):
    """A ResNet-32, or a network of the user."""

    def __init__(self, study: Study[Bench]) -> None:
        super().__init__(study)
        if self.config.model is None:
            module, spec = models.load(self._train())
            self.classifier = self.wrapped(module, spec)
        else:
            self.classifier = self._given(self.config.model)
        self.columns = {"model": self.config.model or "resnet32"}

    def _given(self, name: str) -> TorchClassifier:
        found, device, data = network.find(name), self.study.device, self.study.test
        module = (
            contract.normalised(found.module, found.mean, found.std, data.x.shape[1]) if found.mean else found.module
        )
        pixels, _ = images.as_images(data.x[:100], "x")
        classifier, notes = contract.classifier(
            module, images.Images(name, pixels, data.y[:100], len(data.classes)), device
        )
        for note in notes:
            log.info("%s: %s", name, note)
        return classifier

    def _train(self) -> Path:
        config, study, data = self.config, self.study, self.study.train
        n = min(config.train_images, len(data) - 500)
        spec = models.ModelSpec("resnet32", data.x.shape[1:], len(data.classes))
        schedule = Schedule(config.epochs, lr=0.1, weight_decay=5e-4, nesterov=True, flip=data.name == "cifar10")

        def train(module: TappedModule, checkpoint: Path) -> History:
            images, held_out = (data.x[:n], data.y[:n]), (data.x[-500:], data.y[-500:])
            order = study.seed_of("order")
            return train_classifier(module, images, held_out, schedule, order, study.device, checkpoint)

        return self.trained("classifier", spec, study.seed_of("classifier"), train)

    def recognised(self, n: int) -> Images:
        """At most n test images that the classifier recognises.

        :raises UsageError: if it recognises none.
        """
        images = self.study.test.images(slice(max(4 * n, 100)))
        right = np.flatnonzero(self.classifier.predict(images.x).argmax(1) == images.y)[:n]
        if not len(right):
            tried = f"{len(images.x)} test images"
            raise UsageError(f"the classifier is right about none of {tried}; train it for more epochs")
        return Images(images.x[right], images.y[right])


PRETRAINED = Pretrained(("classifier",), ("model", "train_images", "epochs"), recipe="detector-cifar", decides=False)
