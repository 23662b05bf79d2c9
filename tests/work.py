"""Work for the tests of workers, in a module that other processes can import."""

import os
import time

import torch

from advbench.errors import UsageError


def note(study, item):
    (study.run.directory / f"{item}.txt").write_text(f"{os.getpid()} {torch.get_num_threads()}")


def fail(study, item):
    raise UsageError(f"no {item}")


def die(study, item):
    os._exit(1)


def wait(study, item):
    note(study, item)
    time.sleep(600)
