"""The materials of ``bench``: the classifier that is attacked, and images that it recognises."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from advbench import models
from advbench.data import Images
from advbench.errors import UsageError
from advbench.models.tapped import TappedModule
from advbench.recipes.bench.config import Bench
from advbench.study import History, Materials, Pretrained, Study
from advbench.trainers import Schedule, train_classifier


class Attacked(Materials[Bench]):
    """A ResNet-32 that is trained here, or the classifier of another run."""

    def __init__(self, study: Study[Bench]) -> None:
        super().__init__(study)
        given = self.config.model
        module, spec = models.load(self._train() if given is None else given / "models" / "classifier.safetensors")
        self.classifier = self.wrapped(module, spec)
        self.columns = {"model": spec.name}

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
        images = self.study.test.images(slice(4 * n))
        right = np.flatnonzero(self.classifier.predict(images.x).argmax(1) == images.y)[:n]
        if not len(right):
            tried = f"{len(images.x)} test images"
            raise UsageError(f"the classifier is right about none of {tried}; train it for more epochs")
        return Images(images.x[right], images.y[right])


PRETRAINED = Pretrained(("classifier",), ("model", "train_images", "epochs"), recipe="detector-cifar", decides=False)
