"""Follower of one run for the Monitor: reads its journal in a thread, posts messages.

A helper process folds a long history while this process still imports the dashboard.
"""

import os
import pickle
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from textual.message import Message

from engine import files
from engine.journal import fold_file, jsonl
from engine.journal.events import AnyEvent, RunStarted
from engine.journal.state import RunState
from engine.runs.newer_info import read_shown
from engine.runs.run_dir import RunDir, RunInfo
from presets.errors import CifartuiError
from tui.data.reference import report_of

_WORTH_A_HELPER_BYTES = 8_000_000
"""From this size on a helper saves more than it costs."""

History: TypeAlias = tuple[RunState, int]
"""State folded from the journal, and the offset in bytes up to which it was read."""
Life: TypeAlias = tuple[bool | None, tuple[str, ...]]
"""True if a worker is alive (None: that cannot be seen from here), and the tail of its log if it is not."""


def go_on_from(run: RunDir, history: History) -> tuple[RunState, jsonl.LineReader[AnyEvent]]:
    """Return the state of a history and the reader for what follows."""
    state, offset = history
    reader = jsonl.event_reader(run.events)
    reader.skip_to(offset)
    return state, reader


def read_ahead(run: RunDir) -> Callable[[], History | None] | None:
    """Let a helper process fold a long journal; return a function that waits for the result, to be called once.

    Call it before there are threads: the helper is a fork. Returns None if the journal is short; the function
    returns None if the helper failed. In both cases the journal must be read here.
    """
    try:
        is_long = fold_file.unfolded_bytes(run.events) >= _WORTH_A_HELPER_BYTES
    except OSError:
        is_long = False
    if not is_long:
        return None
    readable, writable = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(readable)  # else it would wait for itself to read on, once this process is gone
        _send(run, writable)
    os.close(writable)

    def wait() -> History | None:
        with os.fdopen(readable, "rb") as pipe:
            sent = pipe.read()
        os.waitpid(helper, 0)
        try:
            history: History = pickle.loads(sent)  # written by the fork of this very process
        except (pickle.UnpicklingError, EOFError):
            return None
        return history

    return wait


def _send(run: RunDir, writable: int) -> None:
    """Do the helper's work, and end it whatever happens."""
    try:
        state, reader = fold_file.read_folded(run.events)
        with os.fdopen(writable, "wb") as pipe:
            pickle.dump((state, reader.offset), pipe, protocol=pickle.HIGHEST_PROTOCOL)
    finally:
        os._exit(0)


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
    """New events in order (often none), whether the worker is alive, and the tail of its log if it is not.

    `info` is run.json as it is now, if a resume may have changed it.
    """

    events: list[AnyEvent]
    lives: bool | None
    log_tail: tuple[str, ...]
    info: RunInfo | None = None


def follow_run(
    run: RunDir,
    post: Callable[[Message], object],
    stop: threading.Event,
    ahead: Callable[[], History | None] | None = None,
) -> None:
    """Post one RunOpened (or RunUnreadable), then a RunProgressed every `POLL_S` with something new, until `stop`.

    Args:
        run: to follow.
        post: given the messages.
        stop: ends this.
        ahead: waits for the history, where somebody else reads it already (`tui.data.follower.read_ahead`).
    """
    history = ahead() if ahead is not None else None  # first: whatever happens here, the helper is waited for
    try:
        info = read_shown(run)
        state, reader = fold_file.read_folded(run.events) if history is None else go_on_from(run, history)
        posted = life_of(run)
        report_of(info)  # may read the preset's file, which the dashboard's thread need not then
    except CifartuiError as error:
        post(RunUnreadable(str(error)))
        return
    except OSError as error:
        post(RunUnreadable(f"{run.events} cannot be read ({error.strerror}); is its disk gone?"))
        return
    post(RunOpened(info, state, *posted))
    while not stop.wait(POLL_S):
        life, events = posted, list[AnyEvent]()
        with suppress(OSError):  # a shared disk that is away for a while: the next round tries again
            found = life_of(run)  # before reading: the last words of a worker that ends now are not missed
            for batch in reader.batches():
                events += batch
            life = found  # not believed of a run that cannot be read
        if run.is_gone():
            post(RunUnreadable(f"Run {run.id} is gone: {run.path} was deleted or moved while it was shown."))
            return
        if not events and life == posted:
            continue
        posted = life
        changed = _changed_info(run, events)
        for start in range(0, max(1, len(events)), _EVENTS_A_MESSAGE):
            post(RunProgressed(events[start : start + _EVENTS_A_MESSAGE], *life, changed))


def _changed_info(run: RunDir, events: list[AnyEvent]) -> RunInfo | None:
    if any(isinstance(event, RunStarted) and event.changes for event in events):
        with suppress(CifartuiError):
            return read_shown(run)
    return None


def life_of(run: RunDir) -> Life:
    """Return whether the worker of a run is alive, and the tail of its log if it is not."""
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
