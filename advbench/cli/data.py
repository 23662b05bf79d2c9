"""`advbench data`: list, fetch and verify the data sets."""

from __future__ import annotations

import json
from pathlib import Path

import click

from advbench.cli import options
from advbench.cli.terminal import Group, log_to_terminal, one_line
from advbench.errors import UsageError


@click.group(cls=Group)
def data() -> None:
    """List, fetch or verify the data sets."""


@data.command("list")
@options.as_json
def data_list(as_json: bool) -> None:
    """List the data sets and the folder of the cache."""
    from advbench.data import DATASETS, cache_dir

    rows = {name: {"what": text, "kept": _is_here(name)} for name, text in DATASETS.items()}
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for name, row in rows.items():
        click.echo(f"{name:10} {'here' if row['kept'] else 'not here':9} {row['what']}")
    click.echo(f"cache: {cache_dir()}")


@data.command("fetch")
@click.argument("names", nargs=-1, required=True)
@options.data_dir
@one_line
def data_fetch(names: tuple[str, ...], data_dir: Path | None) -> None:
    """Bring data sets into the cache, verified.

    \b
    advbench data fetch cifar10 mnist
    """
    _load_each(names, data_dir)


@data.command("verify")
@click.argument("names", nargs=-1)
@one_line
def data_verify(names: tuple[str, ...]) -> None:
    """Verify the data sets in the cache (by default all) against the published checksums."""
    from advbench.data import DATASETS, cache_dir

    here = tuple(filter(_is_here, DATASETS))
    missing = [name for name in names if name in DATASETS and name not in here]
    if missing:
        raise UsageError(f"{', '.join(missing)} is not in {cache_dir()}; advbench data fetch {' '.join(missing)}")
    _load_each(names or here, None)


def _is_here(name: str) -> bool:
    from advbench.data import cache_dir

    return name == "digits" or (cache_dir() / name).is_dir()


def _load_each(names: tuple[str, ...], data_dir: Path | None) -> None:
    from advbench.data import load

    log_to_terminal()
    for name in names:
        for split in ("train", "test"):
            loaded = load(name, split, data_dir)
            click.echo(f"{name} {split}: {len(loaded)} images, fingerprint {loaded.fingerprint}")
            if loaded.left_out:
                click.echo(f"advbench: {loaded.left_out}", err=True)
