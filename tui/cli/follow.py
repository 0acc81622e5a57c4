"""Plain output of a run: a live line, a line an epoch, or the events themselves. For terminals and log files."""

import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TextIO, TypeAlias

import msgspec
from rich.cells import cell_len

from engine.files import is_locked
from engine.journal import commands, events
from engine.journal.eta import time_left
from engine.journal.jsonl import LineReader, append_command, event_reader
from engine.journal.state import RunState, apply
from engine.runs.newer_info import read_shown
from engine.runs.run_dir import STALLED_AFTER_S, RunDir, Status, status_of
from engine.runs.start import hurry_worker
from presets.safe_text import visible, visible_json
from tui import format as fmt
from tui.cli.interrupts import HUNG_UP, INTERRUPTED, NOBODY_READS, TERMINATED, Interrupts
from tui.cli.live_line import LiveLine
from tui.terminal.streams import ascii_only, can_draw, in_ascii, one_line
from tui.text import run_text

Output: TypeAlias = Literal["auto", "live", "lines", "json", "quiet"]
_LOOK_EVERY_S = 0.2
_WORD_WITHIN_S = 35.0
"""A server that hangs is given up after 30 s."""

_ASKED = "Asked to stop after this batch; Ctrl-C again does not wait for it."
_ASKED_BY_SIGTERM = "SIGTERM: asked to stop after this batch, to save, and to test the best weights."

_HURRIED = "SIGTERM again: asked to end without validation and test."
_NOT_HURRIED = (
    "SIGTERM again: its worker is not on this machine, or cannot be told from other processes; it stops as asked."
)


class _Unwritable(Exception):
    """Standard output is closed; the message is the reason."""


