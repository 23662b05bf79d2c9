"""`advbench zoo`: the trained networks that come with the package."""

from __future__ import annotations

from pathlib import Path

import click

from advbench.cli.terminal import Group, one_line
from advbench.errors import UsageError


@click.group(cls=Group)
def zoo() -> None:
    """Trained networks that come with the package; 'advbench list models' names them, 'advbench show zoo:NAME' prints a card."""


@zoo.command("add")
@click.argument("network")
@click.option("--name", default="", help="Of the network in the zoo; by default made of network, data and training.")
@click.option("--commit", default="", help="Of the code that trained it, where the run does not know it.")
@one_line
def zoo_add(network: str, name: str, commit: str) -> None:
    """Put a network of a finished training into the zoo of this checkout, with a card that is measured now.

    NETWORK is RUN:MODEL, a run directory and one of its models.

    \b
    advbench zoo add runs/full:classifier --name resnet32-cifar10
    advbench zoo add runs/full:detector-dynamic
    """
    from advbench.models.zoo import card
    from advbench.study.cards import add

    run, _, stage = network.rpartition(":")
    if not run:
        raise UsageError(f"NETWORK must be RUN:MODEL; found {network!r}")
    file = add(Path(run), stage, name, commit)
    click.echo(f"{file}: {card(file.stem).main_figure}")
