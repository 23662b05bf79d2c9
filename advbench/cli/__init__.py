"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import click

from advbench import __version__
from advbench.cli import data, evaluate, listing, recipe, runs, zoo
from advbench.cli.terminal import Group


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """How robust is this image classifier, really?

    \b
    advbench recipe detector-cifar                     the main study, a few minutes
    advbench recipe detector-cifar --dataset digits    the same without any download
    advbench show runs/NAME                            its answer in the terminal
    """


for command in (
    recipe.recipe,
    recipe.bench,
    runs.show,
    runs.report,
    runs.compare,
    listing.list_,
    data.data,
    evaluate.evaluate,
    zoo.zoo,
):
    main.add_command(command)
