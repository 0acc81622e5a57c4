"""A run's history, folded: here, or by a helper process while this one still imports the dashboard.

Half a million reports take half a second to fold, which `cifartui attach` has anyway until Textual is there,
on another core. Knows journals; knows nothing of widgets.
"""

import os
import pickle
from collections.abc import Callable
from typing import TypeAlias

from engine.journal import jsonl
from engine.journal.events import AnyEvent
from engine.journal.state import RunState, fold
from engine.runs.run_dir import RunFolder

_WORTH_A_HELPER_BYTES = 8_000_000
"""From here on a helper saves more than it costs."""

History: TypeAlias = tuple[RunState, int]
"""What the journal adds up to, up to this byte of it."""


def read(run: RunFolder) -> tuple[RunState, jsonl.LineReader[AnyEvent]]:
    """Return what a run's journal adds up to, and the reader to go on with."""
    reader, state = jsonl.event_reader(run.events), RunState()
    for batch in reader.batches():
        fold(batch, state)
    return state, reader


def go_on_from(run: RunFolder, history: History) -> tuple[RunState, jsonl.LineReader[AnyEvent]]:
    """Return a history and the reader to go on with."""
    state, offset = history
    reader = jsonl.event_reader(run.events)
    reader.skip_to(offset)
    return state, reader


def read_ahead(run: RunFolder) -> Callable[[], History | None] | None:
    """Let a helper read the history of a long run from now on; return how to wait for it, which is done once.

    Call it before there are threads: the helper is a fork. None is returned for a run that is not long, and
    by waiting where the helper failed; then it must be read here.
    """
    try:
        is_long = run.events.stat().st_size >= _WORTH_A_HELPER_BYTES
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


def _send(run: RunFolder, writable: int) -> None:
    """Do the helper's work, and end it whatever happens."""
    try:
        state, reader = read(run)
        with os.fdopen(writable, "wb") as pipe:
            pickle.dump((state, reader.offset), pipe, protocol=pickle.HIGHEST_PROTOCOL)
    finally:
        os._exit(0)
