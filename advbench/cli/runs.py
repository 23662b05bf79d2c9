"""`advbench show`, `report` and `compare`: the results of finished runs."""

from __future__ import annotations

from pathlib import Path

import click

from advbench.cli import options
from advbench.cli.terminal import one_line


@click.command()
@click.argument("run", type=options.folder)
@one_line
def show(run: Path) -> None:
    """Print the results of a run, or the card of a network of the zoo.

    \b
    advbench show runs/small
    advbench show zoo:resnet32-cifar10
    """
    from advbench.models import zoo

    if str(run).startswith(zoo.PREFIX):
        for what, text in zoo.card(str(run)).lines().items():
            click.echo(f"{what:12} {text}")
        return
    from advbench.report import show as show_run

    show_run(run)


@click.command()
@click.argument("run", type=options.folder)
@click.option("--docs", type=options.folder, help="Write results.csv, charts and a Markdown page to this folder.")
@click.option(
    "--figures", type=options.folder, help="Write each chart and each table (CSV, Markdown, LaTeX) to this folder."
)
@click.option("--format", "form", default="svg", show_default=True, help="Of the charts: svg, pdf or png.")
@click.option("--track", "tracker", help="Send epochs and results to tensorboard or mlflow.")
@one_line
def report(run: Path, docs: Path | None, figures: Path | None, form: str, tracker: str | None) -> None:
    """Write report.html of a run again, from its directory alone; or its charts and tables for a document.

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


@click.command()
@click.argument("runs", nargs=-1, required=True, type=options.folder)
@click.option("--out", type=options.folder, help="Write a page to this file or folder as well.")
@one_line
def compare(runs: tuple[Path, ...], out: Path | None) -> None:
    """Differences between the first run and the others, with intervals, and the settings that differ.

    \b
    advbench compare runs/small runs/small-seed1
    advbench compare runs/a runs/b --out compare.html
    """
    from advbench.report import show_comparison, write_comparison

    show_comparison(runs)
    if out is not None:
        click.echo(write_comparison(runs, out))
