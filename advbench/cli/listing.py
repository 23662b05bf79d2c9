"""`advbench list`: the names that commands take, and the claims of the recipes."""

from __future__ import annotations

import json
from importlib import import_module
from itertools import groupby
from typing import Any

import click

from advbench.cli import options
from advbench.cli.terminal import one_line
from advbench.errors import did_you_mean

_TABLES = {
    "recipes": ("advbench.study", "names"),
    "models": ("advbench.models", "MODELS"),
    "attacks": ("advbench.attacks", "ATTACKS"),
    "detectors": ("advbench.detectors", "DETECTORS"),
    "trainers": ("advbench.trainers", "TRAINERS"),
    "data": ("advbench.data", "DATASETS"),
}


@click.command("list")
@click.argument("kind", required=False)
@options.as_json
@one_line
def list_(kind: str | None, as_json: bool) -> None:
    """List recipes, models, attacks, detectors, trainers or data; or the claims of all recipes.

    \b
    advbench list
    advbench list attacks --json
    advbench list claims
    """
    if kind == "claims":
        _print_claims(as_json)
        return
    if kind is not None and kind not in _TABLES:
        raise did_you_mean("list", kind, [*_TABLES, "claims"])
    found = {each: _names(each) for each in ([kind] if kind else _TABLES)}
    if as_json:
        click.echo(json.dumps(found[kind] if kind else found, indent=2))
        return
    for each, entries in found.items():
        if not kind:
            click.echo(f"{each}:")
        width = max(20, *map(len, entries))
        for name, text in entries.items():
            click.echo(f"  {name:{width}} {text}")


def _names(kind: str) -> dict[str, str]:
    module, name = _TABLES[kind]
    found: Any = getattr(import_module(module), name)
    if kind == "recipes":
        return found()
    if kind == "models":
        from advbench.models import zoo

        return found | {f"{zoo.PREFIX}{name}": card.main_figure for name, card in zoo.cards().items()}
    return {name: spec.text for name, spec in found.items()} if kind == "attacks" else found


def _print_claims(as_json: bool) -> None:
    from advbench.study import every

    claims = [
        {
            "id": claim.id,
            "report": recipe.report.id if recipe.report else None,
            "recipe": recipe.name,
            "says": claim.says,
            "measured": claim.measured,
            "reported": claim.reported,
        }
        for recipe in every()
        for claim in recipe.claims
    ]
    if as_json:
        click.echo(json.dumps(claims, indent=2))
        return
    for (name, recipe), parts in groupby(claims, key=lambda claim: (claim["id"], claim["recipe"])):
        first, *others = parts
        report = f"report {first['report']}, " if first["report"] else ""
        click.echo(f"{name}: {first['says']} ({report}recipe {recipe})")
        for part in (first, *others):
            reported = "" if part["reported"] is None else f"{part['reported']:g}"
            click.echo(f"  {reported:>8}  {part['measured']}")
