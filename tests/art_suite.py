"""ART's own PyTorch tests with our estimator in place of ART's: which pass with ART's and fail with ours.

    pip download --no-deps --no-binary :all: adversarial-robustness-toolbox==1.20.1
    python tests/art_suite.py adversarial_robustness_toolbox-1.20.1.tar.gz [exact|fast]

The tests are unpacked beside the archive, which lacks their fixtures, weights and data sets. The fixtures are below, the small
networks are trained here, and the data sets come from the cache of ``advbench data``. The result with ART's estimator is
kept there as well, so a second call runs only the tests that passed. A test has ten seconds of processor time with ART's
estimator, three times as many with ours, and a training of ART's trainers two epochs. Some tests need the packages kornia and multiprocess.

The same file is the pytest plugin of these tests.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import warnings
from functools import wraps
from inspect import signature
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

ROOMS = (
    *("tests/classifiersFrameworks/test_pytorch.py", "tests/estimators/classification", "tests/attacks"),
    *(
        "tests/defences/detector/evasion",
        "tests/defences/trainer",
        "tests/defences/preprocessor",
        "tests/preprocessing",
    ),
    *("tests/defences/test_adversarial_trainer.py", "tests/defences/test_defensive_distillation.py"),
)
OTHERS = (
    "tests/attacks/poison",
    "tests/attacks/inference",
    "tests/preprocessing/audio",
)  # neither evasion nor of images
OTHER_LIBRARIES = ("tensorflow", "keras", "scikit", "sklearn", "xgboost", "catboost", "lightgbm", "GPy", "jax")
OTHER_SUBJECTS = (
    "poison",
    "backdoor",
    "svm",
    "hclu",
    "knockoff",
    "copycat",
    "extraction",
    "decision_tree",
    "blackbox",
    "asr",
)
OTHER_SUBJECTS += ("mp3", "video", "over_the_air", "malware", "parallel")
SECONDS = 10
INTERNAL = {
    "tests/estimators/classification/test_deeplearning_common.py::test_repr": "repr() holds the name of ART's own class"
}
"""Tests that assert an internal of ART, which ours need not have, and why."""


def main(archive: str, *precisions: str) -> int:
    root = _unpacked(Path(archive).resolve())
    passed = _passed(root, "art")
    print(f"{len(passed)} tests pass with ART's estimator")
    failures = set()
    for precision in precisions or ("exact", "fast"):
        failed = sorted(set(passed) - set(_passed(root, precision, passed)))
        print(
            f"{len(passed) - len(failed)} of them pass with ours, {precision}; these fail:"
            if failed
            else f"all of them pass with ours, {precision}"
        )
        for name in failed:
            print(f"  {name}" + (f" (an internal of ART: {INTERNAL[name]})" if name in INTERNAL else ""))
        failures |= set(failed) - set(INTERNAL)
    return int(bool(failures))


def _unpacked(archive: Path) -> Path:
    """The folder of the archive's tests, with the data sets and weights that they read."""
    root = archive.parent / archive.name.removesuffix(".tar.gz")
    if not (root / "tests").is_dir():
        with tarfile.open(archive) as file:
            file.extractall(root.parent, filter="data")
    if not (root / "data").is_dir():
        _write_data(root / "data")
    if not (root / "utils" / "resources").is_dir():
        _write_weights(root)
    return root


def _passed(root: Path, which: str, only: list[str] | None = None) -> list[str]:
    """The tests that pass with ART's estimator, or with ours in a precision; ART's result is kept."""
    result = root / f"{which}.json"
    if which != "art" or not result.exists():
        result.unlink(missing_ok=True)
        flags = ["-v", "-p", "art_suite", "-p", "no:cacheprovider", "--no-header", "--tb=short", "-W", "ignore"]
        rooms = [*ROOMS, *(f"--ignore={other}" for other in OTHERS), "--continue-on-collection-errors"]
        (root / "only.txt").write_text("\n".join(only or []))
        environment = {**os.environ, "ART_SUITE": which, "PYTHONPATH": str(Path(__file__).parent)}
        with (root / f"{which}.log").open("w") as log:
            subprocess.run([sys.executable, "-m", "pytest", *flags, *rooms], cwd=root, env=environment, stdout=log)
    return json.loads(result.read_text())


