"""`cifartui stop · next · pause · continue · abort`: ask something of a run and wait for its answer."""

import time
from collections.abc import Callable

import click

from engine.runs import commands
from engine.runs.events import CommandApplied
from engine.runs.folder import RunFolder, find_run
from engine.runs.journal import append_command, event_reader
from presets.errors import CifartuiError
from tui.commandline.group import places, with_places

_PATIENCE_S = 10.0
_LOOK_EVERY_S = 0.05


def _ask(run: RunFolder, command: commands.AnyCommand) -> None:
    """Write the command and print the acknowledgement, or that none has come yet."""
    if run.worker_lives() is False:
        finished = run.read_state().finished
        how = finished.outcome if finished else "lost"
        raise CifartuiError(f"Run {run.id} has no worker ({how}); go on with it by: cifartui resume {run.id}")
    answers = event_reader(run.events)
    append_command(run.commands, command)
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        for event in answers.read():
            if isinstance(event, CommandApplied) and event.command_id == command.id:
                _print_answer(event)
                return
        time.sleep(_LOOK_EVERY_S)
    click.echo("asked; the worker has not answered yet (it may still be starting): cifartui show tells.")


def _print_answer(event: CommandApplied) -> None:
    if not event.accepted:
        raise CifartuiError(f"{event.effect}.")
    click.echo(f"step {event.global_step:,}: {event.effect}")


@click.command()
@click.argument("name", metavar="RUN")
@click.option("--after", type=click.Choice(["batch", "epoch"]), default="batch", help="When (default: this batch).")
@with_places
@click.pass_context
def stop(ctx: click.Context, name: str, after: str) -> None:
    """Stop early: validate, keep the best weights, test them."""
    _ask(find_run(places(ctx).runs_dir, name), commands.Stop(after="epoch" if after == "epoch" else "batch"))


def _asking(name: str, wish: Callable[[], commands.AnyCommand], text: str) -> click.Command:
    """Return the command `cifartui NAME RUN`, which asks `wish` of a run."""

    @click.command(name, help=text)
    @click.argument("run", metavar="RUN")
    @with_places
    @click.pass_context
    def ask(ctx: click.Context, run: str) -> None:
        _ask(find_run(places(ctx).runs_dir, run), wish())

    return ask


next_ = _asking("next", commands.NextStage, "End this stage after this batch, and begin the next one.")
pause = _asking("pause", commands.Pause, "Let training stand still, everything kept in memory.")
continue_ = _asking("continue", commands.Continue, "Go on after a pause, or take a stop after this epoch back.")
abort = _asking("abort", commands.Abort, "End at once, without validation or test.")
