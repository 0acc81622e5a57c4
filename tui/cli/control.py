"""Commands `stop`, `next`, `pause`, `continue`, `save`, `validate`, `lr` and `abort`: send one, wait for the answer."""

import time
from collections.abc import Callable, Iterator

import click

from engine.journal import commands
from engine.journal.events import AnyEvent, CommandApplied, EpochCompleted, RunFinished, Validated
from engine.journal.jsonl import LineReader, append_command, event_reader
from engine.runs.find_run import find_run
from engine.runs.newer_info import read_shown
from engine.runs.run_dir import RunDir
from presets.errors import CifartuiError
from tui.cli.hosts import give, remote
from tui.cli.options import places, with_places
from tui.cli.output import say
from tui.text import run_text

_PATIENCE_S = 10.0
_LOOK_EVERY_S = 0.05


def _give(ctx: click.Context, name: str, command: commands.AnyCommand) -> Iterator[AnyEvent | None]:
    """Send the command to a run of this machine or, as HOST:RUN, of another one; see `_send`."""
    with remote(name) as elsewhere:
        if elsewhere is None:
            return _send(find_run(places(ctx).runs_dir, name), command)
        give(elsewhere, command)
        return iter(())


def _send(run: RunDir, command: commands.AnyCommand) -> Iterator[AnyEvent | None]:
    """Write the command, print its acknowledgement if one arrives in time, and return the events after it."""
    if run.worker_lives() is False:
        raise CifartuiError(run_text.no_worker(read_shown(run), run.read_state()))
    journal = event_reader(run.events)
    journal.skip_to_end()
    events = _events(run, journal)
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


def _events(run: RunDir, journal: LineReader[AnyEvent]) -> Iterator[AnyEvent | None]:
    """Yield what comes into the journal, and None whenever all is read, until the worker ends."""
    while True:
        lives = run.worker_lives()  # checked before reading: what a worker writes last is not missed
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
    _give(ctx, name, commands.Stop(after="epoch" if after == "epoch" else "batch"))


def _simple_command(name: str, command: Callable[[], commands.AnyCommand], text: str) -> click.Command:
    """Return the command `cifartui NAME RUN`, which sends `command()` to a run."""

    @click.command(name, help=text)
    @click.argument("run", metavar="RUN")
    @with_places
    @click.pass_context
    def ask(ctx: click.Context, run: str) -> None:
        _give(ctx, run, command())

    return ask


next_ = _simple_command("next", commands.NextStage, "End this stage after this batch, and begin the next one.")
pause = _simple_command("pause", commands.Pause, "Let training stand still, everything kept in memory.")
continue_ = _simple_command("continue", commands.Continue, "Go on after a pause, or take a stop after this epoch back.")
save = _simple_command("save", commands.SaveCheckpoint, "Write a checkpoint now.")
abort = _simple_command("abort", commands.Abort, "End at once, without validation or test.")


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("factor", type=float)
@with_places
@click.pass_context
def lr(ctx: click.Context, run: str, factor: float) -> None:
    """Multiply the learning rate by FACTOR, such as 0.5 or 2, now and for what the schedule makes of it."""
    if not 0 < factor <= commands.LARGEST_FACTOR:  # JSON has no NaN and no infinity: they would never arrive
        raise CifartuiError(f"FACTOR must be above 0 and at most {commands.LARGEST_FACTOR:g}, not {factor:g}.")
    _give(ctx, run, commands.ScaleLearningRate(factor=factor))


@click.command()
@click.argument("name", metavar="RUN")
@with_places
@click.pass_context
def validate(ctx: click.Context, name: str) -> None:
    """Measure the validation set now; training waits for it, and is not changed by it."""
    for event in _give(ctx, name, commands.Validate()):
        if isinstance(event, Validated | EpochCompleted | RunFinished):  # the last two where a stop came in between
            say(run_text.event(event)[0])
            return
