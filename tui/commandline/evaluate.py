"""`cifartui evaluate`: accuracy of a checkpoint, measured in a process that may import torch."""

import subprocess
import sys
from typing import Any

import click
import msgspec

from engine.runs.folder import find_run
from presets.errors import CifartuiError
from tui import format as fmt
from tui.commandline.group import places, with_places


@click.command()
@click.argument("name", metavar="RUN")
@click.option("--split", type=click.Choice(["val", "test"]), default="test", help="Which images (default: test).")
@click.option(
    "--checkpoint", type=click.Choice(["best", "last"]), default="best", help="Which weights (default: best)."
)
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_places
@click.pass_context
def evaluate(ctx: click.Context, name: str, split: str, checkpoint: str, device: str, as_json: bool) -> None:
    """Measure loss and accuracy of a run's best (or last) weights."""
    where = places(ctx)
    run = find_run(where.runs_dir, name)
    command = [sys.executable, "-m", "engine.training.evaluation", str(run.path)]
    command += ["--split", split, "--checkpoint", checkpoint, "--device", device]
    command += ["--data-dir", where.data_dir] if where.data_dir else []
    process = subprocess.run(
        command, cwd=run.path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if process.returncode == 2 and process.stderr:
        raise CifartuiError(process.stderr.strip().splitlines()[-1])
    if process.returncode:
        click.echo(process.stderr, err=True)
        ctx.exit(1)
    if as_json:
        click.echo(process.stdout.strip())
    else:
        _print(msgspec.json.decode(process.stdout))


def _print(result: dict[str, Any]) -> None:
    weights = f"{result['checkpoint']}.pt (epoch {result['epoch']})"
    if result["labels_hidden"]:
        click.echo(f"{weights}: the test labels of this data are hidden, so there is no accuracy to measure.")
        return
    click.echo(
        f"{weights} on {result['num_images']:,} {result['split']} images:"
        f" top-1 {fmt.percent(result['top1'], 2)}, loss {fmt.loss(result['loss'])}"
    )