def _write_data(folder: Path) -> None:
    from advbench import data

    (folder / "cifar-10-batches-py").mkdir(parents=True)
    train, test = data.load("mnist", "train"), data.load("mnist", "test")
    parts = {"x_train": train.x[:10000, 0], "y_train": train.y[:10000], "x_test": test.x[:, 0], "y_test": test.y}
    np.savez(folder / "mnist.npz", **parts)
    train, test = data.load("cifar10", "train"), data.load("cifar10", "test")
    for i in range(6):
        part, start, name = (train, 10000 * i, f"data_batch_{i + 1}") if i < 5 else (test, 0, "test_batch")
        images, labels = part.x[start : start + 10000], part.y[start : start + 10000]
        batch = {b"data": images.reshape(len(images), -1), b"labels": labels.tolist()}
        (folder / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(batch))


def _write_weights(root: Path) -> None:
    """Train the networks of the tests, and write them as the arrays that the tests load."""
    import torch
    import torch.nn.functional as F
    from art import config, utils

    sys.path.insert(0, str(root))
    config.set_data_path(str(root / "data"))
    from tests import utils as make

    folder = root / "utils" / "resources" / "models"
    folder.mkdir(parents=True)
    for name, network, data, steps in (
        ("MNIST", make.get_image_classifier_pt(from_logits=True, load_init=False), "mnist", 400),
        ("NO_MPOOL_MNIST", make.get_image_classifier_pt(True, False, use_maxpool=False), "mnist", 400),
        ("NO_MPOOL_CIFAR10", make.get_cifar10_image_classifier_pt(True, False), "cifar10", 400),
        ("IRIS", make.get_tabular_classifier_pt(load_init=False), "iris", 400),
    ):
        (x, y), *_ = utils.load_dataset(data)
        x = torch.from_numpy(x[:5000]).float()
        x, y = x.movedim(-1, 1) if x.ndim == 4 else x, torch.from_numpy(y[:5000]).argmax(1)
        torch.manual_seed(0)
        module = network.model
        for layer in module.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        optimizer = torch.optim.Adam(module.parameters(), 0.01)
        for _ in range(steps):
            some = torch.randint(len(x), (128,))
            optimizer.zero_grad()
            F.cross_entropy(module(x[some]), y[some]).backward()
            optimizer.step()
        for key, tensor in module.state_dict().items():
            layer, kind = key.split(".")
            values = tensor.numpy()
            if kind == "weight" and not name.startswith("NO_MPOOL"):  # ART's arrays are TensorFlow's
                values = values.transpose(2, 3, 1, 0) if values.ndim == 4 else values.T
            part = {"conv": "CONV2D", "fullyconnected": "DENSE"}.get(layer) or "DENSE" + layer[-1]
            np.save(folder / f"{'W' if kind == 'weight' else 'B'}_{part}_{name}.npy", values)


# --- the plugin ---------------------------------------------------------------------------------------------------------


def pytest_configure(config):
    from art import config as art_config
    from art.defences import trainer
    from art.estimators import classification
    from art.estimators.classification import pytorch

    art_config.set_data_path("data")
    for kind in vars(trainer).values():
        if isinstance(kind, type) and "fit" in vars(kind):
            kind.fit = _short(kind.fit)
    config.outcomes, config.which = {}, os.environ["ART_SUITE"]
    if config.which == "art":
        return
    from advbench.estimators import TorchClassifier

    TorchClassifier.__init__.__kwdefaults__["precision"] = config.which
    classification.PyTorchClassifier = pytorch.PyTorchClassifier = TorchClassifier


