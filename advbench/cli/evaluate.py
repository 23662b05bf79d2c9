"""`advbench evaluate`: how robust is your own model?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from advbench.cli import options
from advbench.cli.terminal import log_to_terminal, one_line, present
from advbench.errors import UsageError


class _Evaluate(click.Command):
    """A command that also takes the fields of ``Options``, which are imported when the command is used."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from advbench.evaluation.options import Options

        fields = [
            click.Option([f"--{name.replace('_', '-')}"], help=field.description, required=field.is_required())
            for name, field in Options.model_fields.items()
            if name != "model"
        ]
        model, *others = super().get_params(ctx)
        return [model, *fields, *others]


@click.command(cls=_Evaluate)
@click.argument("model")
@options.data_dir
@options.out
@options.device
@options.seed
@click.option(
    "--fail-under",
    "floors",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Exit code 1 where robust_accuracy or joint_accuracy (at the largest eps), clean_accuracy or checks_passed is "
    "lower; repeatable.",
)
@options.rows_as_json
@one_line
def evaluate(
    out: Path | None,
    device: str,
    seed: int,
    data_dir: Path | None,
    floors: tuple[str, ...],
    as_json: bool,
    **given: Any,
) -> None:
    """How robust is your own model? Attacks, the worst case per image, and checks that the attacks worked.

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

    parsed, wanted = Options.parse(**given), parse_floors(floors)  # before the slow imports
    if "joint_accuracy" in wanted and parsed.detector is None:
        raise UsageError("--fail-under joint_accuracy needs a --detector")
    log_to_terminal()
    from advbench.evaluation import start
    from advbench.evaluation.exhibits import figures

    run = start(parsed, out, device, seed, data_dir)
    present(run, as_json)
    found = figures(run)
    below = [f"{name} is {found[name]:.4f}, below {floor:g}" for name, floor in wanted.items() if found[name] < floor]
    if below:
        click.echo(f"advbench: {'; '.join(below)}", err=True)
        sys.exit(1)
