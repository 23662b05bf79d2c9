"""`advbench list`: what can be named."""

from __future__ import annotations

import json

import click

from advbench.cli.terminal import one_line
from advbench.errors import did_you_mean

_KINDS = ("recipes", "models", "attacks", "detectors", "trainers", "data")


@click.command("list")
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line
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
        from advbench.study import names

        return names()
    if kind == "models":
        from advbench.models import MODELS

        return MODELS
    if kind == "attacks":
        from advbench.attacks import ATTACKS

        return {name: spec.text for name, spec in ATTACKS.items()}
    if kind == "detectors":
        from advbench.detectors import DETECTORS

        return DETECTORS
    if kind == "trainers":
        from advbench.trainers import TRAINERS

        return TRAINERS
    from advbench.data import DATASETS

    return DATASETS
