"""A run as plain text: a line an epoch, a live line, or the events themselves. For terminals and for logs.

Reads the journal as any viewer does; leaving it never touches the training.
"""

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from engine.runs import commands, events
from engine.runs.folder import RunFolder, status_of
from engine.runs.journal import append_command, event_reader
from engine.runs.state import RunState, apply
from tui import format as fmt
from tui import words

Output: TypeAlias = Literal["auto", "live", "lines", "json", "quiet"]
_LOOK_EVERY_S = 0.2
_INTERRUPTED = 130
_TOLD = (
    events.RunStarted
    | events.DataReady
    | events.ModelBuilt
    | events.CommandApplied
    | events.Validated
    | events.Alerted
    | events.RunFinished
)


class _Interrupts:
    """Counts Ctrl-C and SIGTERM: the first asks the run to stop, the second leaves it alone and returns."""

    def __init__(self) -> None:
        self.count = 0
        self.wake = threading.Event()
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.count += 1
        self.wake.set()

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def follow(run: RunFolder, output: Output) -> int:
    """Print a run until it ends; return 0, 1 where it failed or was lost, 130 where the user interrupted.

    Only events from now on are printed, so a resumed run does not repeat itself.
    """
    show = _printer(output)
    interrupts = _Interrupts()
    reader = event_reader(run.events)
    state = RunState()
    asked = False
    try:
        while True:
            lives = run.worker_lives()  # looked at before reading: what a dying worker wrote last is not missed
            for event in reader.read():
                apply(state, event)
                show(event, state)
            if state.finished is not None and lives is not True:
                return _INTERRUPTED if asked else int(state.phase in {"failed", "aborted"})
            if status_of(state, lives, time.time()) == "lost":
                print(_lost(run), file=sys.stderr)
                return 1
            if interrupts.count >= 2:
                print(f"\nTraining goes on; watch it with: cifartui attach {run.id}", file=sys.stderr)
                return _INTERRUPTED
            if interrupts.count == 1 and not asked:
                asked = True
                append_command(run.commands, commands.Stop())
                print("\nAsked to stop after this batch; Ctrl-C again leaves it training.", file=sys.stderr)
            interrupts.wake.wait(_LOOK_EVERY_S)
            interrupts.wake.clear()
    finally:
        interrupts.restore()


def _lost(run: RunFolder) -> str:
    return (
        f"The worker of {run.id} is gone without a last word (killed, or out of memory?); {run.log} may say why. "
        f"Go on from the last checkpoint with: cifartui resume {run.id}"
    )


def _printer(output: Output) -> Callable[[events.AnyEvent, RunState], None]:
    if output == "auto":
        output = "live" if sys.stdout.isatty() else "lines"
    if output == "json":
        return lambda event, _state: print(msgspec.json.encode(event).decode(), flush=True)
    if output == "quiet":
        return lambda _event, _state: None
    return _print_live if output == "live" else _print_line


def _print_line(event: events.AnyEvent, state: RunState) -> None:
    if line := describe(event, state):
        print(line, flush=True)


def _print_live(event: events.AnyEvent, state: RunState) -> None:
    """Keep one line up to date below the lines that stay."""
    columns = shutil.get_terminal_size().columns - 1
    clear = "\r" + " " * columns + "\r"
    if line := describe(event, state):
        print(clear + line, flush=True)
    if now := _now(event, state):
        print(clear + now[:columns], end="", flush=True)


def _now(event: events.AnyEvent, state: RunState) -> str:
    """Return the live line, where this event changes it."""
    if isinstance(event, events.DataProgressed):
        return words.progress(event)
    if isinstance(event, events.EvaluationProgressed):
        return f"{state.phase}  {event.done:,} of {event.total:,} images"
    if isinstance(event, events.StepsTrained) and state.stage is not None:
        return (
            f"epoch {event.epoch}/{state.total_epochs}  batch {event.step:,}/{state.stage.steps_per_epoch:,}"
            f"  loss {fmt.loss(event.loss)}  {fmt.percent(event.top1)}"
            f"  {fmt.count(state.images_per_s)} images/s  {fmt.duration(state.eta_s)} left"
        )
    return ""


def describe(event: events.AnyEvent, state: RunState) -> str:
    """Return an event as a line for a log, or "" for those that are not worth one."""
    if isinstance(event, events.EpochCompleted):
        return _epoch_line(event, state)
    return words.event(event)[0] if isinstance(event, _TOLD) else ""


def _epoch_line(event: events.EpochCompleted, state: RunState) -> str:
    part = " (part)" if event.partial else ""
    return (
        f"epoch {event.epoch:>4}/{state.total_epochs}{part}"
        f"  train {fmt.loss(event.train_loss)} {fmt.percent(event.train_top1):>6}"
        f"  val {fmt.loss(event.val_loss)} {fmt.percent(event.val_top1):>6}"
        f"  lr {fmt.lr(event.lr)}  {fmt.duration(event.seconds)}"
        f"  {fmt.count(state.images_per_s)} images/s{'  best' if event.is_best else ''}"
    )