def _short(fit):
    """A trainer's ``fit`` of two epochs at most."""

    @wraps(fit)
    def short(*args, **options):
        if "nb_epochs" in signature(fit).parameters:
            options["nb_epochs"] = min(2, options.get("nb_epochs", 2))
        return fit(*args, **options)

    return short


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets test files import libraries that are not here, which their tests of PyTorch do not use."""

    def find_spec(self, fullname, path, target=None):
        known = fullname.split(".")[0] in OTHER_LIBRARIES
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if known else None

    def create_module(self, spec):
        return MagicMock(__version__="2.15.0", __path__=[], __spec__=spec, __name__=spec.name)

    def exec_module(self, module):
        pass


def pytest_collection(session):
    sys.meta_path.append(Absent())


def pytest_collection_finish(session):
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Absent)]
    for name in [name for name, module in sys.modules.items() if isinstance(module, MagicMock)]:
        del sys.modules[name]


def pytest_collection_modifyitems(config, items):
    only = set(Path("only.txt").read_text().split("\n")) - {""}
    items[:] = [
        item
        for item in items
        if (
            item.nodeid in only
            if only
            else not any(word.lower() in item.nodeid.lower() for word in OTHER_LIBRARIES + OTHER_SUBJECTS)
        )
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    seconds = SECONDS if item.config.which == "art" else 3 * SECONDS

    def stop(*_):
        raise TimeoutError(f"more than {seconds} seconds of processor time")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    outcomes = item.config.outcomes
    if report.when == "call":
        outcomes[item.nodeid] = report.passed and not item.stash.get(NOT_FOR_PYTORCH, False)
    elif report.failed:
        outcomes[item.nodeid] = False
    return report


def pytest_sessionfinish(session):
    outcomes = session.config.outcomes
    Path(f"{session.config.which}.json").write_text(
        json.dumps([name for name, passed in outcomes.items() if passed], indent=1)
    )


NOT_FOR_PYTORCH = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def framework():
    return "pytorch"


@pytest.fixture(autouse=True)
def only_for_pytorch(request):
    """Skip what ART marks for other frameworks, or what needs a package that is not here."""
    from tests.utils import master_seed

    marks = {mark.name: mark.args for mark in request.node.iter_markers()}
    if {"pytorch", "dl_frameworks"} & set(marks.get("skip_framework", ())):
        pytest.skip("not for PyTorch")
    if "pytorch" not in marks.get("only_with_platform", ("pytorch",)):
        pytest.skip("not for PyTorch")
    for name in marks.get("skip_module", ()):
        if importlib.util.find_spec(name.split(".")[0]) is None:
            pytest.skip(f"needs {name}")
    master_seed(1234, set_torch=True)


@pytest.fixture
def art_warning(request):
    """What the tests call with an exception: a missing fixture makes a warning, anything else is a failure."""
    from tests.utils import ARTTestFixtureNotImplemented

    def warn(exception):
        if not isinstance(exception, ARTTestFixtureNotImplemented):
            raise exception
        request.node.stash[NOT_FOR_PYTORCH] = True  # such a test passes without having checked anything
        warnings.warn(UserWarning(exception), stacklevel=2)

    return warn


def _missing(what):
    from tests.utils import ARTTestFixtureNotImplemented

    raise ARTTestFixtureNotImplemented("not made", what, "pytorch")


@pytest.fixture
def image_dl_estimator():
    from tests import utils

    def make(functional=False, wildcard=False, **options):
        if wildcard:
            _missing("wildcard")
        return (utils.get_image_classifier_pt_functional if functional else utils.get_image_classifier_pt)(
            **options
        ), None

    return make


@pytest.fixture
def image_dl_estimator_defended():
    from art.defences import preprocessor

    from tests import utils

    def make(one_classifier=False, defenses=("FeatureSqueezing",), **options):
        made = {
            "FeatureSqueezing": lambda: preprocessor.FeatureSqueezing(bit_depth=2, clip_values=(0, 1)),
            "JpegCompression": lambda: preprocessor.JpegCompression(clip_values=(0, 1), apply_predict=True),
            "SpatialSmoothing": lambda: preprocessor.SpatialSmoothing(),
        }
        classifier, chosen = utils.get_image_classifier_pt(**options), [made[name]() for name in defenses]
        for defence in chosen:
            if "channels_first" in defence.params:
                defence.channels_first = classifier.channels_first
        classifier.set_params(preprocessing_defences=chosen)
        return classifier, None

    return make


@pytest.fixture
def image_dl_estimator_for_attack(image_dl_estimator, image_dl_estimator_defended):
    def make(attack, defended=False, **options):
        classifier, _ = (image_dl_estimator_defended if defended else image_dl_estimator)(**options)
        if not all(kind in type(classifier).__mro__ for kind in attack._estimator_requirements):
            _missing(attack.__name__)
        return classifier

    return make


@pytest.fixture
def estimator_for_attack():
    from tests.utils import get_attack_classifier_pt

    return get_attack_classifier_pt


@pytest.fixture
def tabular_dl_estimator():
    from tests.utils import get_tabular_classifier_pt

    return lambda clipped=True: get_tabular_classifier_pt() if clipped else _missing("without clip values")


@pytest.fixture
def decision_tree_estimator():
    return lambda clipped=True: _missing("decision tree")


@pytest.fixture
def image_dl_gan():
    return lambda **options: _missing("gan")


@pytest.fixture
def image_dl_generator():
    return lambda **options: _missing("generator")


@pytest.fixture
def supported_losses_types():
    return lambda: _missing("losses")


supported_losses_logit = supported_losses_proba = supported_losses_types


@pytest.fixture
def expected_values(request):
    def read():
        values = json.loads(request.path.with_suffix(".json").read_text())
        name = request.node.name
        found = values.get(f"{name}_pytorch", values.get(name))
        return _missing(name) if found is None else found

    return read


@pytest.fixture
def store_expected_values():
    return lambda *values, **options: None


def _data_set(name, shape, sizes=(None, None)):
    from art.utils import load_dataset

    (x_train, y_train), (x_test, y_test), _, _ = load_dataset(name)
    n, m = sizes
    turned = [x[:k].reshape(len(x[:k]), *shape).astype(np.float32) for x, k in ((x_train, n), (x_test, m))]
    return (turned[0], y_train[:n]), (turned[1], y_test[:m])


@pytest.fixture
def get_default_mnist_subset():
    yield from _unchanged(_data_set("mnist", (1, 28, 28), (1000, 100)))


@pytest.fixture
def get_mnist_dataset():
    yield from _unchanged(_data_set("mnist", (1, 28, 28)))


@pytest.fixture
def get_default_cifar10_subset():
    yield from _unchanged(_data_set("cifar10", (3, 32, 32), (1000, 100)))


@pytest.fixture
def get_iris_dataset():
    yield from _unchanged(_data_set("iris", (4,)))


@pytest.fixture
def get_diabetes_dataset():
    yield from _unchanged(_data_set("diabetes", (10,)))


def _unchanged(data):
    """The data of a test; an attack that writes into them makes the test fail."""
    before = pickle.dumps(data)
    yield data
    assert pickle.dumps(data) == before


@pytest.fixture
def mnist_shape():
    return (1, 28, 28)


@pytest.fixture
def cifar10_shape():
    return (3, 32, 32)


@pytest.fixture(scope="session")
def default_batch_size():
    return 16


@pytest.fixture(scope="session")
def default_dataset_subset_sizes():
    return 1000, 100


@pytest.fixture
def create_test_dir(tmp_path):
    return str(tmp_path)


@pytest.fixture
def image_iterator(get_default_mnist_subset, default_batch_size):
    import torch

    (x, y), _ = get_default_mnist_subset
    images = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    return lambda: torch.utils.data.DataLoader(images, batch_size=default_batch_size, shuffle=True)


@pytest.fixture
def image_data_generator(image_iterator, default_batch_size):
    from art.data_generators import PyTorchDataGenerator

    return lambda **options: PyTorchDataGenerator(iterator=image_iterator(), size=1000, batch_size=default_batch_size)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
