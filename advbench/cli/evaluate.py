"""`advbench evaluate`: how robust is your own model?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from advbench.cli.terminal import log_to_terminal, one_line, present
from advbench.errors import UsageError


@click.command()
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
@one_line
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
    from advbench.evaluation.options import Options
    from advbench.evaluation.options import floors as parse_floors

    options, wanted = Options.parse(**given), parse_floors(floors)  # before the slow imports
    if "joint_accuracy" in wanted and options.detector is None:
        raise UsageError("--fail-under joint_accuracy needs a --detector")
    log_to_terminal()
    from advbench.evaluation import start
    from advbench.evaluation.exhibits import figures

    run = start(options, out, device, seed, data_dir)
    present(run, as_json)
    found = figures(run)
    short = [f"{name} is {found[name]:.4f}, below {floor:g}" for name, floor in wanted.items() if found[name] < floor]
    if short:
        click.echo(f"advbench: {'; '.join(short)}", err=True)
        sys.exit(1)
