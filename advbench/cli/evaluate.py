"""`advbench evaluate`: how robust is your own model?"""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.cli import options
from advbench.cli.terminal import Command, loading, log_to_terminal, one_line, present, result_alone
from advbench.errors import AdvbenchError, UsageError

if TYPE_CHECKING:
    from advbench.study import Run


class _Below(AdvbenchError):
    """A figure is below its floor, or shows nothing."""

    exit_code = 1


class _Evaluate(Command):
    """A command that also takes the fields of ``Options``, which are imported when the command is used."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from advbench.evaluation.options import Options

        fields = [
            click.Option(
                [f"--{name.replace('_', '-')}"], help=field.description, is_flag=field.annotation is bool, default=None
            )
            for name, field in Options.model_fields.items()
            if name != "model"
        ]
        model, *others = super().get_params(ctx)
        return [model, *fields, *others]


@click.command(cls=_Evaluate)
@click.argument("model", required=False)
@click.option(
    "--config", type=options.folder, help="A TOML file with the same options; those of the command line go first."
)
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
@click.option(
    "--despite-checks",
    is_flag=True,
    help="Let --fail-under pass although a check failed, which means that the figures are not to be trusted.",
)
@options.rows_as_json
@one_line
def evaluate(
    config: Path | None,
    out: Path | None,
    device: str,
    seed: int,
    data_dir: Path | None,
    floors: tuple[str, ...],
    despite_checks: bool,
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
    advbench evaluate runs/small --data cifar10 --norm l2 --attacks "fmn-l2,foolbox:L2CarliniWagnerAttack(steps=1000)"
    advbench evaluate runs/small --data cifar10 --norm linf,l2 --eps linf:2/255,8/255,l2:0.5
    advbench evaluate runs/small --data cifar10 --access labels --n 50
    advbench evaluate --config evaluation.toml
    """
    from advbench.evaluation.options import Options, read_config
    from advbench.evaluation.options import floors as parse_floors

    given = {name: value for name, value in given.items() if value is not None}
    parsed = Options.parse(**{**(read_config(config) if config else {}), **given})  # before the slow imports
    wanted = parse_floors(floors)
    if "joint_accuracy" in wanted and parsed.detector is None:
        raise UsageError("--fail-under joint_accuracy needs a --detector")
    log_to_terminal()
    with loading():
        from advbench.evaluation import start

    with result_alone() as result:
        run = start(parsed, out, device, seed, data_dir)
        present(run, as_json, result)
    _hold(run, wanted, despite_checks)


def _hold(run: Run, floors: dict[str, float], despite_checks: bool) -> None:
    """Fail where a figure is missing, below its floor, or not to be trusted."""
    from advbench.evaluation.exhibits import checks, figures

    found = figures(run)
    problems = []
    for name, floor in floors.items():
        value = found.get(name, nan)
        if not value >= floor:  # nor is a figure that is not a number
            problems.append(f"{name} is {value:.4f}, below {floor:g}")
    failed = [check.name for check in checks(run.results()) if not check.passed]
    if failed and floors.keys() - {"checks_passed"} and not despite_checks:
        problems.append(
            f"{', '.join(failed)} failed: the figures are not to be trusted, see the checks (--despite-checks lets them pass)"
        )
    if problems:
        raise _Below("; ".join(problems))