class _Printer:
    """Base of the outputs; prints nothing, which is the output `quiet`."""

    def __enter__(self) -> "_Printer":
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave standard output as it was."""

    def event(self, event: events.AnyEvent, state: RunState) -> None:
        """Tell what happened; `state` knows of it already."""

    def show_state(self, state: RunState, status: Status, now: float) -> None:
        """Tell how the run stands, five times a second; `now` is Unix seconds."""

    def say(self, text: str) -> None:
        """Say something that is not of the run, on standard error."""
        start = "\n" if sys.stderr.isatty() else ""  # behind a ^C on a terminal
        print(f"{start}{visible(text)}", file=sys.stderr, flush=True)


class _Json(_Printer):
    def event(self, event: events.AnyEvent, state: RunState) -> None:
        print(visible_json(msgspec.json.encode(event).decode()), flush=True)


class _Lines(_Printer):
    def __init__(self) -> None:
        self._ascii = ascii_only(sys.stdout)

    def event(self, event: events.AnyEvent, state: RunState) -> None:
        if line := describe(event, state):
            print(in_ascii(line) if self._ascii else line, flush=True)


class _Live(_Printer):
    """Lines that stay, and below them one that is kept up to date."""

    def __init__(self, wake: threading.Event) -> None:
        self._line = LiveLine(sys.stdout, wake.set)
        self._ascii = ascii_only(sys.stdout)

    def __enter__(self) -> "_Live":
        self._line.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._line.__exit__(*exc)  # type: ignore[arg-type]

    def event(self, event: events.AnyEvent, state: RunState) -> None:
        if isinstance(event, events.EpochCompleted):
            self._keep(fitted(epoch_fields(event, state), self._line.columns))
        elif line := describe(event, state):
            self._keep(line)

    def _keep(self, line: str) -> None:
        rows = textwrap.wrap(line, self._line.columns, subsequent_indent="    ", break_on_hyphens=False)
        kept = "\n".join(rows)
        self._line.keep(in_ascii(kept) if self._ascii else kept)

    def show_state(self, state: RunState, status: Status, now: float) -> None:
        self._line.show(lambda columns: live(state, status, now, columns, ascii_only=self._ascii))

    def say(self, text: str) -> None:
        self._line.clear()
        print(visible(text), file=sys.stderr, flush=True)


class _Labelled(_Live):
    """Only the line that is kept up to date, behind a label: of a run that is one of many."""

    def __init__(self, wake: threading.Event, label: str) -> None:
        super().__init__(wake)
        self._label = label

    def event(self, event: events.AnyEvent, state: RunState) -> None:
        """Tell nothing: what the run comes to is said behind its end."""

    def show_state(self, state: RunState, status: Status, now: float) -> None:
        room = len(self._label) + len(_GAP)
        self._line.show(
            lambda columns: f"{self._label}{_GAP}{live(state, status, now, columns - room, ascii_only=self._ascii)}"
        )


Known: TypeAlias = tuple[RunState, LineReader[events.AnyEvent]]
"""State of a run before it is gone on with, and the reader for what follows."""


def follow(
    run: RunDir,
    output: Output,
    interrupts: Interrupts,
    known: Known | None = None,
    *,
    label: str = "",
    watch: Callable[[events.AnyEvent], object] | None = None,
) -> int:
    """Print a run until it ends; return 0, 1 if it failed or was lost, 130 if the user interrupted.

    The first Ctrl-C stops the run, the second returns without waiting for that; two that come before it is asked to
    stop let it train on. SIGTERM stops it too, and the second one ends it without validation and test: its sender,
    mostly a scheduler, wants the machine. A hang-up only ends the watching.

    143 means that SIGTERM stopped the run, which can be resumed; 129 that the terminal hung up, 141 that the output
    is closed: the run trains on after both.
    What is `known` is not printed, so a resumed run does not repeat itself.

    Args:
        run: the run.
        output: of what is printed.
        interrupts: signals to this command.
        known: of the run before.
        label: of a run that is one of many: nothing is printed but the live line, behind it.
        watch: called with every event.
    """
    try:
        with _printer(output, interrupts.wake, label) as printer:
            code = _follow(run, printer, interrupts, known, watch)
        if code in {0, 1, TERMINATED}:
            _wait_for_word(run, interrupts)
        return code
    except _Unwritable as error:
        _drop(sys.stdout)
        return _leave(str(error), run, HUNG_UP if interrupts.hung_up else NOBODY_READS)


def _wait_for_word(run: RunDir, interrupts: Interrupts) -> None:
    """Wait until the watcher of a run has told that it ended: with this process, a job or a container may end."""
    deadline = time.monotonic() + _WORD_WITHIN_S
    interrupts.wake.clear()
    while is_locked(run.notified) and time.monotonic() < deadline:
        if interrupts.wake.wait(_LOOK_EVERY_S):
            return


def _follow(
    run: RunDir,
    printer: _Printer,
    interrupts: Interrupts,
    known: Known | None,
    watch: Callable[[events.AnyEvent], object] | None,
) -> int:
    state, reader = known or (RunState(), event_reader(run.events))
    num_read, asked, second_signal, heard = 0, False, False, time.monotonic()
    while True:
        lives = run.worker_lives()  # checked before reading: what a dying worker wrote last is not missed
        new = reader.read()
        with _writing():
            for event in new:
                num_read, heard = num_read + 1, time.monotonic()
                apply(state, event)
                printer.event(event, state)
                if watch is not None:
                    watch(event)
        heard_s = time.monotonic() - heard
        is_known = num_read > 0 or heard_s > STALLED_AFTER_S  # else what is read was written by a worker before
        if state.finished is not None and (lives is False or (lives is None and is_known)):
            return _exit_code(state, interrupts)
        is_told = lives is False or (is_known if lives is None else num_read > 0)
        status = status_of(state, lives, time.time(), heard_s) if is_told else "starting"
        if status == "lost":
            printer.say(_lost(run, state))
            return 1
        if interrupts.hung_up:
            return _leave("The terminal hung up", run, HUNG_UP)
        if interrupts.num_interrupts >= 2:
            way = "It stops after this batch" if asked else "Training goes on"
            printer.say(f"{way}; watch it with: cifartui attach {run.id}")
            return INTERRUPTED
        if interrupts.num_interrupts + interrupts.num_terminations and not asked:
            asked = True
            append_command(run.commands, commands.Stop())
            printer.say(_ASKED_BY_SIGTERM if interrupts.num_terminations else _ASKED)
        if interrupts.num_terminations >= 2 and not second_signal:
            second_signal = True
            printer.say(_HURRIED if hurry_worker(run) else _NOT_HURRIED)
        with _writing():
            printer.show_state(state, status, time.time())
        interrupts.wake.wait(_LOOK_EVERY_S)
        interrupts.wake.clear()


def _exit_code(state: RunState, interrupts: Interrupts) -> int:
    """Return the code for a run that ended; a signal counts only if the run ended because of it."""
    if state.phase != "stopped":
        return int(state.phase in {"failed", "aborted"})
    if interrupts.num_terminations:
        return TERMINATED
    return INTERRUPTED if interrupts.num_interrupts else 0


@contextmanager
def _writing() -> Iterator[None]:
    """Tell what standard output cannot take from every other failure: it ends the watching, not the training."""
    try:
        yield
    except BrokenPipeError as error:
        raise _Unwritable("Nobody reads the output any more") from error
    except OSError as error:
        raise _Unwritable(f"The output cannot be written ({error.strerror})") from error


def _leave(why: str, run: RunDir, code: int) -> int:
    """Print, if the output still takes it, that only the watching ends."""
    try:
        text = f"{why}; training goes on. Watch it with: cifartui attach {run.id}"
        print(visible(text), file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)
    return code


def _drop(stream: TextIO) -> None:
    """Let what is still to be written to a broken stream go nowhere, or Python would complain of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _lost(run: RunDir, state: RunState) -> str:
    if run.is_gone() or not run.lock.exists():  # the latter while it is being deleted
        return f"Run {run.id} is gone: {run.path} was deleted or moved, and its worker ends with it."
    text = f"Run {run.id} is lost: {run_text.lost(run_text.place(state), str(run.log))}."
    return f"{text} To {run_text.way_on(read_shown(run), state)}"


