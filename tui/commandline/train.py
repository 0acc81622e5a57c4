"""`cifartui train` and `cifartui resume`: start workers and follow them."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import click

from engine.runs import launch
from engine.runs.folder import RunFolder, find_run
from engine.runs.journal import read_events
from engine.runs.state import fold
from presets import catalog
from presets.errors import CifartuiError
from presets.schema import Preset
from tui.commandline.group import Places, places, with_places
from tui.plain import Output, follow
from tui.start import start_run


def following(command: Any) -> Any:
    """Give a command --output and --detach."""
    command = click.option("--detach", is_flag=True, help="Do not follow: return as soon as the worker is started.")(
        command
    )
    return click.option(
        "--output",
        type=click.Choice(["auto", "live", "lines", "json", "quiet"]),
        default="auto",
        help="auto: a live line on a terminal, else plain lines; json: the events themselves.",
    )(command)


@click.command()
@click.argument("names", metavar="PRESET...", nargs=-1, required=True)
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a preset field: optimizer.lr=0.1"
)
@click.option("--epochs", type=click.IntRange(min=1), help="Short for --set train.epochs=N.")
@click.option("--epochs-scale", type=click.FloatRange(min=0, min_open=True), help="Short for train.epochs_scale=F.")
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, help="Seed of all randomness (default 0).")
@following
@with_places
@click.pass_context
def train(
    ctx: click.Context,
    names: tuple[str, ...],
    overrides: tuple[str, ...],
    epochs: int | None,
    epochs_scale: float | None,
    device: str,
    seed: int,
    output: Output,
    detach: bool,
) -> None:
    """Train PRESETs, one run after another."""
    where = places(ctx)
    if epochs is not None:
        overrides = (*overrides, f"train.epochs={epochs}")
    if epochs_scale is not None:
        overrides = (*overrides, f"train.epochs_scale={epochs_scale}")
    loaded = {name: catalog.load(name, overrides) for name in names}  # all are checked before any is started
    if detach and len(names) > 1:
        detach_queue(names, overrides, device, seed, where)
        return
    for name, preset in loaded.items():
        run = start_run(where.runs_dir, name, overrides, seed=seed, device=device, data_dir=where.data_dir)
        _report_start(run, preset, output)
        if detach:
            return
        exit_code = follow(run, output)
        if exit_code:
            ctx.exit(exit_code)


def detach_queue(names: Sequence[str], overrides: tuple[str, ...], device: str, seed: int, where: Places) -> None:
    """Leave a process behind that starts the runs one after another."""
    options = ["--device", device, "--seed", str(seed), "--output", "quiet", "--runs-dir", str(where.runs_dir)]
    options += ["--data-dir", where.data_dir] if where.data_dir else []
    for override in overrides:
        options += ["--set", override]
    queue = subprocess.Popen(
        [sys.executable, sys.argv[0], "train", *names, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    click.echo(
        f"{len(names)} runs will be trained one after another (queue: process {queue.pid}); cifartui runs lists them."
    )


def _report_start(run: RunFolder, preset: Preset, output: Output) -> None:
    if output == "json" or output == "quiet":
        return
    click.echo(f"{preset.title}: run {run.id}")


@click.command()
@click.argument("name", metavar="RUN")
@following
@with_places
@click.pass_context
def resume(ctx: click.Context, name: str, output: Output, detach: bool) -> None:
    """Go on with a run from its last checkpoint."""
    run = find_run(places(ctx).runs_dir, name)
    info = run.read_info()
    known = read_events(run.events)
    finished = fold(known).finished
    if finished is not None and finished.outcome == "completed":
        raise CifartuiError(f"Run {run.id} is completed: {finished.reason}. There is nothing left to resume.")
    launch.start_worker(run, resume=True)
    _report_start(run, info.preset, output)
    if not detach:
        ctx.exit(follow(run, output, num_known=len(known)))
