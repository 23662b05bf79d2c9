"""`advbench recipe` and `advbench bench`: run a study."""

from __future__ import annotations

import json
from typing import Any

import click

from advbench.cli import options
from advbench.cli.terminal import Command, loading, log_to_terminal, one_line, present, result_alone


@click.command(cls=Command)
@click.argument("name")
@click.option(
    "--preset",
    default="quick",
    show_default=True,
    help="quick (minutes), small (two hours), full (every claim, half a day), paper (everything, a GPU).",
)
@options.dataset
@options.data_dir
@click.option(
    "--classes", help="WordNet ids of ImageNet classes, in recipes that have them; as --set classes=ID,ID,..."
)
@click.option(
    "--weights",
    help="zoo: start from trained networks of the package; base: take the classifier alone and train the others; train: "
    "train all; or a file of published weights, in recipes that take one; as --set weights=...",
)
@options.out
@options.device
@options.seed
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
@click.option("--track", "tracker", help="Send epochs and results to tensorboard or mlflow at the end.")
@options.rows_as_json
@one_line
def recipe(name: str, settings: tuple[str, ...], classes: str | None, **given: Any) -> None:
    """Run a study, or continue it where it was stopped; a larger --set seeds=N adds seeds to a finished one.

    NAME is a recipe from 'advbench list recipes', or the path of a Python file that declares one.

    \b
    advbench recipe detector-cifar
    advbench recipe detector-cifar --preset small --out runs/small
    advbench recipe detector-cifar --set eps_fgsm=2/255,8/255 --set detector_epochs=5
    advbench recipe detector-imagenet10 --data-dir photos --weights vgg16.safetensors
    advbench recipe training-mnist --preset full --out runs/mnist --set seeds=12
    advbench recipe training-mnist --store s3://bucket/studies --scheduler tcp://10.0.0.1:8786
    """
    fields = {
        "classes": None if classes is None else classes.split(","),
        "weights": given.pop("weights"),
        "devices": given.pop("devices"),
    }
    settings += tuple(f"{field}={json.dumps(value)}" for field, value in fields.items() if value is not None)
    _run_recipe(name, settings=settings, **given)


def _run_recipe(name: str, as_json: bool, tracker: str | None = None, **given: Any) -> None:
    with result_alone() as out:
        with loading():
            from advbench.report import check_tracker, track
            from advbench.study import configure, find, start

            found = find(name)
            configure(found.preset(given["preset"]), given["settings"])  # before the data are loaded
            if tracker is not None:
                check_tracker(tracker)
        log_to_terminal()
        run = start(found, **given)
        present(run, as_json, out)
        if tracker is not None:
            click.echo(track(run.directory, tracker), err=True)


@click.command()
@click.option("--preset", default="small", show_default=True, help="quick, small, full or paper.")
@click.option("--model", help="The network that is attacked, named as in 'advbench evaluate'.")
@options.dataset
@options.out
@options.device
@options.rows_as_json
@one_line
def bench(model: str | None, **given: Any) -> None:
    """Measure the cost of attacks and trainings beside ART, foolbox and torchattacks; leave the machine idle meanwhile.

    It is the recipe of that name, which takes further settings.

    \b
    advbench bench
    advbench bench --model runs/small --json
    advbench bench --model zoo:vgg-cifar10-fgsm-v2
    """
    settings = () if model is None else (f"model={json.dumps(model)}",)
    _run_recipe("bench", settings=settings, **given)