def _printer(output: Output, wake: threading.Event, label: str) -> _Printer:
    if output in {"auto", "live"}:
        output = "live" if can_draw(sys.stdout) else "lines"
    if label:
        return _Labelled(wake, label) if output == "live" else _Printer()
    printers: dict[Output, Callable[[], _Printer]] = {
        "live": lambda: _Live(wake), "lines": _Lines, "json": _Json, "quiet": _Printer,
    }  # fmt: skip
    return printers[output]()


_GAP = "  "
_LEAST_BAR, _MOST_BAR = 8, 24


def describe(event: events.AnyEvent, state: RunState) -> str:
    """Return an event as a line for a log, or "" for those that are not worth one."""
    if isinstance(event, events.EpochCompleted):
        return _GAP.join(epoch_fields(event, state)).rstrip()
    if isinstance(event, events.StageStarted) and event.num_stages == 1:
        return ""
    return one_line(run_text.event(event)[0]) if event.logged else ""


def epoch_fields(event: events.EpochCompleted, state: RunState) -> list[str]:
    """Return the fields of an epoch, the most important first, each as wide in every line."""
    total = str(state.total_epochs)
    fields = [
        f"epoch {event.epoch:>{len(total)}}/{total}{' (part)' if event.partial else ''}",
        f"train {fmt.loss(event.train_loss)} {fmt.percent(event.train_top1):>6}",
        f"val {fmt.loss(event.val_loss)} {fmt.accuracy(event.val_top1, event.val_balanced):>6}",
        "best" if event.is_best else "    ",
        f"{fmt.duration(event.seconds):>10}",
        f"lr {fmt.lr(event.lr):<7}",
    ]
    if state.images_per_s is not None:
        fields.append(f"{fmt.count(state.images_per_s):>7} images/s")
    return fields


def fitted(fields: Sequence[str], columns: int) -> str:
    """Return the first fields that fit into so many columns, each whole; nothing of the first that does not fit."""
    line = ""
    for field in fields:
        longer = f"{line}{_GAP}{field}" if line else field
        if cell_len(longer) > columns:
            break
        line = longer
    return line


def live(state: RunState, status: Status, now: float, columns: int, *, ascii_only: bool) -> str:
    """Return how a run stands in at most so many columns; `now` is Unix seconds."""
    fraction, fields = _progress_fields(state, status, now)
    fields = [one_line(field) for field in fields]
    if fraction is None:
        return fitted(fields, columns)
    room = max(_LEAST_BAR, min(_MOST_BAR, columns // 5))
    bar = "".join(fmt.bar(fraction, room, "=." if ascii_only else "━─"))
    head = f"{bar} {100 * fraction:3.0f} %"
    return fitted([head, *fields], columns)


def _progress_fields(state: RunState, status: Status, now: float) -> tuple[float | None, list[str]]:
    """Return the fraction done, if there is one, and the fields beside it, the most important first."""
    heading = run_text.status(status, state)
    if status == "starting":
        return None, [heading, run_text.LOADING]
    if status == "data" and state.data_progress is not None:
        progress = state.data_progress
        done = progress.done / progress.total if progress.total > 0 else None
        return done, [run_text.progress(progress)]
    if state.stage is None or state.is_finished:
        return None, [heading]
    fields = [] if status == "training" and heading == "training" else [heading]
    fields.append(f"epoch {state.epoch}/{state.total_epochs}")
    if state.evaluation is not None:
        fields.append(f"{fmt.count(state.evaluation.done)}/{fmt.count(state.evaluation.total)} images")
    elif status == "paused":
        fields.append("go on with: cifartui continue")
    elif status == "stalled" and state.last_time is not None:
        fields.append(f"nothing heard for {fmt.duration(now - state.last_time)}")
    else:
        total = fmt.count(max(1, state.stage.steps_per_epoch))
        fields.append(f"batch {fmt.count(state.step):>{len(total)}}/{total}")
    return state.share_done, [*fields, *_measured(state, status)]


def _measured(state: RunState, status: Status) -> list[str]:
    fields = []
    if left := run_text.time_left(status, time_left(state)):
        fields.append(f"{left} left")
    if state.steps:
        last = state.steps[-1]
        fields.append(f"train {fmt.loss(last.loss)} {fmt.percent(last.top1):>6}")
    if state.best is not None:
        fields.append(f"best val {fmt.accuracy(state.best.val_top1, state.best.val_balanced)}")
    if state.images_per_s is not None:
        fields.append(f"{fmt.count(state.images_per_s)} images/s")
    return fields
