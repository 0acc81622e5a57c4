"""Command `export`: a run's curves as CSV, as a picture, or for TensorBoard."""

import shutil
from pathlib import Path
from typing import Literal

import click

from engine.journal.state import RunState
from engine.runs.run_dir import find_run
from presets.errors import CifartuiError
from tui.cli.options import places, with_places
from tui.cli.output import say
from tui.data.output_file import write_new
from tui.plots.export import curves_text


@click.command()
@click.argument("name", metavar="RUN")
@click.option(
    "--format", "kind", type=click.Choice(["csv", "tensorboard", "svg"]), required=True, help="What to write."
)
@click.option("--output", metavar="PATH", help="Where (default: the run's id, here; a folder for tensorboard).")
@click.option("--steps", is_flag=True, help="csv: a line for every report of the training loop, not for every epoch.")
@click.option("--force", is_flag=True, help="Write over PATH if it is there.")
@with_places
@click.pass_context
def export(
    ctx: click.Context,
    name: str,
    kind: Literal["csv", "tensorboard", "svg"],
    output: str | None,
    steps: bool,
    force: bool,
) -> None:
    """Write a run's curves to a file."""
    run = find_run(places(ctx).runs_dir, name)
    state = run.read_state(every_step=True)
    if not state.steps and not state.epochs:
        raise CifartuiError(f"Run {run.id} has no curves yet: nothing was trained.")
    suffix = {"csv": ".csv", "svg": ".svg", "tensorboard": "-tensorboard"}[kind]
    path = Path(output) if output is not None else Path(f"{run.id}{suffix}")
    if kind == "tensorboard":
        _write_tensorboard(state, path, force)
    else:
        write_new(path, curves_text(run, state, kind, steps).encode(), force=force)
    say(f"{kind} of run {run.id}: {path}")


def _write_tensorboard(state: RunState, folder: Path, force: bool) -> None:
    """Write an event file into `folder`; an earlier export there goes only with `force`."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError:
        raise CifartuiError(
            "TensorBoard files need the package tensorboard; add it with: pip install 'cifartui[tensorboard]'"
        ) from None
    if folder.exists() and not force:
        raise CifartuiError(f"{folder} is there already; name another folder, or add --force to write over it.")
    temporary = folder.with_name(f".{folder.name}.writing")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        writer = EventFileWriter(str(temporary))
        for step, time, values in _scalars(state):
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
            writer.add_event(Event(wall_time=time, step=step, summary=summary))
        writer.close()
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CifartuiError(f"{folder} cannot be written ({error.strerror}); name a folder of yours.") from error


def _scalars(state: RunState) -> list[tuple[int, float, dict[str, float]]]:
    """Return (global step, Unix seconds, values by tag), in the order of steps."""
    rows: list[tuple[int, float, dict[str, float]]] = [
        (point.global_step, point.time, {"train/loss": point.loss, "train/top1": point.top1}) for point in state.steps
    ]
    rows += [
        (point.global_step, point.time, {"val/loss": point.val_loss, "val/top1": point.val_top1, "lr": point.lr})
        for point in state.epochs
    ]
    rows += [
        (point.global_step, point.time, {"val/balanced": point.val_balanced})
        for point in state.epochs
        if point.val_balanced is not None
    ]
    return sorted(rows, key=lambda row: row[0])
