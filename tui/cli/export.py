"""Command `export`: a run's network for other programs; its curves as CSV, as a picture, or for TensorBoard."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from engine.runs.export_record import SUFFIXES
from engine.runs.find_run import find_run, find_runs
from engine.runs.run_dir import RunDir
from presets.errors import CifartuiError
from tui import format as fmt
from tui.cli.live_line import LiveLine
from tui.cli.options import as_json_option, places, with_places
from tui.cli.output import say, say_json
from tui.data.model_export import export_model, exported_lines
from tui.data.output_file import write_new
from tui.plots.export import curves_text, overlaid_runs, overlay_svg
from tui.terminal.streams import can_draw

_CURVES = {"csv": ".csv", "svg": ".svg", "tensorboard": "-tensorboard"}
"""Forms of the curves, and the ending of their files."""


@click.command()
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--format",
    "kind",
    type=click.Choice([*SUFFIXES, *_CURVES]),
    required=True,
    help="What to write: the network (onnx, pt2, torchscript, safetensors) or the curves.",
)
@click.option("--output", metavar="PATH", help="Where (default: the run's id, here; a folder for tensorboard).")
@click.option(
    "--with-preprocessing", is_flag=True, help="A network that takes uint8 images of any size, not prepared ones."
)
@click.option(
    "--checkpoint", type=click.Choice(["best", "last"]), default="best", help="Which weights (default: best)."
)
@click.option("--steps", is_flag=True, help="csv: a line for every report of the training loop, not for every epoch.")
@click.option("--log", is_flag=True, help="svg of several runs: their loss on a logarithmic axis.")
@click.option("--force", is_flag=True, help="Write over PATH if it is there.")
@as_json_option
@with_places
@click.pass_context
def export(
    ctx: click.Context,
    names: tuple[str, ...],
    kind: str,
    output: str | None,
    with_preprocessing: bool,
    checkpoint: str,
    steps: bool,
    log: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write a run's network for other programs, or its curves. Several runs are drawn over each other (svg).

    A network's file is loaded again and compared with the network on validation images; if it differs, it is not kept.
    """
    where = places(ctx)
    named = [find_runs(where.runs_dir, name) if kind == "svg" else [find_run(where.runs_dir, name)] for name in names]
    found = list({run.id: run for runs in named for run in runs}.values())
    if len(found) > 1:
        if kind != "svg":
            raise CifartuiError(f"Several runs are written as one picture only: choose --format svg, not {kind}.")
        _check_of_curves(kind, with_preprocessing=with_preprocessing, as_json=as_json)
        path = Path(output) if output is not None else Path("overlay.svg")
        write_new(path, overlay_svg(overlaid_runs(found), is_log=log).encode(), force=force)
        say(f"svg of {len(found)} runs: {path}")
        return
    run = found[0]
    if log:
        raise CifartuiError("--log is for the picture of several runs; leave it out.")
    path = Path(output) if output is not None else Path(f"{run.id}{(SUFFIXES | _CURVES)[kind]}")
    if kind in SUFFIXES:
        with progress() as tell:
            exported = export_model(
                run, kind, path,
                checkpoint=checkpoint, data_dir=where.data_dir, with_preprocessing=with_preprocessing, force=force,
                tell=tell,
            )  # fmt: skip
        if as_json:
            say_json({"file": str(path), **exported}, indent=0)
            return
        for line in exported_lines(exported):
            say(line)
    else:
        _check_of_curves(kind, with_preprocessing=with_preprocessing, as_json=as_json)
        _write_curves(run, kind, path, steps=steps, force=force)
    say(f"{kind} of run {run.id}: {path}")


@contextmanager
def progress() -> Iterator[Callable[[str], object]]:
    """Give a function that draws a text of progress on standard error, if that is a terminal."""
    if not can_draw(sys.stderr):
        yield lambda _text: None
        return
    with LiveLine(sys.stderr, lambda: None) as line:
        yield lambda text: line.show(lambda columns: fmt.cut(f"{text} …", columns), at_once=True)


def _check_of_curves(kind: str, *, with_preprocessing: bool, as_json: bool) -> None:
    for given, option in ((with_preprocessing, "--with-preprocessing"), (as_json, "--json")):
        if given:
            raise CifartuiError(f"{option} is for networks: leave it out, or choose another --format than {kind}.")


def _write_curves(run: RunDir, kind: str, path: Path, *, steps: bool, force: bool) -> None:
    state = run.read_state(every_step=True)
    if not state.steps and not state.epochs:
        raise CifartuiError(f"Run {run.id} has no curves yet: nothing was trained.")
    if kind == "tensorboard":
        _write_tensorboard(run, path, force)
    else:
        write_new(path, curves_text(run, state, "svg" if kind == "svg" else "csv", steps).encode(), force=force)


def _write_tensorboard(run: RunDir, folder: Path, force: bool) -> None:
    """Write an event file into `folder`; an earlier export there goes only with `force`."""
    from engine.trackers.log_run import write_whole

    _check_replaceable(folder, force)
    temporary = folder.with_name(f".{os.urandom(8).hex()}")  # nobody can put a link there before
    try:
        temporary.mkdir()
        write_whole(run, "tensorboard", temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        raise CifartuiError(f"{folder} cannot be written ({error.strerror}); name a folder of yours.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_replaceable(folder: Path, force: bool) -> None:
    """Raise CifartuiError unless there is nothing at `folder`, or with `force` an earlier export, which will go."""
    try:
        names = sorted(each.name for each in folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise CifartuiError(f"{folder} cannot be written ({error.strerror}); name a folder of yours.") from error
    if not force:
        raise CifartuiError(f"{folder} is there already; name another folder, or add --force to write over it.")
    others = [name for name in names if not name.startswith("events.out.tfevents.")]
    if others or not folder.name:
        other = others[0] if others else "the working directory"
        raise CifartuiError(f"{folder} is no earlier export (there is {other} in it); name another folder.")
