"""`advbench evaluate`: how robust is your own model?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from advbench.cli import options
from advbench.cli.terminal import Command, loading, log_to_terminal, one_line, present, result_alone
from advbench.errors import AdvbenchError, UsageError


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
    "--workers",
    type=click.IntRange(min=1),
    help="Processes that share the images, on one thread each; they change no figure. By default as many as the work is "
    "worth, at most one a core.",
)
@click.option("--devices", type=click.IntRange(min=1), help="GPUs that share the images.")
@click.option("--scheduler", help="The address of a Dask scheduler whose workers share the images.")
@click.option(
    "--fail-under",
    "floors",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Exit code 1 where a figure is lower: robust_accuracy, clean_accuracy, checks_passed, joint_accuracy, "
    "accuracy_in_8_bits, one_draw_accuracy or an attack of the table; at the largest eps, or NAME@EPS=NUMBER; repeatable.",
)
@click.option(
    "--despite-checks",
    is_flag=True,
    help="Let --fail-under pass although a check failed, which means that the figures are not to be trusted.",
)
@click.option("--junit", type=options.folder, help="Write each figure, check and floor as a test case, in JUnit XML.")
@click.option("--markdown", type=options.folder, help="Write a summary, such as for the page of a CI step.")
@options.rows_as_json
@one_line
def evaluate(
    config: Path | None,
    out: Path | None,
    device: str,
    seed: int,
    data_dir: Path | None,
    workers: int | None,
    devices: int | None,
    scheduler: str | None,
    floors: tuple[str, ...],
    despite_checks: bool,
    junit: Path | None,
    markdown: Path | None,
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
    advbench evaluate runs/small --data cifar10 --fail-under robust_accuracy@2/255=0.6 --junit junit.xml --markdown summary.md
    advbench evaluate runs/small --data cifar10 --detector runs/small/models/detector-dynamic.safetensors
    advbench evaluate runs/small --data cifar10 --norm l2 --attacks "fmn-l2,foolbox:L2CarliniWagnerAttack(steps=1000)"
    advbench evaluate runs/small --data cifar10 --norm linf,l2 --eps linf:2/255,8/255,l2:0.5
    advbench evaluate runs/small --data cifar10 --access labels --n 50
    advbench evaluate runs/small --data cifar10 --battery corruptions,rotations
    advbench evaluate runs/small --data cifar10 --workers 8
    advbench evaluate --config evaluation.toml
    """
    from advbench.evaluation.battery import labels_of
    from advbench.evaluation.options import Options, read_config
    from advbench.evaluation.options import floors as parse_floors

    given = {name: value for name, value in given.items() if value is not None}
    parsed = Options.parse(**{**(read_config(config) if config else {}), **given})  # before the slow imports
    wanted = parse_floors(floors, labels_of(parsed), [eps for bounds in parsed.eps.values() for eps in bounds])
    if any(name.startswith("joint_accuracy") for name in wanted) and parsed.detector is None:
        raise UsageError("--fail-under joint_accuracy needs a --detector")
    for figure, part in (("mean_corruption_accuracy", "corruptions"), ("rotation_accuracy", "rotations")):
        if figure in wanted and part not in parsed.battery:
            raise UsageError(f"--fail-under {figure} needs --battery {part}")
    for option, path in (("--junit", junit), ("--markdown", markdown)):
        if path is not None and path.is_dir():
            raise UsageError(f"{option} {path} is a folder; name a file")
    log_to_terminal()
    with loading():
        from advbench.evaluation import gate, start
        from advbench.evaluation.pieces import Layout
        from advbench.files import write, write_text

    with result_alone() as result:
        layout = Layout("auto" if workers is None else workers, devices, scheduler)
        run = start(parsed, out, device, seed, data_dir, layout)
        present(run, as_json, result)
    found = gate.cases(run, wanted, despite_checks)
    if junit is not None:
        write(junit, lambda stream: stream.write(gate.junit(run, found)))
    if markdown is not None:
        write_text(markdown, gate.markdown(run, found))
    if problems := gate.problems(found):
        raise _Below("; ".join(problems))
