"""`cifartui stop · next · pause · continue · save · validate · lr · abort`: ask of a run and wait for its answer."""

import time
from collections.abc import Callable, Iterator

import click

from engine.journal import commands
from engine.journal.events import AnyEvent, CommandApplied, EpochCompleted, RunFinished, Validated
from engine.journal.jsonl import append_command, event_reader
from engine.runs.run_dir import RunDir, find_run
from presets.errors import CifartuiError
from tui.cli.options import places, with_places
from tui.cli.output import say
from tui.text import run_text

_PATIENCE_S = 10.0
_LOOK_EVERY_S = 0.05


def _ask(run: RunDir, command: commands.AnyCommand) -> Iterator[AnyEvent | None]:
    """Write the command, print the acknowledgement or that none has come yet, and return what is told after it."""
    if run.worker_lives() is False:
        finished = run.read_state().finished
        how = finished.outcome if finished else "lost"
        raise CifartuiError(f"Run {run.id} has no worker ({how}); go on with it by: cifartui resume {run.id}")
    events = _events(run)
    append_command(run.commands, command)
    deadline = time.monotonic() + _PATIENCE_S
    for event in events:
        if isinstance(event, CommandApplied) and event.command_id == command.id:
            _print_answer(event)
            return events
        if event is None and time.monotonic() > deadline:
            break
    say("asked; the worker has not answered yet (it may still be starting): cifartui show tells.")
    return iter(())


def _events(run: RunDir) -> Iterator[AnyEvent | None]:
    """Yield what the journal tells, and None whenever that is all so far, for as long as the worker lives."""
    journal = event_reader(run.events)
    while True:
        lives = run.worker_lives()  # looked at before reading: what a worker writes last is not missed
        yield from journal.read()
        if lives is False:
            return
        yield None
        time.sleep(_LOOK_EVERY_S)


def _print_answer(event: CommandApplied) -> None:
    if not event.accepted:
        raise CifartuiError(f"{event.effect}.")
    say(f"step {event.global_step:,}: {event.effect}")


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
save = _asking("save", commands.SaveCheckpoint, "Write a checkpoint now.")
abort = _asking("abort", commands.Abort, "End at once, without validation or test.")


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("factor", type=float)
@with_places
@click.pass_context
def lr(ctx: click.Context, run: str, factor: float) -> None:
    """Multiply the learning rate by FACTOR, such as 0.5 or 2, now and for what the schedule makes of it."""
    if not 0 < factor <= commands.LARGEST_FACTOR:  # JSON has no NaN and no infinity: they would never arrive
        raise CifartuiError(f"FACTOR must be above 0 and at most {commands.LARGEST_FACTOR:g}, not {factor:g}.")
    _ask(find_run(places(ctx).runs_dir, run), commands.ScaleLearningRate(factor=factor))


@click.command()
@click.argument("name", metavar="RUN")
@with_places
@click.pass_context
def validate(ctx: click.Context, name: str) -> None:
    """Measure the validation set now; training waits for it, and is not changed by it."""
    for event in _ask(find_run(places(ctx).runs_dir, name), commands.Validate()):
        if isinstance(event, Validated | EpochCompleted | RunFinished):  # the last two where a stop came in between
            say(run_text.event(event)[0])
            return
