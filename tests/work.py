"""Work for the tests of workers, in a module that other processes can import."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch

from advbench.errors import UsageError

LOCKS = []


def note(study, item):
    (study.run.directory / f"{item}.txt").write_text(f"{os.getpid()} {torch.get_num_threads()}")


def hold_a_lock(study, item):
    """As a bar of tqdm does, which ART shows: a semaphore that lasts as long as this process."""
    LOCKS.append(multiprocessing.get_context("spawn").Lock())


def fail(study, item):
    raise UsageError(f"no {item}")


def die(study, item):
    os._exit(1)


def do(study, task):
    work, item = task
    work(study, item)


class Notes:
    """Materials without anything of their own."""

    columns = {"split": "test"}

    def __init__(self, study):
        self.study = study


def row(made, name, value):
    note(made.study, name)
    yield {"metric": name, "value": value}


def wait(study, item):
    note(study, item)
    time.sleep(600)


def killed_once(study, place):
    """A stage that counts how often it was begun; the one called victim is killed in the middle of its first time."""
    place = Path(place)

    def make():
        with open(place, "a") as stream:
            stream.write(f"{os.getpid()}\n")
        if place.name == "victim" and len(place.read_text().split()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"x": np.ones(3)}

    study.run.arrays(place.name, make)


def convolve(study, item):
    """So many training steps of a small convolution; for ``scaling.py``."""
    stage, steps = item

    def make():
        images, layer = torch.rand(32, 16, 16, 16), torch.nn.Conv2d(16, 16, 3, padding=1)
        for _ in range(steps):
            layer(images).square().sum().backward()
        return {"gradient": layer.weight.grad.numpy()}

    study.run.arrays(f"stage-{stage}", make)


def square(_, item):
    return item * item


def visible_gpu(_, item):
    return os.environ["CUDA_VISIBLE_DEVICES"]
