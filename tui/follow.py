"""Follows one run for the Monitor: reads its journal in a thread, and hands on what it finds as messages.

Knows files and time; knows nothing of widgets. A first, perhaps huge, history is folded here, before
anybody else has the state; from then on only new events are handed over, and the state is never touched here again.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from textual.message import Message

from engine import files
from engine.journal.events import AnyEvent, RunStarted
from engine.journal.state import RunState
from engine.runs.run_dir import RunFolder, RunInfo
from presets.errors import CifartuiError
from tui.history import History, go_on_from, read

POLL_S = 0.25
_EVENTS_A_MESSAGE = 2000
_LOG_LINES = 12
_LOG_BYTES = 16_384


@dataclass
class RunOpened(Message):
    """The history of a run, folded. The receiver owns `state` from now on."""

    info: RunInfo
    state: RunState
    lives: bool | None
    log_tail: tuple[str, ...]


@dataclass
class RunUnreadable(Message):
    """The run cannot be shown, and why."""

    problem: str


@dataclass
class RunProgressed(Message):
    """What is new: events in order (often none), whether the worker lives, and its last words where it does not.

    `info` is what the run is now, where a resume may have changed it.
    """

    events: list[AnyEvent]
    lives: bool | None
    log_tail: tuple[str, ...]
    info: RunInfo | None = None


def follow_run(
    run: RunFolder,
    post: Callable[[Message], object],
    stop: threading.Event,
    ahead: Callable[[], History | None] | None = None,
) -> None:
    """Post one RunOpened (or RunUnreadable), then a RunProgressed every `POLL_S` with something new, until `stop`.

    Args:
        run: to follow.
        post: given the messages.
        stop: ends this.
        ahead: waits for the history, where somebody else reads it already (`tui.history.read_ahead`).
    """
    history = ahead() if ahead is not None else None  # first: whatever happens here, the helper is waited for
    try:
        info = run.read_info()
        state, reader = read(run) if history is None else go_on_from(run, history)
        told = _life(run)
    except CifartuiError as error:
        post(RunUnreadable(str(error)))
        return
    except OSError as error:
        post(RunUnreadable(f"{run.events} cannot be read ({error.strerror}); is its disk gone?"))
        return
    post(RunOpened(info, state, *told))
    while not stop.wait(POLL_S):
        life, events = told, list[AnyEvent]()
        with suppress(OSError):  # a shared disk that is away for a while: the next round tries again
            found = _life(run)  # before reading: the last words of a worker that ends now are not missed
            for batch in reader.batches():
                events += batch
            life = found  # not believed of a run that cannot be read
        if run.is_gone():
            post(RunUnreadable(f"Run {run.id} is gone: {run.path} was deleted or moved while it was shown."))
            return
        if not events and life == told:
            continue
        told = life
        changed = _changed_info(run, events)
        for start in range(0, max(1, len(events)), _EVENTS_A_MESSAGE):
            post(RunProgressed(events[start : start + _EVENTS_A_MESSAGE], *life, changed))


def _changed_info(run: RunFolder, events: list[AnyEvent]) -> RunInfo | None:
    if any(isinstance(event, RunStarted) and event.changes for event in events):
        with suppress(CifartuiError):
            return run.read_info()
    return None


def _life(run: RunFolder) -> tuple[bool | None, tuple[str, ...]]:
    lives = run.worker_lives()
    return lives, () if lives else _tail(run.log)


def _tail(path: Path) -> tuple[str, ...]:
    """Return the last lines of a text file, printable characters only; an absent file has none."""
    try:
        text = files.read(path, last=_LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ()
    lines = ["".join(char for char in line.expandtabs() if char.isprintable()).rstrip() for line in text.splitlines()]
    return tuple([line for line in lines if line][-_LOG_LINES:])
