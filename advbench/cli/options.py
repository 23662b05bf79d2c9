"""The options that several commands have."""

from pathlib import Path

import click

folder = click.Path(path_type=Path)
dataset = click.option(
    "--dataset", default="auto", show_default=True, help="auto, or a name from 'advbench list data'."
)
data_dir = click.option("--data-dir", type=folder, help="A folder that already holds the data set.")
out = click.option("--out", type=folder, help="The run directory; by default under runs/.")
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
seed = click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
rows_as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object at the end: the summary, then all rows."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
