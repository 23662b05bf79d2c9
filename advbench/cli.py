"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click

from advbench import __version__
from advbench.errors import AdvbenchError, UsageError, did_you_mean

_KINDS = ("recipes", "models", "attacks", "detectors", "trainers", "data")


class _Group(click.Group):
    """A command group that says what was meant."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(str(did_you_mean("command", args[0], self.list_commands(ctx))))
        return super().resolve_command(ctx, args)


def _one_line(command: Callable) -> Callable:
    """Print a user's mistake as one line, with its exit code."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            with _terminated_as_interrupted():
                command(*args, **kwargs)
        except AdvbenchError as error:
            click.echo(f"advbench: {error}", err=True)
            sys.exit(error.exit_code)
        except OSError as error:
            click.echo(f"advbench: {error}; what was finished is kept", err=True)
            sys.exit(1)
        except KeyboardInterrupt as interrupt:
            click.echo("advbench: stopped; the same command goes on from here", err=True)
            sys.exit(128 + (signal.SIGTERM if isinstance(interrupt, _Terminated) else signal.SIGINT))

    return guarded


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which a scheduler sends before it kills."""


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # which alone may take signals
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """How robust is this image classifier, really?

    \b
    advbench recipe detector-cifar                     the main study, a few minutes
    advbench recipe detector-cifar --dataset digits    the same without any download
    advbench show runs/NAME                            its answer in the terminal
    """


@main.command("list")
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_one_line
def list_(kind: str | None, as_json: bool) -> None:
    """List recipes, models, attacks, detectors, trainers or data.

    \b
    advbench list
    advbench list attacks --json
    """
    if kind is not None and kind not in _KINDS:
        raise did_you_mean("list", kind, list(_KINDS))
    found = {each: _names(each) for each in ([kind] if kind else _KINDS)}
    if as_json:
        click.echo(json.dumps(found[kind] if kind else found, indent=2))
        return
    for each, entries in found.items():
        if not kind:
            click.echo(f"{each}:")
        for name, text in entries.items():
            click.echo(f"  {name:20} {text}")


def _names(kind: str) -> dict[str, str]:
    if kind == "recipes":
        from advbench.recipe import names

        return names()
    if kind == "models":
        from advbench.models import MODELS

        return MODELS
    if kind == "attacks":
        from advbench.attacks import ATTACKS

        return ATTACKS
    if kind == "detectors":
        from advbench.detectors import DETECTORS

        return DETECTORS
    if kind == "trainers":
        from advbench.trainers import TRAINERS

        return TRAINERS
    from advbench.data import DATASETS

    return DATASETS


@main.command()
@click.argument("name")
@click.option(
    "--preset",
    default="quick",
    show_default=True,
    help="quick (minutes), small (two hours), paper (everything, a GPU).",
)
@click.option("--dataset", default="auto", show_default=True, help="auto, or a name from 'advbench list data'.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="A folder that already holds the data set.")
@click.option(
    "--classes", help="WordNet ids of ImageNet classes, in recipes that have them; as --set classes=ID,ID,..."
)
@click.option("--weights", help="A file of published weights, in recipes that take one; as --set weights=FILE.")
@click.option("--out", type=click.Path(path_type=Path), help="The run directory; by default under runs/.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes for independent trainings, in recipes that have them; by default one a core, at most four.",
)
@click.option(
    "--devices",
    type=click.IntRange(min=1),
    help="Processes that train the classifier together, each on a device of its own, in recipes that have it; as "
    "--set devices=N.",
)
@click.option("--store", help="A folder or URL (s3://bucket/name) through which machines share finished stages.")
@click.option("--scheduler", help="The address of a Dask scheduler whose workers do the independent trainings.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any field of the recipe's config; repeatable."
)
@click.option("--track", "tracker", help="Hand epochs and results to tensorboard or mlflow at the end.")
@click.option("--json", "as_json", is_flag=True, help="Print the result rows as JSON at the end.")
@_one_line
def recipe(
    name: str,
    as_json: bool,
    tracker: str | None,
    settings: tuple[str, ...],
    classes: str | None,
    weights: str | None,
    devices: int | None,
    **options: Any,
) -> None:
    """Run a study, or go on with it where it was stopped.

    NAME is a recipe from 'advbench list recipes', or the path of a Python file that declares one.

    \b
    advbench recipe detector-cifar
    advbench recipe detector-cifar --preset small --out runs/small
    advbench recipe detector-cifar --set eps_fgsm=2/255,8/255 --set detector_epochs=5
    advbench recipe detector-imagenet10 --data-dir photos --weights vgg16.safetensors
    advbench recipe training-mnist --store s3://bucket/studies --scheduler tcp://10.0.0.1:8786
    """
    if classes is not None:
        settings += (f"classes={json.dumps(classes.split(','))}",)
    if weights is not None:
        settings += (f"weights={json.dumps(weights)}",)
    if devices is not None:
        settings += (f"devices={devices}",)
    _run_recipe(name, as_json, tracker, settings=settings, **options)


def _run_recipe(name: str, as_json: bool, tracker: str | None = None, **options: Any) -> None:
    from advbench.recipe import configure, find

    found = find(name)
    configure(found, options["preset"], options["settings"])  # before the slow imports
    if tracker is not None:
        from advbench.report import check_tracker

        check_tracker(tracker)
    _log_to_terminal()
    from advbench.report import show as show_run
    from advbench.report import track
    from advbench.study import start

    run = start(found, **options)
    if as_json:
        click.echo(run.results().to_json(orient="records", indent=1))
    else:
        show_run(run.directory)
    if tracker is not None:
        click.echo(track(run.directory, tracker), err=True)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@_one_line
def show(run: Path) -> None:
    """Print what a run found.

    \b
    advbench show runs/small
    """
    from advbench.report import show as show_run

    show_run(run)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--docs", type=click.Path(path_type=Path), help="Write results.csv, charts and a Markdown page to this folder."
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path),
    help="Write each chart and each table (CSV, Markdown, LaTeX) to this folder.",
)
@click.option("--format", "form", default="svg", show_default=True, help="Of the charts: svg, pdf or png.")
@click.option("--track", "tracker", help="Hand epochs and results to tensorboard or mlflow.")
@_one_line
def report(run: Path, docs: Path | None, figures: Path | None, form: str, tracker: str | None) -> None:
    """Write report.html of a run again, from its directory alone; or what else a document needs of it.

    \b
    advbench report runs/small
    advbench report runs/small --docs docs/results/detector-cifar
    advbench report runs/small --figures figures --format pdf
    advbench report runs/small --track tensorboard
    """
    from advbench.report import track, write_docs, write_figures, write_report

    if docs is not None:
        click.echo(write_docs(run, docs))
    if figures is not None:
        click.echo("\n".join(str(path) for path in write_figures(run, figures, form)))
    if tracker is not None:
        click.echo(track(run, tracker))
    if docs is None and figures is None and tracker is None:
        click.echo(write_report(run))


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write a page to this file or folder as well.")
@_one_line
def compare(runs: tuple[Path, ...], out: Path | None) -> None:
    """Differences between the first run and the others, with intervals, and what was asked differently.

    \b
    advbench compare runs/small runs/small-seed1
    advbench compare runs/a runs/b --out compare.html
    """
    from advbench.report import show_comparison, write_comparison

    show_comparison(runs)
    if out is not None:
        click.echo(write_comparison(runs, out))


@main.command()
@click.option("--preset", default="small", show_default=True, help="quick, small or paper.")
@click.option("--model", type=click.Path(path_type=Path), help="A run directory whose classifier is attacked.")
@click.option("--dataset", default="auto", show_default=True, help="auto, or a name from 'advbench list data'.")
@click.option("--out", type=click.Path(path_type=Path), help="The run directory; by default under runs/.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Print the result rows as JSON at the end.")
@_one_line
def bench(model: Path | None, as_json: bool, **options: Any) -> None:
    """Measure what attacks and trainings cost beside ART, foolbox and torchattacks; leave the machine alone meanwhile.

    It is the recipe of that name, which takes further settings.

    \b
    advbench bench
    advbench bench --model runs/small --json
    """
    settings = () if model is None else (f"model={json.dumps(str(model))}",)
    _run_recipe("bench", as_json, settings=settings, **options)


@main.group(cls=_Group)
def data() -> None:
    """List, fetch or verify the data sets."""


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def data_list(as_json: bool) -> None:
    """List the data sets and where they are kept."""
    from advbench.data import DATASETS, cache_dir

    rows = {
        name: {"what": text, "kept": (cache_dir() / name).is_dir() or name == "digits"}
        for name, text in DATASETS.items()
    }
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for name, row in rows.items():
        click.echo(f"{name:10} {'here' if row['kept'] else 'not here':9} {row['what']}")
    click.echo(f"kept in {cache_dir()}")


@data.command("fetch")
@click.argument("names", nargs=-1, required=True)
@click.option("--data-dir", type=click.Path(path_type=Path), help="A folder that already holds the data set.")
@_one_line
def data_fetch(names: tuple[str, ...], data_dir: Path | None) -> None:
    """Bring data sets into the cache, verified.

    \b
    advbench data fetch cifar10 mnist
    """
    _load_each(names, data_dir)


@data.command("verify")
@click.argument("names", nargs=-1)
@_one_line
def data_verify(names: tuple[str, ...]) -> None:
    """Check what the cache holds (by default all of it) against the published checksums."""
    from advbench.data import DATASETS, cache_dir

    kept = [name for name in DATASETS if name == "digits" or (cache_dir() / name).is_dir()]
    missing = [name for name in names if name in DATASETS and name not in kept]
    if missing:
        raise UsageError(f"{', '.join(missing)} is not in {cache_dir()}; advbench data fetch {' '.join(missing)}")
    _load_each(names or tuple(kept), None)


def _load_each(names: tuple[str, ...], data_dir: Path | None) -> None:
    from advbench.data import load

    for name in names:
        for split in ("train", "test"):
            loaded = load(name, split, data_dir)
            click.echo(f"{name} {split}: {len(loaded)} images, fingerprint {loaded.fingerprint}")
            if loaded.left_out:
                click.echo(f"advbench: {loaded.left_out}", err=True)


def _log_to_terminal() -> None:
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        from rich.logging import RichHandler

        handler = RichHandler(show_path=False, show_level=False, markup=False)
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("advbench")
    log.addHandler(handler)
    log.setLevel(logging.INFO)


@main.command()
@click.argument("model")
@click.option("--data", required=True, help="A name from 'advbench list data', a folder of class folders, or an .npz.")
@click.option("--weights", help="A safetensors file or a state dict for the model.")
@click.option("--mean", help="Subtracted from images in [0, 1] in front of the model, such as 0.485,0.456,0.406.")
@click.option("--std", help="What they are then divided by.")
@click.option("--shape", help="C,H,W of the model, to which digits and the files of a folder are brought.")
@click.option("--labels", help="The model's output for each class folder, in alphabetical order.")
@click.option("--norm", help="linf (default) or l2.")
@click.option("--eps", help="Bounds for images in [0, 1], by default 2/255,8/255.")
@click.option("--attacks", help="standard (default), fast, or names from 'advbench list attacks'.")
@click.option("--n", help="How many images, drawn at random; by default 1000.")
@click.option("--checks", help="How many of them the checks are made on; by default 64.")
@click.option("--detector", help="A detector of a run, models/detector-NAME.safetensors: joint figures as well.")
@click.option("--detector-steps", help="Of the attacks that know the detector; by default 100.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="A folder that already holds the named data set.")
@click.option("--out", type=click.Path(path_type=Path), help="The run directory; by default under runs/.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--fail-under",
    "floors",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Exit code 1 where robust_accuracy or joint_accuracy (at the largest eps), clean_accuracy or checks_passed is "
    "lower; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result rows as JSON at the end.")
@_one_line
def evaluate(
    out: Path | None,
    device: str,
    seed: int,
    data_dir: Path | None,
    floors: tuple[str, ...],
    as_json: bool,
    **given: str,
) -> None:
    """How robust is your own model? Attacks, the worst case an image, and checks that the attacks worked.

    MODEL is file.py:callable, package.module:callable, torchvision:NAME, timm:NAME, a run directory or runs/NAME:model.
    It takes images (N, C, H, W) in [0, 1], normalised with --mean and --std where those are given, and returns logits.

    \b
    advbench evaluate net.py:make --weights net.safetensors --data cifar10 --attacks fast
    advbench evaluate torchvision:resnet18 --data photos/ --labels 0,217,482 --eps 1/255,4/255
    advbench evaluate runs/small --data cifar10 --fail-under robust_accuracy=0.45 --fail-under checks_passed=1
    advbench evaluate runs/small --data cifar10 --detector runs/small/models/detector-dynamic.safetensors
    """
    from advbench.evaluate.options import Options
    from advbench.evaluate.options import floors as parse_floors

    options, wanted = Options.parse(**given), parse_floors(floors)  # before the slow imports
    if "joint_accuracy" in wanted and options.detector is None:
        raise UsageError("--fail-under joint_accuracy needs a --detector")
    _log_to_terminal()
    from advbench.evaluate import start
    from advbench.evaluate.exhibits import figures
    from advbench.report import show as show_run

    run = start(options, out, device, seed, data_dir)
    if as_json:
        click.echo(run.results().to_json(orient="records", indent=1))
    else:
        show_run(run.directory)
    found = figures(run)
    short = [f"{name} is {found[name]:.4f}, below {floor:g}" for name, floor in wanted.items() if found[name] < floor]
    if short:
        click.echo(f"advbench: {'; '.join(short)}", err=True)
        sys.exit(1)
